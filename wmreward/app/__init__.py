"""The page to try it, `wmreward app`: drop clips, see their surprise; generate, plain beside guided.

    cli.py         the command; begin here
    server.py      the page on 127.0.0.1, and nothing asked of any network
    page.py        the page: what is where, and which button does what
    words.py       its sentences and tables, as HTML
    style.css      how they look
    scoring.py     clips → surprise, curve, map, ranking
    generating.py  a wish → the plain video beside the guided one
    models.py      the world models that can be chosen here
    limits.py      what may be uploaded

Only `page.py` and `server.py` know Gradio, from the extra ``app``; the rest are plain functions. No other
room may import this one.
"""
