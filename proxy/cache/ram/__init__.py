"""The RAM tier of one worker: whole small bodies, and the entries of large ones, bounded in bytes.

`store` keeps them, decides what is evicted, and is an aiocache backend. `sweeper` gives back what was erased. Which
bodies are small, when a response of the disk moves up, and whether one that is found may still be used is
decided in `cache.tiers`.

1. **No call waits.** Each operation of the store is one step of the event loop, so two of them never mix, and a value
   can be replaced only if it is still the one that was read (`_cas_token`).
2. **The bound counts what Python takes**: the body, the field values, and measured averages for the objects around
   them. A response that is larger than the whole bound is not held.
3. **Three queues (S3-FIFO) decide what is evicted.** A newcomer has a tenth of the bytes and is evicted from there
   unless it is used again. The proven have the rest, and go round once more for each of up to three uses. The keys of
   evicted newcomers are kept for a while, so that one that comes back is proven at once. Media that are asked for only
   once then displace nothing: on the traces of `tests/benchmarks/eviction.py` that have such media, 3 to 11 requests
   in a hundred more are answered than with LRU.
4. **What is held carries an epoch**: the number of the last erasure when it was last known not to be erased. A look-up
   at a later epoch asks what was erased since, before the response is used.
5. **What was erased is given back within a second or so** even if nothing asks for it again: the sweeper looks at the
   epoch four times a second, and removes what the new erasures cover.
6. **Nothing is shared.** Other workers hold their own copies; only the epoch tells them of a change.
"""
