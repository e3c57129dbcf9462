"""The client that injects credentials: they go to one configured origin, and to no other host.

`client` makes the calls, and the other modules have a rule each: `providers` knows accounts, paths and places;
`redirects` says where a walk may lead, `addresses` what may be connected to, `answers` what a status means, `retry` and
`message_waits` when to try again, `breaker` and `breakers` when to leave a host alone, `slots` how many connections an
account has. `transport` alone knows aiohttp's requests, `body` and `decoding` its bytes. `listing` reads the provider's
lists, and `cdn_purge` tells a CDN in front what was erased.

Nothing here knows the cache or the web: the cache sees an `Origin` (`proxy.origin`).
"""
