"""Pictures: heat maps, plots, contact sheets, videos side by side. Plain arrays in, files out.

    plot.py            surprise over time; begin here
    heat.py            heat maps over frames
    map_video.py       a video beside its heat map
    contact_sheet.py   candidates in rows
    side_by_side.py    videos next to each other
    guidance_plot.py   what guidance did
    text.py            words in pictures
    colors.py          what all of them look like
    extra.py           says which extra is missing

May import `video` and the root's files; knows nothing of models.
"""
