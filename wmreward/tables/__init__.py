"""Tables of results and what stands in them. Knows nothing of videos; any room may import it.

layout.py   rows of text -> aligned columns, Markdown, CSV or LaTeX; begin here
mean.py     means with their intervals
"""
