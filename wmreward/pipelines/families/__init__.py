"""What differs between pipelines: a class for each family.

base.py        what a family says of itself; begin here
known.py       all families, and which one a pipeline is of
wan.py         Wan 2.1 and 2.2, SkyReels-V2
cogvideox.py   CogVideoX and CogVideoX 1.5
ltx.py         LTX-Video
others.py      HunyuanVideo, Mochi, Cosmos-Predict2
"""
