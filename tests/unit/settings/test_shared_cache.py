"""The address of the shared tier."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from proxy.errors import SettingsError
from proxy.settings import SentinelService, Settings, SharedAway, load, problem_of
from proxy.settings.shared_cache import parse_shared_cache

SERVING = {
    "TWILIO_ACCOUNT_SID": "AC" + "a" * 32,
    "TWILIO_AUTH_TOKEN": "twilio-token",
    "GATEWAY_SIGNING_KEYS": "k1:" + "s" * 32,
}


def shared(url: str) -> Settings:
    return load({**SERVING, "GATEWAY_SHARED_CACHE": url}, None)


def refused(url: str) -> str:
    with pytest.raises(SettingsError) as caught:
        shared(url)
    (problem,) = caught.value.problems
    assert problem.name == "GATEWAY_SHARED_CACHE"
    return problem.message


def test_nothing_is_shared_unless_told() -> None:
    settings = load({}, None)
    assert settings.shared_cache is None
    assert settings.limits.shared_bytes == 16_000_000


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://127.0.0.1", "redis://127.0.0.1"),
        ("redis://user:p%40ss@redis.example:6380/2", "redis://redis.example:6380"),
        ("redis://:password@[::1]:6380?db=3", "redis://::1:6380"),
        ("rediss://redis.example/1?ssl_ca_certs=/etc/ca.pem", "rediss://redis.example"),
        ("unix:///run/redis/redis.sock?db=1", "unix:///run/redis/redis.sock"),
        ("unix://user:password@/run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_a_redis_is_named_by_its_url_without_the_password(url: str, place: str) -> None:
    found = shared(url).shared_cache
    assert found is not None
    assert (found.url.get_secret_value(), found.place) == (url, place)
    assert not any(text in repr(found) for text in ("password", "p%40ss", "p@ss"))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1",
        "redis:///0",
        "redis://127.0.0.1:port",
        "redis://127.0.0.1/name",
        "redis://127.0.0.1?db=one",
        "redis://127.0.0.1#part",
        "unix://host/run/redis.sock",
        "unix:run/redis.sock",
        "rediss://[::1",
    ],
)
def test_a_bad_redis_url_is_refused_without_being_repeated(url: str) -> None:
    message = refused(url)
    assert message.startswith("expected redis://")
    assert url not in message


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1?ssl_ca_certs=/etc/ca.pem",
        "rediss://127.0.0.1?ssl_cert_reqs=none",
        "rediss://127.0.0.1?ssl_check_hostname=false",
        "redis://127.0.0.1?max_connections=1",
        "unix:///run/redis.sock?db=1&db=2",
    ],
)
def test_no_option_takes_a_guard_away(url: str) -> None:
    assert refused(url).startswith("expected no other options than db")


def test_it_is_a_secret_that_a_file_may_hold(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("redis://:password@127.0.0.1\n")
    settings = load({"GATEWAY_SHARED_CACHE_FILE": str(tmp_path / "url")}, None)
    assert settings.shared_cache is not None
    assert settings.shared_cache.url.get_secret_value() == "redis://:password@127.0.0.1"


def test_without_the_client_of_redis_the_start_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = shared("redis://127.0.0.1")
    settings.require_serving()
    monkeypatch.setattr("proxy.settings.shared_cache.find_spec", lambda _: None)
    with pytest.raises(SettingsError, match="GATEWAY_SHARED_CACHE: needs the extra"):
        settings.require_serving()
    assert problem_of(None) is None


@pytest.mark.parametrize(
    ("url", "place", "expected"),
    [
        (
            "redis+sentinel://one:26379,two/media",
            "redis+sentinel://one:26379,two/media",
            SentinelService((("one", 26_379), ("two", 26_379)), "media"),
        ),
        (
            "redis+sentinel://user:p%40ss@10.0.0.1:1,[::1]:2/my.media-1/3",
            "redis+sentinel://10.0.0.1:1,[::1]:2/my.media-1",
            SentinelService(
                (("10.0.0.1", 1), ("::1", 2)), "my.media-1", db=3, username="user", password=SecretStr("p@ss")
            ),
        ),
        (
            "rediss+sentinel://:pass@one/media/0?ssl_ca_certs=/etc/ca.pem",
            "rediss+sentinel://one/media",
            SentinelService(
                (("one", 26_379),), "media", password=SecretStr("pass"), tls=(("ssl_ca_certs", "/etc/ca.pem"),)
            ),
        ),
        (
            "rediss+sentinel://one/media",
            "rediss+sentinel://one/media",
            SentinelService((("one", 26_379),), "media", tls=()),
        ),
    ],
)
def test_sentinels_are_named_with_the_service_that_they_look_after(
    url: str, place: str, expected: SentinelService
) -> None:
    found = shared(url).shared_cache
    assert found is not None
    assert (found.place, found.sentinel) == (place, expected)
    assert shared(url).shared_server == expected
    assert not any(text in repr(found) for text in ("p%40ss", "p@ss", ":pass"))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis+sentinel://", "expected redis+sentinel://"),
        ("redis+sentinel://one", "SERVICE is the name"),
        ("redis+sentinel://one/", "SERVICE is the name"),
        ("redis+sentinel://one/me dia", "SERVICE is the name"),
        ("redis+sentinel://one/media/x", "expected redis+sentinel://"),
        ("redis+sentinel://one/media/1/2", "expected redis+sentinel://"),
        ("redis+sentinel://one/media#part", "expected redis+sentinel://"),
        ("redis+sentinel://one,/media", "expected redis+sentinel://"),
        ("redis+sentinel://one:port/media", "expected redis+sentinel://"),
        ("redis+sentinel://one:0/media", "expected redis+sentinel://"),
        ("redis+sentinel://one:70000/media", "expected redis+sentinel://"),
        ("redis+sentinel://[::1/media", "expected redis+sentinel://"),
        ("redis+sentinel://hidden@one/media", "a user needs a password"),
        ("redis+sentinel://hidden:@one/media", "a user needs a password"),
        ("redis+sentinel://one,one/media", "each once"),
        ("redis+sentinel://" + ",".join(f"h{number}" for number in range(21)) + "/media", "at most 20 sentinels"),
        ("redis+sentinel://one/media?ssl_ca_certs=/etc/ca.pem", "belong to rediss+sentinel"),
        ("rediss+sentinel://one/media?ssl_cert_reqs=none", "expected no other options"),
        ("rediss+sentinel://one/media?ssl_certfile=a&ssl_certfile=b", "expected no other options"),
    ],
)
def test_what_names_no_sentinels_is_refused_without_being_repeated(url: str, message: str) -> None:
    said = refused(url)
    assert message in said
    assert "hidden" not in said


@given(st.text(max_size=60))
def test_any_text_is_a_service_of_sentinels_or_refused(rest: str) -> None:
    with suppress(ValueError):
        found = parse_shared_cache(f"redis+sentinel://{rest}")
        assert found.sentinel is not None
        assert all(0 < port < 65_536 and host for host, port in found.sentinel.sentinels)


def test_the_sentinels_have_a_password_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hidden-one\n")
    environ = {"GATEWAY_SHARED_CACHE": "redis+sentinel://:other-hidden@one/media"}
    settings = load({**environ, "GATEWAY_SHARED_CACHE_SENTINEL_PASSWORD_FILE": str(tmp_path / "password")}, None)
    server = settings.shared_server
    assert isinstance(server, SentinelService)
    assert server.sentinel_password == SecretStr("hidden-one")
    assert "hidden" not in repr(settings)
    assert "hidden" not in repr(server)


@pytest.mark.parametrize("url", [None, "redis://one"])
def test_a_password_of_sentinels_needs_sentinels(url: str | None) -> None:
    environ = {
        "GATEWAY_SHARED_CACHE_SENTINEL_PASSWORD": "hidden",
        **({} if url is None else {"GATEWAY_SHARED_CACHE": url}),
    }
    with pytest.raises(SettingsError) as caught:
        load(environ, None)
    (problem,) = caught.value.problems
    assert problem.name == "GATEWAY_SHARED_CACHE_SENTINEL_PASSWORD"
    assert "redis+sentinel" in problem.message
    assert "hidden" not in problem.message


def test_an_outage_is_bounded_unless_told(tmp_path: Path) -> None:
    assert load({}, None).shared_away is SharedAway.BOUNDED
    assert load({"GATEWAY_SHARED_AWAY": "strict"}, None).shared_away is SharedAway.STRICT
    with pytest.raises(SettingsError, match="GATEWAY_SHARED_AWAY"):
        load({"GATEWAY_SHARED_AWAY": "never"}, None)


def test_no_body_at_all_may_be_shared() -> None:
    assert load({"GATEWAY_LIMIT_SHARED_BYTES": "0"}, None).limits.shared_bytes == 0
