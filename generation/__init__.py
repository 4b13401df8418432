"""Generating videos from the command line and in batches: where generator, rewards and files meet."""
