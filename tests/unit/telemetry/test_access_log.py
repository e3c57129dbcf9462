"""The facts of an access line."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.telemetry.access_log import LoggedAnswer, agent_words, client_words, shown_target
from proxy.telemetry.redaction import redact
from tests.unit.telemetry.lines import facts_of

MEDIA = (
    "/media/AC00112233445566778899aabbccddeeff/MM00112233445566778899aabbccddeeff/0f8fad5b-d9cb-469f-a165-70867728950e"
)
SIGNATURE = "mAwW9JmAUwEE6AFAxXs-ksNfqwiPkkffTcH0xNjwiE4"


def access(**changes: str | float | bool | IPv4Address | None) -> LoggedAnswer:
    told: dict[str, str | float | bool | IPv4Address | None] = {
        "request_id": "r" * 32, "client": IPv4Address("203.0.113.7"), "method": "GET", "target": "/healthz",
        "status": 200, "sent": 12, "seconds": 0.123456, **changes,
    }  # fmt: skip
    return LoggedAnswer(**told)  # type: ignore[arg-type]


def test_every_fact_has_its_name() -> None:
    one = access(user_agent="curl/8", client_id="backend", cache="media-gateway; hit", kind="link-expired")
    assert facts_of(one) == {
        "client": "203.0.113.7", "method": "GET", "target": "/healthz", "status": 200, "bytes": 12,
        "seconds": 0.1235, "cache": "media-gateway; hit", "problem": "link-expired", "client_id": "backend",
        "user_agent": "curl/8", "request_id": "r" * 32,
    }  # fmt: skip


def test_absent_facts_are_left_out_and_a_cut_is_logged() -> None:
    assert facts_of(access(client=None, aborted=True)) == {
        "method": "GET", "target": "/healthz", "status": 200, "bytes": 12, "seconds": 0.1235, "aborted": True,
        "request_id": "r" * 32,
    }  # fmt: skip


@given(st.integers(200, 260) | st.integers(1_990, 2_050))
def test_cutting_long_text_leaves_no_part_of_a_signature(length: int) -> None:
    text = "a/" * (length // 2) + "?x=" + SIGNATURE
    facts = facts_of(access(target=text, user_agent=text))
    for name, longest in (("target", 2_048), ("user_agent", 256)):
        left = str(facts[name])
        assert len(left) <= longest
        assert SIGNATURE[:8] not in left


@pytest.mark.parametrize("key", ["k1", "a" * 42, "a" * 43, "token", "x_y"])
def test_a_plain_link_is_redacted_like_any_text(key: str) -> None:
    target = f"{MEDIA}?expires=1790000000&key={key}&signature={SIGNATURE}"
    assert shown_target(target) == redact(target)
    assert SIGNATURE not in shown_target(target)


@given(st.from_regex(r"[/?&=a-zA-Z0-9_%-]{0,20}", fullmatch=True), st.integers(0, len(MEDIA) + 80))
def test_any_link_is_redacted_like_any_text(extra: str, place: int) -> None:
    link = f"{MEDIA}?expires=1790000000&key=k1&signature={SIGNATURE}"
    target = link[:place] + extra + link[place:]
    assert shown_target(target) == redact(target)


def test_the_words_of_clients_and_agents_are_made_once() -> None:
    address = IPv6Address("2001:db8::1")
    assert client_words(address) is client_words(IPv6Address("2001:db8::1"))
    assert agent_words("curl/8") is agent_words("curl/8")
    assert client_words(address) is not client_words(None)
    assert agent_words("curl/8") is not agent_words(None)
