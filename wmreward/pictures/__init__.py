"""Pictures: heat maps, plots, contact sheets, videos side by side. Plain arrays in, files out.

visualize.py       heat maps over frames, plots of surprise
contact_sheet.py   candidates in rows
side_by_side.py    videos next to each other
guidance_plot.py   what guidance did
lettering.py       labels without a font file
"""
