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
    """Return the options of `media_sandbox`: Twilio's profile, and no message. Override it to have others."""
    from proxy.sandbox import SandboxOptions

    return SandboxOptions(seed=False)


@pytest.fixture
def media_sandbox(media_sandbox_options: SandboxOptions) -> Iterator[MediaSandbox]:
    """Run a sandbox; see `proxy.testing.MediaSandbox`."""
    from proxy.testing import running_sandbox

    with running_sandbox(media_sandbox_options) as sandbox:
        yield sandbox


@pytest.fixture
def media_gateway_settings() -> Mapping[str, str]:
    """Return environment variables for `media_gateway` besides its own. Override it to set some."""
    return {}


@pytest.fixture
def media_gateway(media_sandbox: MediaSandbox, media_gateway_settings: Mapping[str, str]) -> Iterator[MediaGateway]:
    """Run a gateway in front of `media_sandbox`; see `proxy.testing.MediaGateway`."""
    from proxy.testing import running_gateway

    with running_gateway(media_sandbox, media_gateway_settings) as gateway:
        yield gateway
