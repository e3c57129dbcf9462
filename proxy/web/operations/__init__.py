"""Paths for an operator's tools: `health` for balancers and supervisors, `metrics` for Prometheus.

What is counted is defined in `telemetry`; each answer is counted and logged by `http.recording`.
"""
