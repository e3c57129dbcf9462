"""The disk tier: files of bodies, and an index of them that the workers of a node share over one cache folder.

    index-….sqlite3     rows: stored responses, erasures, blocks, counters and workers
    epoch               the number of the last invalidation, mapped into the memory of every worker
    bodies/ab/abcdef…   the body of generation abcdef…
    incoming/ID/…       bodies of fills under way in one worker, which locks incoming/ID/lock while it lives

`store` is the tier, put together from everything else. `folder`, `files`, `open_files` and `integrity` are about
bodies; `index`, `index_file`, the four tables and `corruption` about rows; `quota`, `orphans` and `write_behind` work
beside the readers. `threads` keeps blocking calls off the event loop. `backend` is the index as aiocache knows a cache,
`invalidations` is the index as the other tiers ask it for erasures and blocks, and `visitor` is for the command line.
The policy of invalidations lives in `cache.invalidation`, the rules of what may be stored and served in `semantics`,
the way of bytes from the origin in `cache.fills`, and the order of the tiers in `cache.tiers`.

1. **Body first, row last.** A fill writes its body below `incoming`. Once the body is whole it is renamed into
   `bodies`, and then its row is written. The row makes it a stored response: no reader ever finds a body that is not
   whole. A generation names one body for ever, so a body is never overwritten.
2. **Row first, body last, when a response goes.** Whether it is replaced, dropped, erased or evicted: the row is
   removed, then the file is unlinked. Readers that have the file open read it to its end.
3. **A kill at any moment leaves one of three things.** Files in an incoming folder that no worker locks; a body without
   a row; or, after a power cut, a row without its body. `orphans` tells the first two from what the living own, by the
   lock and by an age of 60 s, and removes them in the background. A row without its body, or with one of another
   length, is dropped by the first look-up that meets it.
4. **Two kinds of threads; nothing blocks the event loop.** Calls of `Index` run on one thread, in turn, so that one
   connection needs no lock. The `unlink` that follows the removal of a row runs there too. All other calls on files
   run on eight threads of their own, since one slow read must not hold up look-ups. The loop itself only reads
   the mapped epoch, bytes that the page cache already has, and the state of a file that is open.
5. **A cancelled caller leaks nothing.** A call that has begun runs to its end (`threads.on`). What it made is undone by
   a second call behind it (`threads.on_or_undo`), and a descriptor is closed after the last call that uses it.
6. **Nothing that is read is believed.** A body is checked against its checksum when it is first read after a start,
   and the end of an answer waits for that check (`integrity`). A row whose numbers are out of bounds, or an SQLite
   error that means damage, gives up the whole index (`corruption`): a new one begins under a new name, takes over the
   blocks that can be read, and starts above every number that was published. The old bodies are orphans then. A row
   whose entry cannot be decoded is dropped alone.
7. **Two bounds on size.** The tier's own bound counts each body and 4,096 bytes for its row; what is over is evicted
   after each commit, the least recently used first. Uses are written down in batches, so that order is a few seconds
   old. Besides, the file system keeps a reserve, which is looked for before each write: if it is used up, the tier
   evicts, and then stores nothing.
8. **An erasure holds from its commit.** A row that it covers is not found any more, and a fill that began before it
   cannot write its row; rows and bodies are removed afterwards, in steps.
9. **A failure is a `StoreError`.** Its note names no path. Callers go on without the tier, and the answer is the same.
"""
