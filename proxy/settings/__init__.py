"""The settings: environment variables and a TOML file, read once into frozen values.

`load` reads, `Settings` is what the program holds, `describe` lists every setting.
"""

from proxy.settings.accounts import AccountSettings
from proxy.settings.accounts_folder import AccountsFolder
from proxy.settings.addresses import (
    CorsOrigins,
    ListenAddress,
    Origin,
    PublicUrl,
    RedirectHost,
    TcpAddress,
    TrustedNetworks,
    UnixAddress,
    is_loopback,
    parse_host,
    parse_listen,
)
from proxy.settings.catalogue import SettingDescription, describe
from proxy.settings.cdn import PurgeHeader, PurgeUrl
from proxy.settings.credentials import AllAccounts, ClientSettings, Scope, SigningKey, SubaccountsOf
from proxy.settings.loading import load
from proxy.settings.model import ContentMode, EventLoop, Limits, LogFormat, LogLevel, Settings
from proxy.settings.shared import SentinelService, SharedAway, SharedCacheUrl, SharedServer, problem_of
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
    "Origin",
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
    "SigningKey",
    "SubaccountsOf",
    "TcpAddress",
    "TrustedNetworks",
    "UnixAddress",
    "describe",
    "is_loopback",
    "load",
    "parse_host",
    "parse_listen",
    "problem_of",
]
