"""The report of a batch run: one HTML page that opens from disk.

run_data.py     the run's folder in the terms of the report
numbers.py      means, intervals and what choosing among more candidates brings
surprise.py     surprise curves and heat maps of shown candidates that have none yet
posters.py      a small still of each shown video
page_data.py    what the page's script reads: candidates, curves, posters
charts.py       drawings (SVG)
page.py         the page
page.css, page.js

wmreward report RUN
"""
