"""The access log: one line for each answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from proxy.telemetry.access_batch import Fact, Noted, Sentence, Words
from proxy.telemetry.redaction import HIDDEN, redact

_LONGEST_TARGET: Final = 2_048
_LONGEST_AGENT: Final = 256
_CLIENTS: Final = 1_024
_AGENTS: Final = 256
# A link without claims and without a mount, in which nothing but the signature can be a secret: the name of a key
# that could pass for one is too long for this.
_PLAIN_LINK: Final = re.compile(
    r"(/media/(?:[0-9A-Za-z-]{34,36}/){2}[0-9A-Za-z-]{34,36}\?expires=[0-9]{1,12}&key=[A-Za-z0-9._-]{1,42}&signature=)"
    r"[A-Za-z0-9_-]{43}"
)


@dataclass(frozen=True, slots=True)
class Access:
    """One answer. `sent` is bytes of body, `seconds` from the request's head to the answer's end.

    `client` is an address, `client_id` a gateway client, `cache` the answer's `Cache-Status`, `kind` the problem's
    slug, `trace_id` the trace that a trusted proxy counts the request to; each None where there is none. `aborted`: the
    connection was cut before the answer's end.
    """

    request_id: str
    client: IPv4Address | IPv6Address | None
    method: str
    target: str
    status: int
    sent: int
    seconds: float
    user_agent: str | None = None
    client_id: str | None = None
    cache: str | None = None
    kind: str | None = None
    aborted: bool = False
    trace_id: str | None = None

    def noted(self, now: float) -> Noted:
        """The same for a batch of lines. `now` is the Unix time of the answer's end."""
        answer: dict[str, Fact] = {"status": self.status, "bytes": self.sent}
        if self.cache is not None:
            answer["cache"] = self.cache
        if self.kind is not None:
            answer["problem"] = self.kind
        if self.client_id is not None:
            answer["client_id"] = self.client_id
        if self.aborted:
            answer["aborted"] = True
        if self.trace_id is not None:
            answer["trace_id"] = self.trace_id
        target = Words({"method": self.method, "target": shown_target(self.target)})
        client, agent = client_words(self.client), agent_words(self.user_agent)
        return now, self.seconds, self.request_id, Sentence(client, target, Words(answer), agent)


@lru_cache(_CLIENTS)
def client_words(address: IPv4Address | IPv6Address | None) -> Words:
    """Of a client at that address; of a unix socket there is nothing to say."""
    return Words({} if address is None else {"client": str(address)})


@lru_cache(_AGENTS)
def agent_words(agent: str | None) -> Words:
    """Of a request with that `User-Agent`, or none."""
    return Words({} if agent is None else {"user_agent": shown_agent(agent)})


def shown_target(target: str) -> str:
    """A target without its secrets.

    Long text is cut after its secrets are out: the better part of a signature would be as good as the whole.
    """
    plain = _PLAIN_LINK.fullmatch(target)
    return redact(target)[:_LONGEST_TARGET] if plain is None else plain[1] + HIDDEN


def shown_agent(agent: str) -> str:
    """A `User-Agent` without secrets, and cut."""
    return redact(agent)[:_LONGEST_AGENT]
