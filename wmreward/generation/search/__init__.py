"""Several candidates of one request, of any generator: made, judged, compared.

plan.py        one video, or several to choose from: what the flags say; begin here
run.py         candidates made, judged, the best one kept
candidate.py   making one with MAGI-1, resumed where it stopped
compared.py    plain, guided and chosen side by side, and who says which is better
"""
