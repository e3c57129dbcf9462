"""Handlers for gateway clients and operators: minting, purging, revoking, deleting, health and metrics."""
