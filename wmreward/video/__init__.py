"""Reading and writing videos; import from `wmreward.video_io`.

From the bottom up: `types` (what a video and a clip are), `sampling` (which frames, index and time
arithmetic), `integrity` (is the file whole?), `container` (decoding through PyAV), `images`
(folders of images), `decord_reader` (the optional second decoder), `read`, `write`, and `find`
(from command-line arguments to a list of videos).
"""
