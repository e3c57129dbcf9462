"""The HTTP server: connections, requests that do not come to a handler, stored files on their way out, and the drain.

This is the one place that knows internals of aiohttp's server; each module that leans on some names them. What a
request means is not decided here but in `web`, and the sockets are opened by `processes`. The express lane has its own
rules in `express`.
"""
