"""The client that injects credentials: they go to one configured origin, on the first hop, and to no other host."""
