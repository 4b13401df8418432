"""One video on several processes, a GPU each; applied to the models from outside."""
