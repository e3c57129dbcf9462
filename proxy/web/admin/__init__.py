"""Changes that a gateway client asks for: minting links, and purging, revoking or deleting media.

`references` reads which media a request is about. `mint_request` and `webhook` read the two forms of `POST /links`,
which `minting` answers. `purging` and `revoking` answer their paths; both are carried out by `invalidation`. `deletion`
deletes a media at the provider as well, for `api/`, which answers that request.

The rules of blocks and epochs live in `cache.invalidation`, the form of links in `links`.
"""
