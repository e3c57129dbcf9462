"""Heads of the express lane's answers, made once a second for all links to a media."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Final

from aiohttp import web

from proxy.cache.result import CacheResult
from proxy.http_server.express.memo import Kind, Rendered, Shape
from proxy.semantics.fields import Fields, format_date
from proxy.semantics.ranges import Single, Span, resolve
from proxy.telemetry.access_log import Words
from proxy.web.media.headers import AnswerFields, Grant
from proxy.web.services.gateway import Gateway

REASONS: Final = MappingProxyType({200: "OK", 206: "Partial Content", 304: "Not Modified"})
"""The answers that the lane gives (RFC 9110 §15)."""
_RENDERED: Final = 4_096
_KINDS: Final = 256
_NO_END: Final = 2**40
# `max-age` depends on the life of the link, so it is left out of the head that all links to a media share.
_MAX_AGE: Final = re.compile(r"(?<=max-age=)[0-9]+")
_GAP: Final = "\0"


class Heads:
    """Heads of the current second, and the kinds of all answers, each kept once."""

    def __init__(self, gateway: Gateway) -> None:
        self._engine = gateway.media.engine
        self._shared_caches = gateway.media.shared_caches
        self._clock = gateway.clock
        self._second = 0
        self._made: dict[tuple[Shape, bool, int, str], Rendered] = {}
        self._kinds: dict[Kind, Kind] = {}

    def rendered(self, shape: Shape, status: int, asked: str, now: float, *, is_head: bool) -> Rendered | None:
        """Return the head for this second; None if the response is stale or no such answer was given before.

        `asked` is the value of `Range`, empty if there is none.
        """
        second = int(now)
        if second != self._second or len(self._made) >= _RENDERED:
            self._made.clear()
            self._second = second
        if shape.stale_at <= now:
            return None
        which = (shape, is_head, status, asked)
        rendered = self._made.get(which)
        if rendered is None:
            kind = shape.kinds.get((is_head, status))
            made = None if kind is None else self._render(shape, status, asked, kind, is_head=is_head)
            if made is None:
                return None
            rendered = self._made[which] = made
        return rendered

    def kind(self, shape: Shape, response: web.StreamResponse) -> Kind:
        """Return the fields of an answer, without the values that are made for each answer."""
        answer_fields = self._answer_fields(shape, self._engine.reused(shape.entry))
        # The names are the same for every part.
        span = Single(0, 1) if response.status == 206 else None
        made = self._fields(answer_fields, shape, response.status, span).keys() | {"X-Request-Id"}
        kind = tuple((name, "" if name in made else value) for name, value in response.headers.items())
        if len(self._kinds) >= _KINDS:
            self._kinds.clear()
        return self._kinds.setdefault(kind, kind)

    def _answer_fields(self, shape: Shape, opened: CacheResult) -> AnswerFields:
        """Return the maker of fields for the media as it is now, and for a link without an end."""
        grant = Grant(shape.ref, _NO_END, shape.claims, shared_caches=self._shared_caches)
        return AnswerFields(grant, opened, self._clock)

    def _fields(self, answer_fields: AnswerFields, shape: Shape, status: int, span: Span | None) -> dict[str, str]:
        if status == 304:
            made = answer_fields.not_modified()
        elif span is not None:
            made = answer_fields.part(span, shape.entry.length)
        else:
            made = answer_fields.whole(shape.entry.length)
        # If the upstream gave no `Date`, the answer has its own (RFC 9110 §6.6.1).
        made.setdefault("Date", format_date(self._clock()))
        return made

    def _render(self, shape: Shape, status: int, asked: str, kind: Kind, *, is_head: bool) -> Rendered | None:
        opened = self._engine.reused(shape.entry)
        answer_fields = self._answer_fields(shape, opened)
        span = None
        if asked:
            wanted = Fields((("Range", asked),))
            resolution = resolve("GET", wanted, shape.entry.length, answer_fields.selected, self._clock())
            if not isinstance(resolution, Single):
                return None
            span = resolution
        made = self._fields(answer_fields, shape, status, span)
        lines = [(name, _MAX_AGE.sub(_GAP, made.get(name, value))) for name, value in kind]
        place = next(at for at, (name, _) in enumerate(lines) if name == "X-Request-Id")
        before = f"HTTP/1.1 {status} {REASONS[status]}\r\n"
        before += "".join(f"{name}: {value}\r\n" for name, value in lines[:place])
        after = "".join(f"\r\n{name}: {value}" for name, value in lines[place + 1 :]) + "\r\n\r\n"
        size = shape.entry.length if span is None else span.size
        sent = 0 if status == 304 or is_head else size
        return Rendered(
            _pieces(f"{before}X-Request-Id: "),
            _pieces(after),
            opened.age,
            opened.remaining,
            status,
            sent,
            None if span is None else range(span.first, span.first + span.size),
            made["Cache-Status"],
            Words({"status": status, "bytes": sent, "cache": made["Cache-Status"]}),
        )


def _pieces(text: str) -> tuple[bytes, ...]:
    return tuple(text.encode("latin-1").split(_GAP.encode()))
