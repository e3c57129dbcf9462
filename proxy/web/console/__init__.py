"""The console: a page of recent messages with their media, and the calls that it makes.

`page` serves the files in `static/`. The page shows media through signed links, as any other page does.
"""
