"""`purge` and `stats`."""
