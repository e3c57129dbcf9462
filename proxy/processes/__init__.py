"""Processes: a supervisor, its workers, their sockets and signals, and what the service manager is told."""
