"""Errors for a purge, a revocation or a deletion that could not be written down."""

from __future__ import annotations

from proxy.errors import GatewayError, Overloaded, RevocationsFull, SharedTierAway, StoreError


def refusal_of(error: StoreError, otherwise: str) -> GatewayError:
    """Return the error for the client: the reason where an operator can act on it, else `otherwise` as its detail."""
    match error:
        case SharedTierAway() | RevocationsFull():
            return error
        case _:
            return Overloaded(otherwise, note=error.note)
