"""Invalidation: what is erased and what is blocked, and which stored responses that covers."""
