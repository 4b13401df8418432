"""MAGI-1 inference: a chunk-wise autoregressive video diffusion transformer, its VAE, text and sampler."""
