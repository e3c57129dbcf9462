"""The cache: stored responses, the fills that make them, and the engine that decides by the rules and carries it out.

`engine` is the way in: `Engine.open` answers one request with a `result`. It asks `rules`, which apply those of
`semantics` under the configured policy, looks into `tiers`, and starts or joins a fill. Media that are not there are in
`absences` for a while. A response is an `entry` and a body; `stored` is one that a tier has, and `body` and `checksum`
are about its bytes. `counters` count how requests end.

    fills/         one read of a media at its origin, for any number of readers
    ram/  disk/    the tiers of a worker and of a node
    redis/         the tier that nodes share, and the log of invalidations that they follow
    invalidation/  erasures and blocks: what may not be served any more

`backend` is aiocache's contract as all tiers keep it, and `bounds` are those of every number that is read back.

Not here: the rules of HTTP caching (`semantics`), the calls to a provider (`upstream`, which the cache knows as an
`origin.Origin` alone), and links, conditions and ranges (`links`, `semantics` and `web`).

1. **An erasure wins** over every tier, over a fill that was under way, and over a 304 that comes later. A stored
   response carries the epoch in which it was last known not to be erased, and is checked against the present one on
   each use.
2. **A tier that fails costs speed and no answer**, with one exception: if the blocks cannot be read, nothing is served.
   An erasure that cannot be looked up is taken to have happened.
3. **A stored response is whole.** Its entry is written after its body has come to its end and was measured.
4. **Only a response that may be stored serves several requests** (RFC 9111 §4). Any other fill serves one request, and
   leaves nothing.
"""
