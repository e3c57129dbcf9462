"""Signed links, and the media that they open.

A link comes from a browser (`links`), or from a proxy in front that asks whether it may serve it (`forward_auth`).
`delivery` opens the media and sends it, `headers` makes the fields of a good answer, and `error_page` the answer to an
error.

The checks of a request for a link, in their order:

1. method (405);
2. form, key and signature (403, or 429 if the sender has sent too many bad ones), beginning, address and length of
   life (403), then expiry (410): `proxy.links.verify`;
3. revoked, or it cannot be told (403);
4. account not configured, or the media is gone (404);
5. the cache, and with it the provider; then conditions (304, 412) and ranges (206, 416).

The providers' own paths, which also answer through `delivery`, live in `api/`. Links are made in `admin/`.
"""
