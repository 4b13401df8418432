"""Is a video file whole? Answered from the container alone, without decoding a picture.

scan.py         walks the packets and joins all evidence; begin here
structure.py    which walk fits a file, and what walks find
boxes.py        MP4 and MOV, AVI, GIF, FLV, WMV, Y4M, and pictures: what their own sizes say
matroska.py     Matroska and WebM: sizes and checksums
slices.py       MPEG-1 and MPEG-2 pictures that lack their last rows
cropping.py     what a container hides of its frames
broadcast.py    MPEG transport and programme streams, Ogg: packets one after the other

Only `wmreward.video` imports it.
"""
