"""What the express lane remembers, in tables with a bound: heads, links, and what was answered to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from proxy.cache.body import FileBody
from proxy.cache.counters import Counter
from proxy.cache.entry import Entry
from proxy.links import Claims
from proxy.model import MediaRef
from proxy.telemetry.access_batch import Sentence, Words


@dataclass(frozen=True, slots=True)
class Head:
    """What a block of fields says: the one entity-tag of `If-None-Match`; `client` where a trusted proxy names one."""

    etag: str | None
    agent: Words
    client: Words | None


@dataclass(frozen=True, slots=True)
class Rendered:
    """An answer's head up to and after its request id, in pieces between which its `max-age` stands.

    `age` and `remaining` freshness are in seconds; `size` bytes of body go with it, those of `span` where it is a part.
    `words`: what the log says of it.
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
        """What the log says of it where only so many bytes of the body went out."""
        return Words({"status": self.status, "bytes": sent, "cache": self.cache, "aborted": True})


Kind = tuple[tuple[str, str], ...]
"""The field lines of an answer; the values of those that are made for each answer are empty."""


@dataclass(slots=True, eq=False)
class Shape:
    """A stored response as links with the same claims show it, fresh until `stale_at`.

    `kinds`: those of the ordinary answers, by `HEAD` or not and status. In the second `recalled_at`, with `epoch` the
    number of the last erasure, every link opened it.
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
    """The other end of a connection, as the log names it; `scope`: whose word of its clients is believed, or nobody."""

    words: Words
    scope: bytes


class Ready:
    """What some bytes of a request are answered with from `since` to `until`, while `epoch` numbers the last erasure.

    `before` and `after` the request id stands the head; the body is that of `entry`, or `span` of it, or has no `size`.
    `answers` from RAM have not been counted yet, each as one of `counter`.
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
        """What the log says of this answer to that peer."""
        if self._said is None or self._said_of is not peer:
            client = self._head.client or peer
            self._said = Sentence(client, self._link.words, self._rendered.words, self._head.agent)
            self._said_of = peer
        return self._said

    def cut_sentence(self, peer: Words, sent: int) -> Sentence:
        """The same where only so many bytes of the body went out."""
        client = self._head.client or peer
        return Sentence(client, self._link.words, self._rendered.cut_words(sent), self._head.agent)


@dataclass(frozen=True, slots=True)
class FileAnswer:
    """The head, and the span of a stored file that follows it. `ended` is to be called once, with the bytes sent.

    `request_id` is the one that the head names.
    """

    head: bytes
    body: FileBody
    span: range
    ended: Callable[[int], None]
    request_id: str


Answer = tuple[bytes, bytes | memoryview] | FileAnswer
"""Head and body."""
