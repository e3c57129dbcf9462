"""A sandbox's own hosts, by the text of `Host` and of a request's target."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.sandbox.hosts import own_hosts

PORT = 8081
HOSTS = own_hosts(("192.0.2.7", "fd00::7", "box.example"), ("sandbox", "Twilio.Internal.", "[2001:db8::1]"))
LOOPBACK = [
    "localhost",
    "LOCALHOST",
    "localhost.",
    "app.localhost",
    "127.0.0.1",
    "127.8.9.10",
    "[::1]",
    "[::ffff:127.0.0.1]",
]
LISTENING = ["192.0.2.7", "[fd00::7]", "[FD00:0::7]", "box.example", "Box.Example."]
NAMED = ["sandbox", "SANDBOX", "twilio.internal", "[2001:db8::1]", "[2001:DB8:0::1]"]
FOREIGN = [
    "", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil-localhost", "sandbox.evil.example",
    "192.0.2.8", "[::2]", "0.0.0.0", "127.1", "2130706433", "0x7f.0.0.1", "::1", "[::1", "::1]", "user@localhost",
    "localhost/", "localhost ", "localhost,evil.example", "local\thost", "lo%63alhost", "[::1%25lo]", "*",
]  # fmt: skip


@pytest.mark.parametrize("host", [*LOOPBACK, *LISTENING, *NAMED])
def test_an_own_host_is_own_with_any_port(host: str) -> None:
    for port in ("", ":", ":80", f":{PORT}", ":9000", ":65535"):
        assert HOSTS.include(f"{host}{port}")
    for port in (":65536", ":x", ":-1", ": 80", f":{PORT}:{PORT}"):
        assert not HOSTS.include(f"{host}{port}")


@pytest.mark.parametrize("host", FOREIGN)
def test_no_other_host_is_own(host: str) -> None:
    assert not HOSTS.include(host)
    assert not HOSTS.include(f"{host}:{PORT}")


@given(st.text(max_size=60), st.sampled_from(["", ":80", f":{PORT}"]))
def test_a_name_below_another_domain_is_not_own(text: str, port: str) -> None:
    assert not HOSTS.include(f"{text}.evil.example{port}")
    assert not HOSTS.include(f"{text}@evil.example{port}")


OWN = f"localhost:{PORT}"


@pytest.mark.parametrize(
    ("fields", "target", "may_lack", "answered"),
    [
        ([OWN], "/a", False, True),
        ([OWN], "*", False, True),
        ([OWN], "/http://evil.example/", False, True),
        (["evil.example"], "/a", False, False),
        # RFC 9112 §3.2: a request of HTTP/1.1 has exactly one, and one of HTTP/1.0 may have none.
        ([], "/a", False, False),
        ([], "/a", True, True),
        ([OWN, OWN], "/a", False, False),
        ([OWN, "evil.example"], "/a", True, False),
        # RFC 9112 §3.2.2: the host of a target in absolute form takes the place of `Host`.
        ([OWN], f"http://{OWN}/a", False, True),
        ([OWN], "http://evil.example/a", False, False),
        ([OWN], "http://evil.example?/a", False, False),
        (["evil.example"], f"http://{OWN}/a", False, False),
        ([], "http://evil.example/a", True, False),
        ([OWN], f"http://{OWN}@evil.example/a", False, False),
        ([OWN], "evil.example:80", False, False),
        ([OWN], "", False, False),
    ],
)
def test_a_request_is_answered_if_all_hosts_are_own(
    fields: list[str], target: str, may_lack: bool, answered: bool
) -> None:
    assert HOSTS.answer(fields, target, may_lack=may_lack) is answered
