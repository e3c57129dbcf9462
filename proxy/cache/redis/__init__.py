"""The shared tier: what the nodes keep together in one Redis, and how they tell each other what is invalidated.

`store` is the tier, put together from everything else. `metadata`, `chunks` and `read_ahead` hold stored responses, as
far as Redis has room; `lease` lets one node fetch while the others wait. `log` is the log of invalidations and the
table of blocks, `records` their form in Redis, and `follower` applies here what the log says, up to the place that
`checkpoint` remembers. `outage` is the policy for the time without Redis, and `validations` counts under it which
worker asks an origin again. `client` bounds each call and knows if Redis is away, `pools` makes its connections,
`keys` names all that is kept, `scripts` has what Redis does in one step, and `server_check` is for the command line.

Not here: the theory of invalidations and the policy of blocks (`cache.invalidation`), the way of a fill through this
tier (`cache.fills.sharing`), the order of tiers (`cache.tiers`), and failures and counters that the nodes do not share.

1. **Redis is never needed for an answer.** A call that fails is a `StoreError`; the caller goes on without the tier.
   After a call without an answer Redis is away: further calls fail at once, but for the follower's, which find out
   when it is back.
2. **A step that decides and writes is one script.** Redis runs a script as a whole, so that no two nodes can both be
   right about what they read before they wrote. What a script decides of blocks is said in `invalidation.policy`.
3. **Everything that Redis says is held against bounds.** Keys of another type, numbers that cannot be, and values that
   do not decode are damage or another program's. They cost a fetch, a validation or a new run, and never an answer.
4. **What is stored belongs to a run of the log.** Its keys have the run in their names, so that nothing from before a
   gap in the log is found after it.
5. **Metadata last.** A body is written in chunks, then its metadata, in one step with the question if its key was
   erased meanwhile. Chunks live some minutes longer than the metadata that name them.
"""
