"""Everything that the gateway tells its operator, with secrets left out.

- The program's own log: `logs` formats and writes it, `request_context` names the request that a line is about, and
  `redaction` removes secrets. `audit` writes a line for each invalidation and deletion.
- The access log: `access_log` notes each answer, and writes many lines at once.
- The metrics: `families` lays a metric out in cells, `metrics` defines them all and counts, `shared_counters` holds the
  cells of all workers, and `exposition` shows them to Prometheus.

The paths that serve metrics live in `web.operations`, and the record of each answer is made in `web.http`.
"""
