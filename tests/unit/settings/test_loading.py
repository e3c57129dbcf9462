"""The loading of settings: names, sources, defaults, all problems at once, and no secret in any."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from proxy.errors import SettingsError
from proxy.model import AccountSid
from proxy.settings import (
    AllAccounts,
    CorsOrigins,
    EventLoop,
    LogFormat,
    LogLevel,
    PublicUrl,
    Scope,
    SentinelService,
    TcpAddress,
    TrustedNetworks,
    UnixAddress,
    describe,
    load,
)

ACCOUNT = "AC" + "0a" * 16
SECRET = "correct-horse-battery-staple-0123456789"
OTHER = "another-horse-battery-staple-0123456789"
TWILIO = {"TWILIO_ACCOUNT_SID": ACCOUNT, "TWILIO_AUTH_TOKEN": "twilio-auth-token-value"}


def problems(environ: Mapping[str, str], config: Path | None = None) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        load(environ, config)
    return {problem.name: problem.message for problem in caught.value.problems}


def refusal(environ: Mapping[str, str]) -> SettingsError | None:
    try:
        load(environ, None)
    except SettingsError as error:
        return error
    return None


def toml(folder: Path, text: str) -> Path:
    path = folder / "gateway.toml"
    path.write_text(text, "utf-8")
    return path


# --- defaults -------------------------------------------------------------------------------------------------


def test_defaults_of_the_contract() -> None:
    settings = load({}, None)
    assert settings.listen == TcpAddress("127.0.0.1", 8080)
    assert str(settings.public_url) == "http://127.0.0.1:8080"
    assert (settings.link_ttl, settings.link_max_ttl, settings.link_window) == (300, 86_400, 60)
    assert (settings.cache_bytes, settings.memory_bytes) == (10_000_000_000, 256_000_000)
    assert settings.max_media_bytes == 100_000_000
    assert settings.cache_dir.is_absolute()
    assert settings.cache_dir.name == "media-gateway"
    assert (settings.cdn, settings.console, settings.cache_request_directives) == (False, False, False)
    assert settings.cors_origins == CorsOrigins()
    assert settings.trusted_proxies == TrustedNetworks()
    assert settings.auth_header == "X-Original-URI"
    assert settings.loop is None
    assert settings.drain_seconds == 20
    assert (settings.log_format, settings.log_level) == (LogFormat.TEXT, LogLevel.INFO)
    assert (settings.signing_keys, settings.accounts, settings.clients) == ((), (), ())


def test_defaults_of_the_limits() -> None:
    assert load({}, None).limits.model_dump() == {
        "connections": 10_000,
        "header_seconds": 15,
        "body_seconds": 30,
        "send_seconds": 60,
        "keepalive_seconds": 75,
        "request_body_bytes": 1_000_000,
        "bad_signatures": 60,
        "upstream_connections": 32,
        "fills": 1_024,
        "connect_seconds": 5,
        "headers_seconds": 15,
        "idle_seconds": 30,
        "total_seconds": 300,
        "json_seconds": 15,
        "retry_seconds": 10,
        "breaker_failures": 10,
        "breaker_window_seconds": 10,
        "breaker_pause_seconds": 5,
        "breaker_longest_pause_seconds": 60,
        "unread_fills": 64,
        "unread_fills_per_account": 24,
        "shared_bytes": 16_000_000,
        "revocations": 100_000,
        "shared_seconds": 1,
    }


def test_defaults_of_freshness() -> None:
    settings = load({}, None)
    assert settings.cache_default_ttl == 86_400
    assert settings.cache_min_ttl == 0
    assert settings.cache_stale_while_revalidate == 0
    assert settings.cache_stale_if_error == 0
    assert settings.cache_object_memory_bytes == 1_000_000


def test_settings_are_immutable() -> None:
    settings = load({}, None)
    with pytest.raises(ValidationError):
        settings.cdn = True  # type: ignore[misc]
    with pytest.raises(ValidationError):
        settings.limits.fills = 1  # type: ignore[misc]


# --- every variable reaches its field -------------------------------------------------------------------------


def test_variables_reach_their_fields() -> None:
    settings = load(
        {
            "GATEWAY_LISTEN": "[::1]:9000",
            "GATEWAY_PUBLIC_URL": "https://Media.Example.com/mms/",
            "GATEWAY_SIGNING_KEYS": f"k2:{SECRET},k1:{OTHER}",
            "GATEWAY_CLIENTS": f"app:{SECRET}",
            "GATEWAY_LINK_TTL": "10",
            "GATEWAY_LINK_MAX_TTL": "20",
            "GATEWAY_LINK_WINDOW": "5",
            "GATEWAY_CACHE_DIR": "/var/cache/gateway",
            "GATEWAY_CACHE_BYTES": "1GB",
            "GATEWAY_MEMORY_BYTES": "0",
            "GATEWAY_MAX_MEDIA_BYTES": "64KiB",
            "GATEWAY_CACHE_DEFAULT_TTL": "1",
            "GATEWAY_CACHE_MIN_TTL": "2",
            "GATEWAY_CACHE_STALE_WHILE_REVALIDATE": "3",
            "GATEWAY_CACHE_STALE_IF_ERROR": "4",
            "GATEWAY_CACHE_OBJECT_MEMORY_BYTES": "5",
            "GATEWAY_CACHE_REQUEST_DIRECTIVES": "1",
            "GATEWAY_CDN": "1",
            "GATEWAY_CORS_ORIGINS": "https://app.example.com",
            "GATEWAY_TRUSTED_PROXIES": "unix",
            "GATEWAY_AUTH_HEADER": "X-Forwarded-Uri",
            "GATEWAY_CONSOLE": "1",
            "GATEWAY_LOOP": "asyncio",
            "GATEWAY_DRAIN_SECONDS": "0",
            "GATEWAY_LOG_FORMAT": "json",
            "GATEWAY_LOG_LEVEL": "debug",
            "GATEWAY_LIMIT_FILLS": "7",
        },
        None,
    )
    assert settings.listen == TcpAddress("::1", 9000)
    assert settings.public_url == PublicUrl("https://media.example.com", "/mms")
    assert [(key.kid, key.secret.get_secret_value()) for key in settings.signing_keys] == [
        ("k2", SECRET),
        ("k1", OTHER),
    ]
    assert [client.id for client in settings.clients] == ["app"]
    assert (settings.link_ttl, settings.link_max_ttl, settings.link_window) == (10, 20, 5)
    assert settings.cache_dir == Path("/var/cache/gateway")
    assert (settings.cache_bytes, settings.memory_bytes, settings.max_media_bytes) == (10**9, 0, 65_536)
    assert (settings.cache_default_ttl, settings.cache_min_ttl) == (1, 2)
    assert (settings.cache_stale_while_revalidate, settings.cache_stale_if_error) == (3, 4)
    assert settings.cache_object_memory_bytes == 5
    assert (settings.cache_request_directives, settings.cdn, settings.console) == (True, True, True)
    assert settings.cors_origins.allows("https://app.example.com")
    assert settings.trusted_proxies.unix
    assert settings.auth_header == "X-Forwarded-Uri"
    assert settings.loop is EventLoop.ASYNCIO
    assert settings.drain_seconds == 0
    assert (settings.log_format, settings.log_level) == (LogFormat.JSON, LogLevel.DEBUG)
    assert settings.limits.fills == 7


def test_the_file_takes_the_same_names_in_lower_case(tmp_path: Path) -> None:
    config = toml(
        tmp_path,
        f"""
        gateway_listen = "unix:/run/gateway.sock"
        gateway_public_url = "https://media.example.com"
        gateway_link_ttl = 30
        gateway_cdn = true
        gateway_console = 1
        gateway_cache_bytes = "2GB"
        gateway_limit_fills = 3
        gateway_trusted_proxies = ["10.0.0.0/8", "unix"]
        gateway_signing_keys = ["k1:{SECRET}"]
        twilio_account_sid = "{ACCOUNT}"
        twilio_auth_token = "token"
        """,
    )
    settings = load({}, config)
    assert settings.listen == UnixAddress(PurePosixPath("/run/gateway.sock"))
    assert (settings.link_ttl, settings.cdn, settings.console, settings.limits.fills) == (30, True, True, 3)
    assert settings.cache_bytes == 2 * 10**9
    assert settings.trusted_proxies.unix
    assert len(settings.trusted_proxies.networks) == 1
    assert settings.signing_keys[0].kid == "k1"
    assert str(settings.accounts[0].sid) == ACCOUNT


def test_a_variable_wins_over_the_file(tmp_path: Path) -> None:
    config = toml(tmp_path, 'gateway_link_ttl = 30\ngateway_link_window = 30\nsignalwire_space_url = "fromfile"')
    settings = load(
        {
            "GATEWAY_LINK_TTL": "40",
            "SIGNALWIRE_SPACE": "fromenv",
            "SIGNALWIRE_PROJECT_ID": "11111111-2222-3333-4444-555555555555",
            "SIGNALWIRE_TOKEN": "t",
        },
        config,
    )
    assert (settings.link_ttl, settings.link_window) == (40, 30)
    assert settings.accounts[0].origin == "https://fromenv.signalwire.com"


def test_a_bad_value_in_the_file_yields_to_a_variable(tmp_path: Path) -> None:
    config = toml(tmp_path, 'gateway_link_ttl = "x"\ngateway_signing_keys_file = "/nowhere/at/all"')
    settings = load({"GATEWAY_LINK_TTL": "40", "GATEWAY_SIGNING_KEYS": f"k:{SECRET}"}, config)
    assert settings.link_ttl == 40


def test_an_empty_variable_is_unset(tmp_path: Path) -> None:
    config = toml(tmp_path, "gateway_link_ttl = 30")
    assert load({"GATEWAY_LINK_TTL": "", "GATEWAY_CLIENTS": " "}, config).link_ttl == 30


def test_the_process_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GATEWAY_CDN", "CDN", "cdn", "LISTEN", "ACCOUNTS"):
        monkeypatch.setenv(name, "1")
    assert "CDN" in os.environ
    assert load({}, None).cdn is False


def test_other_variables_are_left_alone() -> None:
    load({"PATH": "/bin", "TWILIO_PHONE_NUMBER": "+15005550006", "gateway_listen": "lower case is no variable"}, None)


# --- problems -------------------------------------------------------------------------------------------------


def test_all_problems_are_reported_together_under_their_written_names(tmp_path: Path) -> None:
    config = toml(
        tmp_path,
        f"""
        gateway_cdn = "perhaps"
        gateway_shared_cash = "x"
        twilio_api_key = "SK123"
        [[accounts]]
        provider = "twilio"
        account_sid = "{ACCOUNT}"
        password = "p"
        origin = "http://example.com"
        nick = "name"
        [[clients]]
        id = "a b"
        """,
    )
    found = problems(
        {
            "GATEWAY_LISTEN": "nonsense",
            "GATEWAY_LISTN": "127.0.0.1:80",
            "GATEWAY_LINK_TTL": "500",
            "GATEWAY_LINK_MAX_TTL": "400",
            "GATEWAY_LIMIT_FILLS": "0",
            "GATEWAY_SIGNING_KEYS_FILE": str(tmp_path / "none"),
        },
        config,
    )
    assert set(found) == {
        "gateway_cdn",
        "gateway_shared_cash",
        "twilio_api_key",
        "TWILIO_ACCOUNT_SID",
        "TWILIO_API_SECRET",
        "accounts[0].origin",
        "accounts[0].nick",
        "clients[0].id",
        "clients[0].scopes",
        "clients[0].accounts",
        "GATEWAY_LISTEN",
        "GATEWAY_LISTN",
        "GATEWAY_LINK_TTL",
        "GATEWAY_LIMIT_FILLS",
        "GATEWAY_SIGNING_KEYS_FILE",
    } - {"twilio_api_key"}
    assert found["clients[0].scopes"] == "is required"


def test_an_unknown_variable_suggests_the_near_one() -> None:
    assert "GATEWAY_LISTEN" in problems({"GATEWAY_LISTN": "x"})["GATEWAY_LISTN"]
    assert problems({"GATEWAY_QQQQQQQQQQQQ": "x"}) == {"GATEWAY_QQQQQQQQQQQQ": "is not a setting"}


def test_an_unknown_key_of_the_file_suggests_the_near_one(tmp_path: Path) -> None:
    found = problems({}, toml(tmp_path, 'gateway_listn = "x"\nGATEWAY_LISTEN = "127.0.0.1:1"'))
    assert "gateway_listen" in found["gateway_listn"]
    assert set(found) == {"gateway_listn", "GATEWAY_LISTEN"}


@pytest.mark.parametrize(
    "name",
    [
        "GATEWAY_LIMITS",
        "GATEWAY_ACCOUNTS",
        "GATEWAY_LISTEN_FILE",
        "GATEWAY_LIMIT_",
        "GATEWAY_",
    ],
)
def test_what_is_no_setting_is_refused(name: str) -> None:
    assert problems({name: "1"})[name].startswith("is not a setting")


def test_a_default_of_a_bad_field_is_not_a_problem() -> None:
    assert set(problems({"GATEWAY_LINK_MAX_TTL": "x", "GATEWAY_LISTEN": "x"})) == {
        "GATEWAY_LINK_MAX_TTL",
        "GATEWAY_LISTEN",
    }


@pytest.mark.parametrize("text", ["a = ", 'gateway_cdn = "1" x', "[[accounts]"])
def test_a_file_that_is_no_toml(tmp_path: Path, text: str) -> None:
    config = toml(tmp_path, text)
    assert problems({}, config)[str(config)].startswith("is not TOML")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    config = tmp_path / "none.toml"
    found = problems({"GATEWAY_CDN": "x"}, config)
    assert found[str(config)] == "cannot be read: No such file or directory"
    assert "GATEWAY_CDN" in found


def test_a_file_that_is_not_utf_8(tmp_path: Path) -> None:
    config = tmp_path / "latin.toml"
    config.write_bytes(b'gateway_cdn = "\xe9"')
    assert problems({}, config) == {str(config): "is not UTF-8"}


@pytest.mark.parametrize("kind", ["accounts", "clients"])
@pytest.mark.parametrize("text", ["{} = 1", "[{}]", "{} = [1]"])
def test_accounts_and_clients_are_arrays_of_tables(tmp_path: Path, kind: str, text: str) -> None:
    assert set(problems({}, toml(tmp_path, text.format(kind)))) == {kind}


# --- links ----------------------------------------------------------------------------------------------------


def test_a_link_lives_no_longer_than_the_longest() -> None:
    assert load({"GATEWAY_LINK_TTL": "86400"}, None).link_ttl == 86_400
    assert set(problems({"GATEWAY_LINK_TTL": "86401"})) == {"GATEWAY_LINK_TTL"}


def test_the_default_life_follows_a_shorter_longest_life() -> None:
    assert load({"GATEWAY_LINK_MAX_TTL": "60"}, None).link_ttl == 60


@pytest.mark.parametrize("name", ["GATEWAY_LINK_TTL", "GATEWAY_LINK_MAX_TTL", "GATEWAY_LINK_WINDOW"])
@pytest.mark.parametrize("text", ["0", "-1", "1.5", "1e3", "٣", "99999999999999999999", "true"])
def test_times_of_links_are_whole_seconds_of_one_or_more(name: str, text: str) -> None:
    assert name in problems({name: text})


# --- public URL -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("listen", ["0.0.0.0:8080", "[::]:8080", "unix:/run/g.sock"])
def test_a_wildcard_or_a_unix_socket_requires_a_public_url(listen: str) -> None:
    assert set(problems({"GATEWAY_LISTEN": listen})) == {"GATEWAY_PUBLIC_URL"}
    assert load({"GATEWAY_LISTEN": listen, "GATEWAY_PUBLIC_URL": "https://m.example"}, None).public_url.mount == ""


def test_the_default_public_url_has_the_port_that_was_bound() -> None:
    settings = load({"GATEWAY_LISTEN": "[::1]:0"}, None).at_port(4321)
    assert settings.listen == TcpAddress("::1", 4321)
    assert str(settings.public_url) == "http://[::1]:4321"


def test_a_written_public_url_stays_when_a_port_is_bound() -> None:
    settings = load({"GATEWAY_LISTEN": "127.0.0.1:0", "GATEWAY_PUBLIC_URL": "https://m.example/x"}, None).at_port(1)
    assert settings.listen == TcpAddress("127.0.0.1", 1)
    assert str(settings.public_url) == "https://m.example/x"


@pytest.mark.parametrize("listen", ["127.0.0.1:80", "unix:/run/g.sock"])
def test_a_fixed_address_stays(listen: str) -> None:
    settings = load({"GATEWAY_LISTEN": listen, "GATEWAY_PUBLIC_URL": "https://m.example"}, None)
    assert settings.at_port(5) is settings


# --- secrets --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_every_secret_is_read_from_a_file(tmp_path: Path, ending: str) -> None:
    contents = {
        "GATEWAY_SIGNING_KEYS": f"k1:{SECRET}",
        "GATEWAY_CLIENTS": f"app:{SECRET}",
        "TWILIO_AUTH_TOKEN": "twilio-token",
        "TWILIO_API_SECRET": "api-secret",
        "SIGNALWIRE_API_TOKEN": "signalwire-token",
        "GATEWAY_CDN_PURGE_HEADER": "Fastly-Key: purge-token",
        "GATEWAY_SHARED_CACHE": "redis+sentinel://:redis-password@127.0.0.1/media/1",
        "GATEWAY_SHARED_CACHE_SENTINEL_PASSWORD": "sentinel-password",
    }
    environ = {
        "GATEWAY_CDN": "1",
        "GATEWAY_CDN_PURGE_URL": "https://api.example.com/purge",
        "TWILIO_ACCOUNT_SID": ACCOUNT,
        "TWILIO_API_KEY": "SK1",
        "SIGNALWIRE_SPACE": "example",
        "SIGNALWIRE_PROJECT_ID": "11111111-2222-3333-4444-555555555555",
    }
    for name, content in contents.items():
        path = tmp_path / name
        path.write_bytes((content + ending).encode())
        environ[f"{name}_FILE"] = str(path)
    settings = load(environ, None)
    assert settings.signing_keys[0].secret.get_secret_value() == SECRET
    client = settings.clients[0].secret
    assert client is not None
    assert client.get_secret_value() == SECRET
    assert [account.password.get_secret_value() for account in settings.accounts] == ["api-secret", "signalwire-token"]
    assert settings.cdn_purge_header is not None
    assert settings.cdn_purge_header.value.get_secret_value() == "purge-token"
    server = settings.shared_server
    assert isinstance(server, SentinelService)
    assert server.password == SecretStr("redis-password")
    assert server.sentinel_password == SecretStr("sentinel-password")
    assert {described.name for described in describe() if described.secret} == set(contents)


def test_secret_files_are_named_in_the_file_too(tmp_path: Path) -> None:
    secret = tmp_path / "keys"
    secret.write_text(f"k1:{SECRET}\n")
    settings = load({}, toml(tmp_path, f'gateway_signing_keys_file = "{secret}"'))
    assert settings.signing_keys[0].secret.get_secret_value() == SECRET


def test_the_file_of_an_alias(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("signalwire-token\n")
    environ = {"SIGNALWIRE_SPACE_URL": "x", "SIGNALWIRE_PROJECT_ID": "11111111-2222-3333-4444-555555555555"}
    settings = load(environ | {"SIGNALWIRE_TOKEN_FILE": str(tmp_path / "token")}, None)
    assert settings.accounts[0].password.get_secret_value() == "signalwire-token"


def test_a_secret_and_its_file_exclude_each_other(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"k1:{SECRET}")
    environ = {"GATEWAY_SIGNING_KEYS": f"k1:{SECRET}", "GATEWAY_SIGNING_KEYS_FILE": str(tmp_path / "keys")}
    found = problems(environ)
    assert set(found) == {"GATEWAY_SIGNING_KEYS_FILE"}
    assert "GATEWAY_SIGNING_KEYS;" in found["GATEWAY_SIGNING_KEYS_FILE"]


def test_an_unreadable_secret_file_is_reported_without_its_path(tmp_path: Path) -> None:
    found = problems({"TWILIO_ACCOUNT_SID": ACCOUNT, "TWILIO_AUTH_TOKEN_FILE": str(tmp_path / "a-secret-by-mistake")})
    assert found == {"TWILIO_AUTH_TOKEN_FILE": "the file it names cannot be read: No such file or directory"}


@pytest.mark.parametrize(("content", "said"), [(b"\xff\xfe", "UTF-8"), (b"x" * 1_000_001, "larger")])
def test_a_secret_file_is_bounded_text(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "keys").write_bytes(content)
    assert said in problems({"GATEWAY_CLIENTS_FILE": str(tmp_path / "keys")})["GATEWAY_CLIENTS_FILE"]


def test_a_secret_file_is_named_by_text(tmp_path: Path) -> None:
    assert problems({}, toml(tmp_path, "gateway_clients_file = 1")) == {"gateway_clients_file": "expected text"}


def test_no_secret_stands_in_a_repr(tmp_path: Path) -> None:
    config = toml(
        tmp_path,
        f"""
        [[clients]]
        id = "hashed"
        secret_hash = "sha256:{"ab" * 16}:{"cd" * 32}"
        scopes = ["mint"]
        accounts = ["*"]
        """,
    )
    environ = {**TWILIO, "GATEWAY_SIGNING_KEYS": f"k1:{SECRET}", "GATEWAY_CLIENTS": f"app:{OTHER}"}
    settings = load(environ, config)
    for shown in (repr(settings), str(settings), repr(settings.accounts), repr(settings.clients)):
        for secret in (SECRET, OTHER, TWILIO["TWILIO_AUTH_TOKEN"], "cd" * 32):
            assert secret not in shown


_names = st.sampled_from([described.name for described in describe()])


@given(st.dictionaries(_names, st.just("zq-" + "7" * 9), min_size=1, max_size=6))
def test_no_problem_repeats_a_value(environ: dict[str, str]) -> None:
    error = refusal(environ)
    assert "zq-" not in f"{error} {error!r} {error.problems if error else ()!r}"


@given(st.dictionaries(_names, st.text(max_size=40), max_size=4))
def test_any_text_gives_settings_or_a_settings_error(environ: dict[str, str]) -> None:
    error = refusal(environ)
    if error is not None:
        assert error.problems
        assert {problem.name for problem in error.problems} <= {described.name for described in describe()}


# --- signing keys and clients ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "k1",
        f":{SECRET}",
        f"k 1:{SECRET}",
        f"{'k' * 65}:{SECRET}",
        "k1:" + "s" * 31,
        "k1:" + "s" * 1025,
        f"k1:{SECRET},k1:{OTHER}",
        f"k1:{SECRET},{OTHER}",
        f"ké:{SECRET}",
        f"k1:{SECRET}\x00",
    ],
)
@pytest.mark.parametrize("name", ["GATEWAY_SIGNING_KEYS", "GATEWAY_CLIENTS"])
def test_bad_keys_and_clients_are_refused(name: str, text: str) -> None:
    assert set(problems({name: text})) == {name}


def test_a_key_holds_colons_and_drops_white_space_around_it() -> None:
    settings = load({"GATEWAY_SIGNING_KEYS": f" {'k' * 64}:{'s' * 32}:\n, k.2_-:{'t' * 1024} ,"}, None)
    assert [(key.kid, key.secret.get_secret_value()) for key in settings.signing_keys] == [
        ("k" * 64, "s" * 32 + ":"),
        ("k.2_-", "t" * 1024),
    ]


def test_a_client_of_the_variable_mints_reads_and_deletes_everywhere() -> None:
    client = load({"GATEWAY_CLIENTS": f"app:{SECRET}"}, None).clients[0]
    assert client.scopes == {Scope.MINT, Scope.READ, Scope.DELETE}
    assert client.accounts is AllAccounts.ALL


def client_table(**changed: str) -> str:
    table = {"id": '"app"', "secret": f'"{SECRET}"', "scopes": '["observe", "purge"]', "accounts": f'["{ACCOUNT}"]'}
    return "[[clients]]\n" + "\n".join(f"{key} = {value}" for key, value in (table | changed).items() if value)


def test_a_client_table(tmp_path: Path) -> None:
    client = load({}, toml(tmp_path, client_table())).clients[0]
    assert client.secret is not None
    assert client.secret.get_secret_value() == SECRET
    assert client.scopes == {Scope.OBSERVE, Scope.PURGE}
    assert client.accounts == frozenset({AccountSid.parse(ACCOUNT)})


def test_a_client_table_with_a_hash_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET + "\n")
    hashed = f"sha256:{'0' * 32}:{'1' * 64}"
    text = client_table(id='"a"', secret="", secret_hash=f'"{hashed}"') + "\n"
    text += client_table(id='"b"', secret="", secret_file=f'"{tmp_path / "secret"}"')
    first, second = load({}, toml(tmp_path, text)).clients
    assert first.secret is None
    assert first.secret_hash is not None
    assert first.secret_hash.get_secret_value() == hashed
    assert second.secret is not None
    assert second.secret.get_secret_value() == SECRET


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"secret": ""}, "secret"),
        ({"secret": f'"{"s" * 31}"'}, "secret"),
        ({"secret": f'"{"s" * 31},x"'}, "secret"),
        ({"secret": "1"}, "secret"),
        ({"secret_hash": f'"sha256:{"0" * 32}:{"1" * 64}"'}, "secret"),
        ({"secret": "", "secret_hash": '"sha256:00:11"'}, "secret_hash"),
        ({"secret": "", "secret_hash": f'"md5:{"0" * 32}:{"1" * 64}"'}, "secret_hash"),
        ({"secret_file": '"/nowhere"'}, "secret_file"),
        ({"secret": "", "secret_file": '"/nowhere"'}, "secret_file"),
        ({"scopes": ""}, "scopes"),
        ({"scopes": "[]"}, "scopes"),
        ({"scopes": '["admin"]'}, "scopes"),
        ({"scopes": "[1]"}, "scopes"),
        ({"accounts": ""}, "accounts"),
        ({"accounts": "[]"}, "accounts"),
        ({"accounts": '["nobody"]'}, "accounts"),
        ({"accounts": f'["*", "{ACCOUNT}"]'}, "accounts"),
        ({"id": ""}, "id"),
        ({"id": '"a:b"'}, "id"),
        ({"name": '"x"'}, "name"),
    ],
)
def test_bad_client_tables_are_refused(tmp_path: Path, changed: dict[str, str], name: str) -> None:
    assert set(problems({}, toml(tmp_path, client_table(**changed)))) == {f"clients[0].{name}"}


def test_an_unreadable_secret_does_not_hide_other_problems(tmp_path: Path) -> None:
    found = problems({}, toml(tmp_path, client_table(secret="", secret_file='"/nowhere"', scopes="[]")))
    assert set(found) == {"clients[0].secret_file", "clients[0].scopes"}


def test_clients_of_both_places_are_joined_each_once(tmp_path: Path) -> None:
    environ = {"GATEWAY_CLIENTS": f"first:{SECRET}"}
    joined = load(environ, toml(tmp_path, client_table()))
    assert [client.id for client in joined.clients] == ["first", "app"]
    assert set(problems(environ, toml(tmp_path, client_table(id='"first"')))) == {"clients[0].id"}


# --- serving --------------------------------------------------------------------------------------------------


def test_serving_needs_a_signing_key_and_an_account() -> None:
    with pytest.raises(SettingsError) as caught:
        load({}, None).require_serving()
    assert [problem.name for problem in caught.value.problems] == ["GATEWAY_SIGNING_KEYS", "accounts"]
    assert "TWILIO_ACCOUNT_SID" in str(caught.value)
    load({**TWILIO, "GATEWAY_SIGNING_KEYS": f"k1:{SECRET}"}, None).require_serving()


# --- the list of settings -------------------------------------------------------------------------------------


def test_every_setting_is_described_once_with_its_default() -> None:
    described = {setting.name: setting for setting in describe()}
    assert len(described) == len(describe())
    assert all(setting.meaning and setting.default for setting in described.values())
    defaults = {name: setting.default for name, setting in described.items()}
    assert defaults["GATEWAY_LISTEN"] == "127.0.0.1:8080"
    assert defaults["GATEWAY_CACHE_BYTES"] == "10GB"
    assert defaults["GATEWAY_CDN"] == "0"
    assert defaults["GATEWAY_LOG_LEVEL"] == "info"
    assert defaults["GATEWAY_LIMIT_FILLS"] == "1024"
    assert defaults["GATEWAY_CLIENTS"] == "none"
    assert defaults["TWILIO_EDGE"] == "none"
    assert defaults["GATEWAY_SIGNING_KEYS"] == "required to serve"


def test_every_described_number_is_a_value_that_gives_the_default() -> None:
    written = {setting.name: setting.default for setting in describe() if setting.default[0].isdigit()}
    del written["GATEWAY_LINK_TTL"]
    assert load(written, None) == load({}, None)


def test_an_unknown_scope_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    found = problems({}, toml(tmp_path, client_table(scopes='["zq-777"]')))
    assert "mint, read, delete, purge, revoke, observe" in found["clients[0].scopes"]
    assert "zq-777" not in found["clients[0].scopes"]
