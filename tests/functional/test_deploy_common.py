"""The parts that the shipped nginx sites have in common."""

from __future__ import annotations

import re

import pytest

from tests.functional.edges import shipped

PLAIN = "media-gateway.conf"
GUARDED = ("media-gateway-files.conf", "media-gateway-edge.conf")


def directives(site: str, pattern: str) -> list[str]:
    """Return the lines with a directive of that form, in order, at the level of the server."""
    return re.findall(rf"^    ((?:{pattern})\b[^\n]*)$", shipped(site), re.MULTILINE)


@pytest.mark.parametrize("site", GUARDED)
@pytest.mark.parametrize(
    "pattern",
    [
        "proxy_set_header", "proxy_(?!set_header|cache)\\w+", "client_max_body_size|send_timeout|gzip",
        "access_log|error_log", "server|keepalive|keepalive_timeout",
    ],
)  # fmt: skip
def test_each_site_passes_on_the_same_in_the_same_way(site: str, pattern: str) -> None:
    assert directives(PLAIN, pattern)
    assert directives(site, pattern) == directives(PLAIN, pattern)


def test_the_question_is_the_same_in_both() -> None:
    asked = [re.search(r"location = /media-gateway-auth \{.*?\n    \}", shipped(site), re.DOTALL) for site in GUARDED]
    assert asked[0] is not None
    assert asked[1] is not None
    assert asked[0][0] == asked[1][0]
