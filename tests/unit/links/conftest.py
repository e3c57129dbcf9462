from __future__ import annotations

import pytest

from proxy.links import KeyRing, LinkPolicy, SigningKey
from proxy.model import MediaRef


@pytest.fixture(scope="session")
def ring() -> KeyRing:
    return KeyRing([SigningKey("new", "n" * 32), SigningKey("old", "o" * 32)])


@pytest.fixture(scope="session")
def policy() -> LinkPolicy:
    return LinkPolicy()


@pytest.fixture(scope="session")
def ref() -> MediaRef:
    return MediaRef.parse("AC" + "a1" * 16, "MM" + "b2" * 16, "ME" + "c3" * 16)
