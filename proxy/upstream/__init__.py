"""The client that injects credentials: one configured origin is sent them, on the first hop, and nobody else."""
