"""`traceparent` (W3C Trace Context §3.2): one good value names a trace, and nothing else does."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.semantics.trace_context import trace_id

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{PARENT}-01"
HEX = st.text("0123456789abcdef", min_size=1)


@pytest.mark.parametrize("start", ["00", "01", "cc", "fe"])
def test_w3c_s3_2_a_good_value_names_its_trace(start: str) -> None:
    assert [trace_id([f"{start}-{TRACE}-{PARENT}-{flags}"]) for flags in ("00", "01", "ff")] == [TRACE] * 3


def test_w3c_s3_2_4_later_versions_may_say_more() -> None:
    assert trace_id([f"01-{TRACE}-{PARENT}-01-more.of-it"]) == TRACE
    assert trace_id([f"01-{TRACE}-{PARENT}-01."]) is None


@pytest.mark.parametrize(
    "value",
    [
        "",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE[1:]}-{PARENT}-01",
        f"0-{TRACE}-{PARENT}-01",
        f" {GOOD}",
        f"{GOOD}\n",
        f"{GOOD}, {GOOD}",
        f"00-{TRACE[:-1]}\N{FULLWIDTH DIGIT ONE}-{PARENT}-01",
        f"01-{TRACE}-{PARENT}-01-{'x' * 201}",
    ],
)
def test_w3c_s3_2_any_other_value_names_none(value: str) -> None:
    assert trace_id([value]) is None


def test_none_or_several_values_name_none() -> None:
    assert trace_id([]) is None
    assert trace_id([GOOD, GOOD]) is None


@given(st.one_of(st.text(), st.tuples(HEX, HEX, HEX, HEX).map("-".join), st.just(GOOD).map(str.swapcase)))
def test_any_value_gives_32_hex_digits_of_it_or_none(value: str) -> None:
    found = trace_id([value])
    assert found is None or (re.fullmatch(r"[0-9a-f]{32}", found) is not None and found in value)
