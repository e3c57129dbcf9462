"""The JSON body of a request: one object, read strictly, with every fault named by its place (`media[3].url`)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

from aiohttp import web

from proxy.errors import BadRequest, FieldProblem, UnsupportedMediaType
from proxy.web.http.sending import ClientGone

JSON: Final = "application/json"
LONGEST_NAME: Final = 64
"""Characters of a field's name that a fault repeats."""


class Faults:
    """The faults of a request, field by field."""

    def __init__(self) -> None:
        self.found: list[FieldProblem] = []

    def add(self, field: str, message: str) -> None:
        """Note a fault of a field."""
        self.found.append(FieldProblem(field, message))

    def check(self) -> None:
        """Raise `BadRequest` if there are any faults."""
        if self.found:
            raise BadRequest("Some fields of the request are not valid.", errors=self.found)


async def read_body(request: web.Request, seconds: float, *types: str) -> bytes:
    """Read the body of a request whose Content-Type is one of `types`, within that many seconds.

    Raises `UnsupportedMediaType`, `BadRequest` if the body does not come, and `ClientGone`.
    """
    if request.content_type not in types:
        raise UnsupportedMediaType(f"Send the body as {' or '.join(types)}.")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("Send the body without a Content-Encoding.")
    try:
        async with asyncio.timeout(seconds):
            return await request.read()
    except TimeoutError:
        raise BadRequest("The body did not arrive in time.") from None
    except web.RequestPayloadError:
        raise BadRequest("The body is not well-formed.") from None
    except OSError as error:
        # The connection broke, for whatever reason.
        raise ClientGone(str(error)) from error


def read_object(body: bytes, fields: frozenset[str], faults: Faults) -> dict[str, object]:
    """Return the members of a JSON object; names other than `fields` are faults.

    Raises `BadRequest` if the body is not a JSON object.
    """
    try:
        # RFC 8259 §8.1: UTF-8 alone. If a name is repeated, parsers differ in which value counts (§4).
        document: object = json.loads(
            body.decode(), object_pairs_hook=lambda pairs: _once(pairs, faults), parse_constant=_no_number
        )
    except (ValueError, RecursionError):
        raise BadRequest("The body is not JSON.") from None
    if not isinstance(document, dict):
        raise BadRequest("The body is not a JSON object.")
    for name in document:
        if name not in fields:
            faults.add(shown(name), "is not a field of this request")
    return document


def _once(pairs: Sequence[tuple[str, object]], faults: Faults) -> dict[str, object]:
    members: dict[str, object] = {}
    for name, value in pairs:
        if name in members:
            faults.add(shown(name), "must not be repeated in an object")
        members[name] = value
    return members


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number (RFC 8259 §6)")


def shown(name: str) -> str:
    """Return a member's name as a fault shows it: cut short, and without characters that UTF-8 cannot encode."""
    return name[:LONGEST_NAME].encode(errors="backslashreplace").decode()


def whole_number(document: Mapping[str, object], name: str, faults: Faults) -> int | None:
    """Return a member that is a whole number; None if it is absent, null or at fault."""
    value = document.get(name)
    if value is None:
        return None
    # In Python, true is an int.
    if isinstance(value, bool) or not isinstance(value, int):
        faults.add(name, "must be a whole number")
        return None
    return value


def text(document: Mapping[str, object], name: str, faults: Faults) -> str | None:
    """Return a member that is a string; None if it is absent, null or at fault."""
    value = document.get(name)
    if value is None or isinstance(value, str):
        return value
    faults.add(name, "must be a string")
    return None
