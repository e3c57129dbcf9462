"""The handlers: each takes a request apart, asks the layers below, and writes the answer.

- `media/` answers signed links: what a link grants, its headers, its bytes, and the page that shows an error.
- `api/` answers under the providers' own paths, in the providers' own shapes.
- `admin/` changes something for a gateway client: it mints links, purges, revokes and deletes.
- `operations/` answers an operator's tools: health and metrics.
- `console/` is the page that shows recent messages.
- `http/` holds what every request goes through, and the rules of HTTP that handlers of several rooms share.

`services` is what the composition root hands to the handlers, and `exchange` what is learnt of one request.

No rule of caching, linking or HTTP semantics is decided here: those live in `cache`, `links` and `semantics`.
"""
