"""Everything that is about HTTP and not about one path.

`middleware` runs every request: `admission` checks it, `cors` and `problems` shape its answer, `recording` logs and
counts it. Handlers of several rooms use `authentication`, `same_origin`, `json_body`, `request_target`, `sending` and
`connection_reset`.

Rules of HTTP that need neither a request nor a connection live in `semantics`. Internals of aiohttp's server are
the business of `http_server`.
"""
