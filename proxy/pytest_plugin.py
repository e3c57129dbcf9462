"""Fixtures for pytest: a sandbox that stands in for the provider, and a gateway in front of it, new for each test.

This module is loaded by every pytest run of an environment with the package in it: what a fixture needs is imported
when a test asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from proxy.sandbox import SandboxOptions
    from proxy.testing import MediaGateway, MediaSandbox


@pytest.fixture
def media_sandbox_options() -> SandboxOptions:
    """What `media_sandbox` is started with: Twilio's profile, and no message. Define it anew to have another."""
    from proxy.sandbox import SandboxOptions

    return SandboxOptions(seed=False)


@pytest.fixture
def media_sandbox(media_sandbox_options: SandboxOptions) -> Iterator[MediaSandbox]:
    """A running sandbox upstream; see `proxy.testing.MediaSandbox`."""
    from proxy.testing import running_sandbox

    with running_sandbox(media_sandbox_options) as sandbox:
        yield sandbox


@pytest.fixture
def media_gateway_settings() -> Mapping[str, str]:
    """Environment variables that `media_gateway` is started with besides its own. Define it anew to set some."""
    return {}


@pytest.fixture
def media_gateway(media_sandbox: MediaSandbox, media_gateway_settings: Mapping[str, str]) -> Iterator[MediaGateway]:
    """A running gateway in front of `media_sandbox`; see `proxy.testing.MediaGateway`."""
    from proxy.testing import running_gateway

    with running_gateway(media_sandbox, media_gateway_settings) as gateway:
        yield gateway
