"""Plain and guided steps of diffusers' video pipelines at real sizes, with random weights."""
