"""The processes of one node: a supervisor, its workers, the sockets they share, and the signals they obey.

How one process serves HTTP is not written here but in `http_server`; what workers share in memory is in `node`.

The supervisor:

1. It has one thread and no event loop, so that a fork copies nothing that is in use: no lock, no half-written buffer.
   It reads the settings, binds the sockets, forks workers, and serves nothing itself.
2. It waits at one place, for signals, for reports and for the next thing that is due, and sees to each in turn
   (`Supervisor._turn`). Nothing it does may block for long, except reading the settings and the folder of accounts.

Workers:

3. A worker is a forked process with an event loop of its own. It accepts from the same listening sockets as all others;
   the kernel chooses which of them gets a connection. It has its part of the RAM tier, a row of counters, and a seat in
   the node.
4. Workers that were forked from one reading of the settings form a pool, with a slot for each. At any time one pool
   serves, at most one starts, and at most three retire. Counters and seats are made for that many workers before the
   first fork, since they are shared memory.
5. A worker starts, serves, and leaves, in this order. It has 60 s to start. Once it is ordered to leave, it
   has the time for draining and 15 s more. Then it is killed.
6. A worker that ends without an order is replaced in its slot: after 0.1 s, doubling with each death up to 10 s. A life
   of a minute resets the pause. Before the first pool has served, the supervisor ends if a worker cannot start with
   its settings, or at the third unexplained death.

Orders and reports:

7. A socket pair connects the supervisor with each worker, and carries lines. Downwards go the orders to retire (`r`)
   and to stop (`s`), and changes of the accounts (JSON). Upwards go the reports that the worker serves, that it accepts
   no more, or which settings it cannot start with (JSON).
8. The supervisor never waits for a worker to read. Changes that are not sent yet are kept as the target
   state and not as steps, so that the number of accounts bounds them.
9. When the socket pair ends, the supervisor is gone. Then the worker exits at once, since nothing else could stop it.

Ends:

10. To stop is to drain: the worker accepts nothing, ends the fills that nobody reads, finishes its answers within the
    time for draining, and ends. Every answer from then on closes its connection.
11. To retire is to make way for another pool: the worker accepts nothing and reports that; gives the clients of open
    connections a second to close them without an error; and drains.
12. A reload starts a new pool on the same sockets. When all of its workers serve, the old pool retires. When no worker
    of the old pool accepts any more, the reload is done, is counted, and the service manager is told. At no moment is a
    connection refused. If the settings are bad, or a new worker ends before it serves, the reload is refused and the
    old pool goes on. A reload that is asked for meanwhile is done afterwards. The listen addresses stay as they were.

Signals:

    signal           supervisor                              worker
    SIGTERM          stop; the second one ends it at once    stop
    SIGINT           as SIGTERM                              ignored: a terminal sends it to every process
    SIGHUP           reload                                  ignored, for the same reason
    SIGCHLD          reap the workers that have ended        -
    SIGUSR1          ignored: log rotation sends it          ignored
    SIGKILL          the workers exit at once, by rule 9     replaced, by rule 6; its open answers are cut off

13. The second SIGTERM or SIGINT kills the workers, and ends the supervisor with 128 and the signal's number.
14. A worker that gets SIGTERM alone, from outside, drains; for the supervisor it has ended without an order (rule 6).

Changes of the accounts:

15. The supervisor looks at the folder of accounts about once a second, and less often if that takes more than 5 % of a
    processor. It tells changes to the pool that serves, and forks workers with the accounts as they are then. A
    pool that takes over looks again at once, for what changed while it started.
16. A worker serves a new account, or refuses one that is gone, from the moment it reads the order. Fills and answers
    that are under way go on to their end.

What is not certain:

- A worker that serves and then hangs is not noticed: there is no heartbeat. Its share of the connections waits.
- Connections are spread over the workers as the kernel likes, and not evenly.
- Until all workers have read a change, which takes some milliseconds, their answers may differ.
- A connection of which the kernel has finished the handshake is in no process. It waits in the listening socket and is
  lost only if no worker is left to accept it, as after a stop.

Where to look: `supervisor` (rules 1, 2, 12 and 13), `children` and `worker_pool` (3 to 6), `orders` (7 and 8), `worker`
(9 and 14), `service` (10, 11 and 16), `folder_watch` (15), `signals`. `listeners` opens the sockets; `event_loop` and
`tuning` prepare a process.
"""
