"""Signed links, and the media that they open.

A link comes from a browser (`links`), or from a proxy in front that asks whether it may serve it (`forward_auth`).
`delivery` opens the media and sends it, `headers` makes the fields of a good answer, and `error_page` the answer to an
error.

The providers' own paths, which also answer through `delivery`, live in `api/`. Links are made in `admin/`.
"""
