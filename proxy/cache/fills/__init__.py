"""Fills: reads of media at their origin, each for any number of readers, and the bounds on all of them.

`states` is the table below, and `fill` one fill that follows it: its task, its readers and what it comes to. `registry`
has all fills of a worker: which one a reader may join, how many there may be, and which one ends before its time.
`spool` and `buffer` hold the bytes on their way, `failing_media` knows the media that are left alone for a while, and
`sharing` is what fills do with the shared tier.

Not here: what may be reused or has to be asked for (`semantics.caching`, which `cache.engine` carries out), where
responses are stored (`cache.tiers`), and the lease itself, which keeps other nodes from the same fetch (`cache.redis`).

The life of a fill
------------------

A fill is always in one state, and each row says which event leads where. An event that a state has no row for is a
fault of ours, and is raised.

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
   upstream, as far as each of them is there. A 304 about another representation than the stored one is not an event:
   the fill asks again.
3. Readers learn the outcome when the fill leaves ASKING. A body in a content coding may be broken at its last byte, so
   that they wait in WITHHOLDING too, and learn it with the last byte. Then each reads at an offset of its own.
4. WHOLE comes before the storing: the readers that wait for the last bytes have them first. A reader that comes now
   waits for DONE and looks again, for a stored response answers it better than the rest of a fill.
5. Before WHOLE a failure cuts the readers off. They may open the media again, within one budget of fills in a row for
   all of them (`registry.ATTEMPTS`); after REFUSED the retries are the upstream's, and are over. From WHOLE on nothing
   fails: a tier that cannot store costs the stored response and no answer.
6. Without readers a fill goes on if its bytes may be stored, within the bounds of `registry`; else it is abandoned, in
   the middle of a request too. Once all announced bytes have come there is nothing to save, and it goes to its end.
7. An erasure that covers the media changes no state. Such a fill takes no new reader, still serves those that it has,
   and stores nothing; without readers it is abandoned.
8. DONE, REFUSED, BROKEN and ABANDONED are for good. The task may have some steps to go: it closes a connection, gives
   the lease back, tells the shared tier. Its place is free already. Its bytes are freed when the last reader has left.

In doubt:

- DONE does not say that anything is stored. The disk may be full, the media erased; only a look-up can tell.
- An erasure may come between the last look at its number and the storing. So the tiers look again as they store, and
  once more when what they have stored is read.
- All announced bytes having come is not WHOLE: the upstream's framing may still turn out to be broken.
- Whether the bytes may be stored can change while they come, when a disk fails. So it is asked, and not part of the
  state.
"""
