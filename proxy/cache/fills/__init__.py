"""Fills: reads of media at their origin, for any number of readers each. The rules of a fill's life are numbered here.

`states` is the table below, and `fill` one fill that follows it: its task, its readers and what it comes to. `registry`
has all fills of a worker: which one a reader may join, how many there may be, and which one ends before its time.
`sharing` looks into the shared tier before the upstream, and shares with it. `spool` and `buffer` hold the bytes on
their way, and `failing_media` knows the media that are left alone for a while.

Not here: whether to reuse what is stored or to ask the origin (decided in `semantics.caching`, carried out by
`cache.engine`), how a response is stored (`cache.tiers`), and the lease that spares other nodes the same fetch
(`cache.redis`).

The life of a fill
------------------

A fill is always in one state, and each row names the next state after an event. An event without a row for the current
state is a bug, and raises an error.

    state        event       next state
    -----------  ----------  -----------
    ASKING       HEAD        RECEIVING
    ASKING       CODED_HEAD  WITHHOLDING
    ASKING       USABLE      DONE
    ASKING       FAILURE     REFUSED
    ASKING       UNWANTED    ABANDONED
    RECEIVING    LAST_BYTE   WHOLE
    RECEIVING    FAILURE     BROKEN
    RECEIVING    UNWANTED    ABANDONED
    WITHHOLDING  LAST_BYTE   WHOLE
    WITHHOLDING  FAILURE     BROKEN
    WITHHOLDING  UNWANTED    ABANDONED
    WHOLE        STORED      DONE
    WHOLE        FAILURE     DONE

1. A fill is one task, which asks, receives and stores. No reader owns it: readers join and leave, and the task goes on
   by rule 6.
2. In ASKING it looks into the shared tier, waits for its turn among the nodes, validates what is stored, and asks the
   upstream, as far as there is a shared tier and a stored response. A 304 about another representation than the stored
   one is not an event: the fill asks again.
3. Readers learn the outcome when the fill leaves ASKING. A body in a content coding may turn out to be broken at its
   last byte, so readers wait through WITHHOLDING too. After that each of them reads at an offset of its own.
4. WHOLE comes before the storing: the readers that wait for the last bytes get them first. A reader that comes in
   WHOLE waits for DONE and looks again, since a stored response answers it better than the rest of a fill.
5. Before WHOLE a failure cuts the readers off. After BROKEN they may open the media again; all of them share one
   budget of consecutive fills (`registry.ATTEMPTS`). After REFUSED they may not, since the upstream has already
   retried. From WHOLE on no reader sees a failure: if a tier cannot store, only the stored response is lost.
6. Without readers a fill goes on if its bytes may be stored, within the bounds of `registry`; if not, it is abandoned
   at once. When all announced bytes have come, to abandon it would save nothing, so it goes on to its end.
7. An erasure (a purge, a revocation, a deletion) is not an event. The fill takes no new readers, serves those that it
   has, and stores nothing; if it has no readers and not all announced bytes, it is abandoned.
8. DONE, REFUSED, BROKEN and ABANDONED are final. The task may have some steps to go: it closes a connection, gives the
   lease back, tells the shared tier. Its place is already free. Its bytes are freed when the last reader has left.

What is not certain:

- DONE does not say that anything is stored: the disk may be full, or the media erased. Only a look-up can tell.
- An erasure may come between a fill's last look at the epoch and the storing. So the tiers look again as they store,
  and once more when the stored response is read.
- A fill that has all announced bytes need not be WHOLE yet: the upstream's framing may still turn out to be broken.
- A disk may fail while bytes arrive, so whether they can be stored is asked each time (`Fill.lasting`) and is not part
  of the state.
"""
