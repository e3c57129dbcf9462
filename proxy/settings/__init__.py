"""The settings: environment variables and a TOML file, read once into frozen values.

1. `load` reads every source, and raises all problems together, each under the name that the user wrote.
2. A variable wins over the file. An empty variable counts as unset. An unknown `GATEWAY_...` is a problem.
3. `NAME_FILE` names a file that holds a secret. No message repeats a value, which may be a secret in the wrong place.
4. Values are checked here and made into objects elsewhere (`app`): nothing here connects, listens or signs.
5. The folder of accounts is the one part that changes while the gateway runs (`accounts_folder`).

`model` has the settings with their descriptions; `describe` lists them, and the documents' table is made from it.
"""

from proxy.settings.accounts import AccountSettings
from proxy.settings.accounts_folder import AccountsFolder
from proxy.settings.addresses import (
    CorsOrigins,
    ListenAddress,
    PublicUrl,
    RedirectHost,
    TcpAddress,
    TrustedNetworks,
    UnixAddress,
    UrlOrigin,
    is_loopback,
    parse_host,
    parse_listen,
)
from proxy.settings.catalogue import SettingDescription, describe
from proxy.settings.cdn import PurgeHeader, PurgeUrl
from proxy.settings.credentials import AllAccounts, ClientSettings, Scope, SigningKeySettings, SubaccountsOf
from proxy.settings.loading import load
from proxy.settings.model import ContentMode, EventLoop, Limits, LogFormat, LogLevel, Settings
from proxy.settings.shared_cache import SentinelService, SharedAway, SharedCacheUrl, SharedServer, problem_of
from proxy.settings.sources import CONFIG_VARIABLE

__all__ = [
    "CONFIG_VARIABLE",
    "AccountSettings",
    "AccountsFolder",
    "AllAccounts",
    "ClientSettings",
    "ContentMode",
    "CorsOrigins",
    "EventLoop",
    "Limits",
    "ListenAddress",
    "LogFormat",
    "LogLevel",
    "PublicUrl",
    "PurgeHeader",
    "PurgeUrl",
    "RedirectHost",
    "Scope",
    "SentinelService",
    "SettingDescription",
    "Settings",
    "SharedAway",
    "SharedCacheUrl",
    "SharedServer",
    "SigningKeySettings",
    "SubaccountsOf",
    "TcpAddress",
    "TrustedNetworks",
    "UnixAddress",
    "UrlOrigin",
    "describe",
    "is_loopback",
    "load",
    "parse_host",
    "parse_listen",
    "problem_of",
]
