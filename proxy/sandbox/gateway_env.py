"""What a gateway is told to stand in front of a sandbox."""

from __future__ import annotations

from typing import assert_never

from proxy.model import Provider
from proxy.sandbox.sandbox import Sandbox


def gateway_account(sandbox: Sandbox) -> dict[str, str]:
    """The environment variables that make a running sandbox the gateway's one account."""
    match sandbox.options.profile:
        case Provider.TWILIO:
            account = {
                "TWILIO_ACCOUNT_SID": sandbox.account_sid,
                "TWILIO_AUTH_TOKEN": sandbox.auth_token,
                "GATEWAY_UPSTREAM_URL": sandbox.api_url,
            }
        case Provider.SIGNALWIRE:
            account = {
                "SIGNALWIRE_SPACE": sandbox.api_url,
                "SIGNALWIRE_PROJECT_ID": sandbox.account_sid,
                "SIGNALWIRE_API_TOKEN": sandbox.auth_token,
            }
        case _:
            assert_never(sandbox.options.profile)
    return {**account, "GATEWAY_REDIRECT_HOSTS": sandbox.cdn_host}
