"""The express lane: repeated requests, answered from within `data_received`, by the rules numbered here.

An ordinary answer costs a parser, a task, a request, a response and a dozen decisions: several times the work of
sending it. Most requests repeat what was decided a moment ago. The lane answers these, and hands everything else on
unchanged. It decides nothing of its own: it repeats decisions of the ordinary path for as long as they hold.

What the lane may answer:

1. The bytes that came are exactly one request, `GET` or `HEAD` (`request.cut`). Its head, from ` HTTP/1.1` to the empty
   line, is byte for byte one that aiohttp's parser has accepted. Each of its fields is in `request.PASSED_OVER`, or is
   `Connection: keep-alive`. `If-None-Match` has one entity-tag. So the lane parses nothing, with one exception: a head
   that differs from an accepted one only by a line `Range: bytes=` with one range counts as accepted. A request that
   comes in two pieces is never the lane's. `GatewayProtocol` asks the lane only while nothing else is under way on the
   connection.
2. The ordinary path has answered with the same status to the same method, for the same media and the same claims. The
   field names, their order, and all values that do not depend on time are copied from that answer (`Kind`). The other
   values come from the functions that the ordinary path uses, once a second (`heads`).
3. The status is 200, 206 or 304. Errors, several ranges, redirects and answers with `Server-Timing` are not the lane's.
4. The body is in RAM, or in a file that the disk tier has open and whose next bytes the kernel holds. The lane keeps no
   body: it asks the tier each time, so no body outlives its eviction. It never waits.

What it checks on every hit:

5. The link, before anything else is looked up: `links.verify` has passed exactly these bytes, and the clock is between
   the link's beginning and its end. Both ends are compared, since a clock may be set back. A link that is bound to an
   address is always refused here, because the lane verifies for no client.
6. The epoch: if anything was invalidated since the decision, by any worker of the node, the decision is void. A
   decision also expires at the end of the clock second in which it was made, and when the stored response goes stale.
7. The entry: RAM still holds the very entry that the decision was about. Once a second, and after each invalidation,
   `Tiers.recall` says whether it may still be served: not blocked, not in doubt.
8. The peer: a head that a trusted proxy sent is reused for that proxy only, because what it says of its clients is
   believed.
9. The worker: one that drains or retires has to say `Connection: close`, so all requests go the ordinary way.

How it is held equal to the ordinary path:

10. Whatever is in doubt goes the ordinary way, which is always correct. `GATEWAY_EXPRESS=0` sends everything there.
11. A differential test sends the same bytes, cut in every way, to two gateways with one clock, one of them without the
    lane, and compares the answers byte for byte.
12. If aiohttp lacks one of the internals that the lane leans on, the lane stays off, with a warning (`express_lane`).

What is not certain:

- Rule 1 trusts that aiohttp's parser will accept the same head again behind any target. A parser with a state between
  messages would break this; the differential test would show it.
- An internal of aiohttp that keeps its name and changes its meaning is not noticed by rule 12, only by the tests.
- Answers are counted a tenth of a second late, and a worker that is killed loses these counts. The time of an answer
  from RAM is logged as 0: measuring it would cost more than is measured.
- The tables are bounded by their number of entries. They take at most about 100 MB, and 30 with links and heads of
  ordinary length.

`lane` has the tables and the way through them; `request` reads bytes, `memo` holds what is remembered, `heads` makes
the heads of answers.
"""
