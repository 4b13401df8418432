"""The diffusion transformer: a velocity for every latent voxel of the chunks in flight.

dit.py          the whole of it; begin here
layers.py       its layers
attention.py    which chunks see which, and how
rope.py         positions in time, height and width
kv_cache.py     keys and values of chunks that are finished
kernels.py      the operations that flash-attn and flashinfer do faster
fp8.py          layers in float8, as the distilled 24B stores them
offload.py      layers that wait in host memory
"""
