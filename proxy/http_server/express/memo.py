"""Values that the express lane remembers in bounded tables: heads, links, and the answers to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from proxy.cache.body import FileBody
from proxy.cache.counters import Counter
from proxy.cache.entry import Entry
from proxy.links import Claims
from proxy.model import MediaRef
from proxy.telemetry.access_log import Sentence, Words


@dataclass(frozen=True, slots=True)
class Head:
    """Contents of a block of fields: the entity-tag of `If-None-Match`, and the client that a trusted proxy names."""

    etag: str | None
    agent: Words
    client: Words | None


@dataclass(frozen=True, slots=True)
class Rendered:
    """An answer's head before and after its request id, each in pieces between which `max-age` stands.

    `age` and `remaining` freshness are in seconds. The body has `size` bytes, those of `span` if it is a part. `words`
    are those of the log.
    """

    before: tuple[bytes, ...]
    after: tuple[bytes, ...]
    age: float
    remaining: float
    status: int
    size: int
    span: range | None
    cache: str
    words: Words

    def cut_words(self, sent: int) -> Words:
        """Return the words of the log if only so many bytes of the body went out."""
        return Words({"status": self.status, "bytes": sent, "cache": self.cache, "aborted": True})


Kind = tuple[tuple[str, str], ...]
"""Field lines of an answer; values that are made for each answer are empty."""


@dataclass(slots=True, eq=False)
class Shape:
    """A stored response as links with the same claims show it, fresh until `stale_at`.

    `kinds` are those of the ordinary answers, by whether the method was `HEAD`, and by status. In the second
    `recalled_at`, at that `epoch`, the tiers said that it may be served.
    """

    ref: MediaRef
    claims: Claims
    entry: Entry
    key: str
    stale_at: float
    kinds: dict[tuple[bool, int], Kind] = field(default_factory=dict)
    recalled_at: int = 0
    epoch: int = -1


ShapeKey = MediaRef | tuple[MediaRef, Claims]


class KnownLink(NamedTuple):
    """A verified link, as the request for it begins; acceptable from the Unix second `since` until `expires`."""

    shape: Shape
    since: int
    expires: int
    is_head: bool
    words: Words


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a connection, as the log names it; `scope` is the address of a trusted proxy, or empty."""

    words: Words
    scope: bytes


class Ready:
    """The answer to certain bytes of a request, good from `since` to `until`, as long as the epoch is the same.

    The head stands `before` and `after` the request id. The body is that of `entry`, or `span` of it, or empty if its
    `size` is 0. So many `answers` from RAM have not been counted yet, as `counter`.
    """

    __slots__ = (
        "_head", "_link", "_rendered", "_said", "_said_of", "after", "answers", "before", "counter", "entry", "epoch",
        "key", "since", "size", "span", "status", "until",
    )  # fmt: skip

    def __init__(
        self,
        rendered: Rendered,
        link: KnownLink,
        head: Head,
        max_age: bytes,
        *,
        since: float,
        until: float,
        epoch: int,
        counter: Counter,
    ) -> None:
        self.answers = 0
        self.counter = counter
        self.since = since
        self.until = until
        self.epoch = epoch
        self.entry = link.shape.entry
        self.key = link.shape.key
        self.before = max_age.join(rendered.before)
        self.after = max_age.join(rendered.after)
        self.status = rendered.status
        self.size = rendered.size
        self.span = rendered.span
        self._rendered = rendered
        self._link = link
        self._head = head
        self._said: Sentence | None = None
        self._said_of: Words | None = None

    def sentence(self, peer: Words) -> Sentence:
        """Return the log's sentence about this answer to that peer."""
        if self._said is None or self._said_of is not peer:
            client = self._head.client or peer
            self._said = Sentence(client, self._link.words, self._rendered.words, self._head.agent)
            self._said_of = peer
        return self._said

    def cut_sentence(self, peer: Words, sent: int) -> Sentence:
        """Return that sentence if only so many bytes of the body went out."""
        client = self._head.client or peer
        return Sentence(client, self._link.words, self._rendered.cut_words(sent), self._head.agent)


@dataclass(frozen=True, slots=True)
class FileAnswer:
    """A head, and the span of a stored file that follows it. `ended` has to be called once, with the bytes sent.

    `request_id` is the one in the head.
    """

    head: bytes
    body: FileBody
    span: range
    ended: Callable[[int], None]
    request_id: str


Answer = tuple[bytes, bytes | memoryview] | FileAnswer
"""Head and body."""
