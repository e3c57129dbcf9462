"""The handlers: each takes a request apart, asks the layers below, and writes the answer.

- `media/` answers signed links: what a link grants, its headers, its bytes, and the page that shows an error.
- `api/` answers under the providers' own paths, in the providers' own shapes.
- `admin/` changes something for a gateway client: it mints links, purges and revokes.
- `operations/` answers an operator's tools: health and metrics.
- `console/` is the page that shows recent messages.
- `http/` holds what every request goes through, and the rules of HTTP that handlers of several rooms share.
- `services/` holds what the composition root hands to the handlers.
- `exchange` holds the facts about one request.

A room imports those below it alone: `console` and `api`, then `admin`, `media` and `operations`, then `http`, then
`services`, then `exchange`. Rules of caching, of links and of HTTP semantics are decided below `web`: in `cache`,
`links` and `semantics`.
"""
