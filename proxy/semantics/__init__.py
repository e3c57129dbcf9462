"""HTTP as pure functions: RFC 9110, 9111, 9211 and 9213 over frozen values, with `now` passed in.

Nothing here reads a clock, a socket or a file, and nothing knows a server or a cache. A rule returns a frozen decision,
which its caller matches exhaustively and carries out.

- grammar: `fields`, `directives`, `hosts`, `content_coding`, `encoded_names`, `trace_context`, `text`
- storing: `allowed_fields` (the allow-list), `stored` (may it be stored, and its metadata), `variants` (`Vary`)
- lifetimes: `freshness`; after a 304: `freshening`
- requests: `caching` decides what may be reused, stale responses included; `conditional` and `ranges` shape the answer
- fields of an answer: `cache_status`, `disposition`, `file_types`, `targeted`
- the client: `trusted_proxies`, `navigation`
"""
