"""The ids of requests."""

from __future__ import annotations

import re

from proxy.web.exchange import RequestIds


def test_no_two_requests_have_one_id() -> None:
    ids = [made for maker in (RequestIds(), RequestIds()) for made in (maker.make() for _ in range(20))]
    assert len(set(ids)) == 40
    assert all(re.fullmatch("[0-9a-f]{32}", made) for made in ids)
