"""Where the shared tier is."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.errors import SettingsError
from proxy.settings import Settings, load, problem_of

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
def test_a_redis_is_named_by_its_url_and_never_with_its_password(url: str, place: str) -> None:
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
def test_what_is_no_url_of_a_redis_is_refused_without_being_repeated(url: str) -> None:
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
    monkeypatch.setattr("proxy.settings.shared.find_spec", lambda _: None)
    with pytest.raises(SettingsError, match="GATEWAY_SHARED_CACHE: needs the extra"):
        settings.require_serving()
    assert problem_of(None) is None
