"""Changes that a gateway client asks for: minting links, and purging or revoking media.

`references` reads which media a request is about. `mint_request` and `webhook` read the two forms of `POST /links`,
which `minting` answers. `purging` and `revoking` answer their paths; both are carried out by `invalidation`.

A deletion is asked for under the providers' own paths (`api/`), and carried out by `services.deletion`.

The rules of blocks and epochs live in `cache.invalidation`, the form of links in `links`.
"""
