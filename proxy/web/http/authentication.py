"""Authentication of gateway clients (HTTP Basic), with a limit for guesses."""

from __future__ import annotations

from aiohttp import web

from proxy.clients import Client
from proxy.errors import TooManyRequests, Unauthorized
from proxy.limits import address_key
from proxy.web.exchange import EXCHANGE
from proxy.web.services.gateway import GATEWAY


def authenticate(request: web.Request) -> Client:
    """Return the client whose credentials the request's `Authorization` holds.

    Raises `Unauthorized`, or `TooManyRequests` after many wrong credentials from one address. A request without
    credentials does not count as a guess: that is how a browser asks for the challenge (RFC 9110 §11.4).
    """
    clients, known = request.app[GATEWAY].clients, request[EXCHANGE]
    values = request.headers.getall("Authorization", ())
    try:
        client = clients.registry.authenticate(values[0] if len(values) == 1 else None)
    except Unauthorized:
        if not values:
            raise
        wait = clients.failures.fail(address_key(known.client))
        if wait:
            raise TooManyRequests("Too many wrong client credentials.", retry_after=wait) from None
        raise
    known.client_id = client.id
    return client
