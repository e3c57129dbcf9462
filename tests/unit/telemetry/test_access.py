"""The facts of an access line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.telemetry.access import Access

SIGNATURE = "mAwW9JmAUwEE6AFAxXs-ksNfqwiPkkffTcH0xNjwiE4"


def access(**changes: str | float | bool | None) -> Access:
    told: dict[str, str | float | bool | None] = {
        "request_id": "r" * 32, "client": "203.0.113.7", "method": "GET", "target": "/healthz", "status": 200,
        "sent": 12, "seconds": 0.123456, **changes,
    }  # fmt: skip
    return Access(**told)  # type: ignore[arg-type]


def test_every_fact_has_its_name() -> None:
    facts = access(user_agent="curl/8", client_id="backend", cache="media-gateway; hit", kind="link-expired").facts()
    assert facts == {
        "client": "203.0.113.7", "method": "GET", "target": "/healthz", "status": 200, "bytes": 12,
        "seconds": 0.1235, "cache": "media-gateway; hit", "problem": "link-expired", "client_id": "backend",
        "user_agent": "curl/8", "request_id": "r" * 32,
    }  # fmt: skip


def test_what_is_absent_is_left_out_and_a_cut_is_told() -> None:
    assert access(client=None, aborted=True).facts() == {
        "method": "GET", "target": "/healthz", "status": 200, "bytes": 12, "seconds": 0.1235, "aborted": True,
        "request_id": "r" * 32,
    }  # fmt: skip


@given(st.integers(200, 260) | st.integers(1_990, 2_050))
def test_no_part_of_a_signature_is_left_where_long_text_is_cut(length: int) -> None:
    text = "a/" * (length // 2) + "?x=" + SIGNATURE
    facts = access(target=text, user_agent=text).facts()
    for name, longest in (("target", 2_048), ("user_agent", 256)):
        left = str(facts[name])
        assert len(left) <= longest
        assert SIGNATURE[:8] not in left
