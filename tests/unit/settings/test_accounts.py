"""Single accounts under the names that the providers' tools read, and `[[accounts]]`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from proxy.app import make_accounts
from proxy.errors import SettingsError
from proxy.model import AccountSid, Provider
from proxy.settings import AccountSettings, RedirectHost, load

ACCOUNT = "AC" + "0a" * 16
SECOND = "AC" + "0b" * 16
PROJECT = "11111111-2222-3333-4444-555555555555"
TWILIO = {"TWILIO_ACCOUNT_SID": ACCOUNT, "TWILIO_AUTH_TOKEN": "token"}
SIGNALWIRE = {"SIGNALWIRE_SPACE": "example", "SIGNALWIRE_PROJECT_ID": PROJECT, "SIGNALWIRE_API_TOKEN": "PT1"}


def problems(environ: Mapping[str, str], config: Path | None = None) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        load(environ, config)
    return {problem.name: problem.message for problem in caught.value.problems}


def only(environ: Mapping[str, str], config: Path | None = None) -> AccountSettings:
    (account,) = load(environ, config).accounts
    return account


def table(folder: Path, **changed: str) -> Path:
    rows = {"provider": '"twilio"', "account_sid": f'"{ACCOUNT}"', "password": '"token"'} | changed
    path = folder / "gateway.toml"
    with path.open("a") as file:
        file.write("[[accounts]]\n" + "".join(f"{key} = {value}\n" for key, value in rows.items() if value))
    return path


# --- Twilio ---------------------------------------------------------------------------------------------------


def test_an_account_with_its_auth_token() -> None:
    account = only({"TWILIO_ACCOUNT_SID": f" {ACCOUNT.upper()} ", "TWILIO_AUTH_TOKEN": "\ttoken\n"})
    assert account.provider is Provider.TWILIO
    assert str(account.sid) == account.username == ACCOUNT
    assert account.password.get_secret_value() == "token"
    assert account.origin == "https://api.twilio.com"
    assert account.redirect_hosts == ()


@pytest.mark.parametrize("beside", [{}, {"TWILIO_AUTH_TOKEN": "token"}])
def test_an_api_key_goes_with_its_own_secret(beside: dict[str, str]) -> None:
    account = only({"TWILIO_ACCOUNT_SID": ACCOUNT, "TWILIO_API_KEY": "SK1 ", "TWILIO_API_SECRET": " sec", **beside})
    assert (str(account.sid), account.username) == (ACCOUNT, "SK1")
    assert account.password.get_secret_value() == "sec"


def test_an_api_key_with_the_auth_token_is_refused() -> None:
    found = problems({**TWILIO, "TWILIO_API_KEY": "SK1"})
    assert set(found) == {"TWILIO_API_SECRET"}
    assert "AuthToken" in found["TWILIO_API_SECRET"]


def test_an_api_key_in_place_of_the_account_is_refused() -> None:
    found = problems({"TWILIO_ACCOUNT_SID": "SK" + "0" * 32, "TWILIO_AUTH_TOKEN": "token"})
    assert set(found) == {"TWILIO_ACCOUNT_SID"}
    assert "API key" in found["TWILIO_ACCOUNT_SID"]


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({"TWILIO_ACCOUNT_SID": ACCOUNT}, {"TWILIO_AUTH_TOKEN"}),
        ({"TWILIO_AUTH_TOKEN": "t"}, {"TWILIO_ACCOUNT_SID"}),
        ({"TWILIO_API_SECRET": "t"}, {"TWILIO_ACCOUNT_SID", "TWILIO_API_KEY"}),
        ({**TWILIO, "TWILIO_API_SECRET": "t"}, {"TWILIO_API_KEY"}),
        ({**TWILIO, "TWILIO_ACCOUNT_SID": PROJECT}, {"TWILIO_ACCOUNT_SID"}),
        ({**TWILIO, "TWILIO_ACCOUNT_SID": "AC12"}, {"TWILIO_ACCOUNT_SID"}),
        ({**TWILIO, "TWILIO_API_KEY": "AC1", "TWILIO_API_SECRET": "t"}, {"TWILIO_API_KEY"}),
        ({**TWILIO, "TWILIO_API_KEY": "SK:1", "TWILIO_API_SECRET": "t"}, {"TWILIO_API_KEY"}),
        ({**TWILIO, "TWILIO_AUTH_TOKEN": "a\x00b"}, {"TWILIO_AUTH_TOKEN"}),
        ({**TWILIO, "TWILIO_EDGE": "a.b"}, {"TWILIO_EDGE"}),
        ({**TWILIO, "TWILIO_REGION": "a/b"}, {"TWILIO_REGION"}),
        ({"GATEWAY_UPSTREAM_URL": "https://x.example"}, {"GATEWAY_UPSTREAM_URL"}),
        ({**TWILIO, "GATEWAY_UPSTREAM_URL": "http://x.example"}, {"GATEWAY_UPSTREAM_URL"}),
        ({**TWILIO, "GATEWAY_UPSTREAM_URL": "https://x.example/v1"}, {"GATEWAY_UPSTREAM_URL"}),
    ],
)
def test_half_an_account_is_refused(environ: dict[str, str], names: set[str]) -> None:
    assert set(problems(environ)) == names


@pytest.mark.parametrize(
    ("place", "origin"),
    [
        ({"TWILIO_EDGE": "dublin", "TWILIO_REGION": "ie1"}, "https://api.dublin.ie1.twilio.com"),
        ({"TWILIO_EDGE": "Sydney"}, "https://api.sydney.us1.twilio.com"),
        ({"TWILIO_REGION": "au1"}, "https://api.au1.twilio.com"),
        ({"GATEWAY_UPSTREAM_URL": "https://Twilio.Example:443/"}, "https://twilio.example"),
        ({"GATEWAY_UPSTREAM_URL": "http://127.0.0.1:9000", "TWILIO_EDGE": "dublin"}, "http://127.0.0.1:9000"),
        ({"GATEWAY_UPSTREAM_URL": "http://[::1]:9000"}, "http://[::1]:9000"),
        ({"GATEWAY_UPSTREAM_URL": "http://localhost"}, "http://localhost"),
    ],
)
def test_the_origin_of_an_account(place: dict[str, str], origin: str) -> None:
    assert only(TWILIO | place).origin == origin


def test_a_place_without_an_account_is_left_alone() -> None:
    assert load({"TWILIO_REGION": "ie1"}, None).accounts == ()


# --- SignalWire -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "origin"),
    [
        ("example", "https://example.signalwire.com"),
        ("Example.signalwire.com", "https://example.signalwire.com"),
        ("https://example.signalwire.com/", "https://example.signalwire.com"),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
    ],
)
@pytest.mark.parametrize("name", ["SIGNALWIRE_SPACE", "SIGNALWIRE_SPACE_URL"])
def test_a_project_and_its_space(name: str, space: str, origin: str) -> None:
    account = only({name: space, "SIGNALWIRE_PROJECT_ID": PROJECT.upper(), "SIGNALWIRE_TOKEN": " PT1\n"})
    assert account.provider is Provider.SIGNALWIRE
    assert str(account.sid) == account.username == PROJECT
    assert account.password.get_secret_value() == "PT1"
    assert account.origin == origin


@pytest.mark.parametrize("name", sorted(SIGNALWIRE))
def test_half_a_project_is_refused(name: str) -> None:
    assert set(problems({key: value for key, value in SIGNALWIRE.items() if key != name})) == {name}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SIGNALWIRE_SPACE", "http://example.signalwire.com"),
        ("SIGNALWIRE_SPACE", "a b"),
        ("SIGNALWIRE_SPACE", "https://example.signalwire.com/api"),
        ("SIGNALWIRE_PROJECT_ID", ACCOUNT),
        ("SIGNALWIRE_PROJECT_ID", "x"),
    ],
)
def test_bad_projects_are_refused(name: str, text: str) -> None:
    assert set(problems(SIGNALWIRE | {name: text})) == {name}


def test_an_alias_that_differs_is_refused() -> None:
    assert set(problems(SIGNALWIRE | {"SIGNALWIRE_TOKEN": "PT2"})) == {"SIGNALWIRE_TOKEN"}
    assert set(problems(SIGNALWIRE | {"SIGNALWIRE_SPACE_URL": "other"})) == {"SIGNALWIRE_SPACE_URL"}


def test_an_alias_that_agrees_is_the_same_setting() -> None:
    account = only(SIGNALWIRE | {"SIGNALWIRE_TOKEN": " PT1", "SIGNALWIRE_SPACE_URL": "https://example.signalwire.com"})
    assert account.origin == "https://example.signalwire.com"


def test_two_bad_spellings_of_a_space_are_one_problem() -> None:
    assert set(problems(SIGNALWIRE | {"SIGNALWIRE_SPACE": "a b", "SIGNALWIRE_SPACE_URL": "a b"})) == {
        "SIGNALWIRE_SPACE_URL"
    }


# --- tables ---------------------------------------------------------------------------------------------------


def test_a_table_by_its_defaults(tmp_path: Path) -> None:
    account = only({}, table(tmp_path))
    assert account.provider is Provider.TWILIO
    assert str(account.sid) == account.username == ACCOUNT
    assert account.password.get_secret_value() == "token"
    assert account.origin == "https://api.twilio.com"


def test_a_full_table(tmp_path: Path) -> None:
    config = table(
        tmp_path,
        username='"SK1"',
        origin='"http://localhost:9000"',
        redirect_hosts='["127.0.0.1:9001", "CDN.example"]',
    )
    account = only({}, config)
    assert (account.username, account.origin) == ("SK1", "http://localhost:9000")
    assert account.redirect_hosts == (RedirectHost("127.0.0.1", 9001), RedirectHost("cdn.example"))


def test_a_table_with_a_password_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("from a file\n")
    account = only({}, table(tmp_path, password="", password_file=f'"{tmp_path / "password"}"'))
    assert account.password.get_secret_value() == "from a file"


@pytest.mark.parametrize(
    ("place", "origin"),
    [('space = "example"', "https://example.signalwire.com"), ('origin = "https://s.example"', "https://s.example")],
)
def test_a_signalwire_table(tmp_path: Path, place: str, origin: str) -> None:
    key, _, value = place.partition(" = ")
    config = table(tmp_path, provider='"signalwire"', account_sid=f'"{PROJECT}"', **{key: value})
    assert only({}, config).origin == origin


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"provider": ""}, "provider"),
        ({"provider": '"vonage"'}, "provider"),
        ({"account_sid": ""}, "account_sid"),
        ({"account_sid": '"SK1"'}, "account_sid"),
        ({"account_sid": f'"{PROJECT}"'}, "account_sid"),
        ({"password": ""}, "password"),
        ({"password": '""'}, "password"),
        ({"password_file": '"/nowhere"'}, "password_file"),
        ({"username": '"a:b"'}, "username"),
        ({"origin": '"https://x.example/path"'}, "origin"),
        ({"origin": "1"}, "origin"),
        ({"space": '"example"'}, "space"),
        ({"redirect_hosts": '["127.0.0.1"]'}, "redirect_hosts"),
        ({"redirect_hosts": '["127.0.0.1:9000"]'}, "redirect_hosts"),
        ({"redirect_hosts": '["localhost:9000"]', "origin": '"https://x.example"'}, "redirect_hosts"),
        ({"region": '"ie1"'}, "region"),
        ({"provider": '"signalwire"', "account_sid": f'"{PROJECT}"'}, "space"),
        (
            {
                "provider": '"signalwire"',
                "account_sid": f'"{PROJECT}"',
                "space": '"x"',
                "origin": '"https://x.example"',
            },
            "space",
        ),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, changed: dict[str, str], name: str) -> None:
    assert set(problems({}, table(tmp_path, **changed))) == {f"accounts[0].{name}"}


def test_accounts_of_both_places_are_joined(tmp_path: Path) -> None:
    table(tmp_path, account_sid=f'"{SECOND}"')
    config = table(tmp_path, account_sid=f'"AC{"0c" * 16}"')
    accounts = load(TWILIO | SIGNALWIRE, config).accounts
    assert [str(account.sid) for account in accounts] == [ACCOUNT, PROJECT, SECOND, "AC" + "0c" * 16]


def test_an_account_stands_once(tmp_path: Path) -> None:
    config = table(tmp_path, account_sid=f'"{ACCOUNT.upper()}"')
    table(tmp_path, account_sid=f'"{SECOND}"')
    table(tmp_path, account_sid=f'"{SECOND}"')
    assert set(problems(TWILIO, config)) == {"accounts[0].account_sid", "accounts[2].account_sid"}


def test_a_second_place_of_an_account_names_the_first(tmp_path: Path) -> None:
    config = table(tmp_path, account_sid=f'"{SECOND}"')
    table(tmp_path, account_sid=f'"{SECOND}"')
    found = problems({}, config)
    assert found == {"accounts[1].account_sid": "this account is configured twice, here and at accounts[0].account_sid"}


def test_more_than_ten_thousand_accounts_are_configured(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(
        "".join(
            f'[[accounts]]\nprovider = "twilio"\naccount_sid = "AC{number:032x}"\npassword = "token"\n'
            for number in range(10_001)
        )
    )
    accounts = make_accounts(load({}, config))
    assert len(accounts) == 10_001
    assert accounts.get(AccountSid.parse(f"AC{10_000:032x}")) is not None


def test_too_many_accounts_are_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.settings.accounts_and_clients.MAX_ACCOUNTS", 2)
    config = table(tmp_path, account_sid=f'"{SECOND}"')
    table(tmp_path)
    assert len(load({}, config).accounts) == 2
    table(tmp_path, account_sid='"bad"')
    assert problems({}, config) == {"accounts": "expected at most 2 accounts"}


# --- subaccounts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("written", "meant"), [("true", True), ("false", False), ("1", True), ('"0"', False)])
def test_a_table_says_whether_it_has_subaccounts(tmp_path: Path, written: str, meant: bool) -> None:
    assert only({}, table(tmp_path, subaccounts=written)).subaccounts is meant


def test_subaccounts_are_asked_for_nowhere_unless_told(tmp_path: Path) -> None:
    assert not only({}, table(tmp_path)).subaccounts
    assert not only(TWILIO).subaccounts


def test_each_single_account_may_have_subaccounts() -> None:
    accounts = load(TWILIO | SIGNALWIRE | {"GATEWAY_SUBACCOUNTS": "1"}, None).accounts
    assert [account.subaccounts for account in accounts] == [True, True]


def test_one_account_of_a_provider_has_subaccounts(tmp_path: Path) -> None:
    config = table(tmp_path, subaccounts="true")
    table(tmp_path, account_sid=f'"{SECOND}"', subaccounts="true")
    message = "is for one account of a provider only, and is also set at accounts[0].subaccounts"
    assert problems({}, config) == {"accounts[1].subaccounts": message}


def test_the_single_account_is_the_only_one_with_subaccounts(tmp_path: Path) -> None:
    config = table(tmp_path, account_sid=f'"{SECOND}"', subaccounts="true")
    found = problems(TWILIO | {"GATEWAY_SUBACCOUNTS": "1"}, config)
    message = "is for one account of a provider only, and is also set at GATEWAY_SUBACCOUNTS"
    assert found == {"accounts[0].subaccounts": message}
    # It is another provider's.
    accounts = load(SIGNALWIRE | {"GATEWAY_SUBACCOUNTS": "1"}, config).accounts
    assert [account.subaccounts for account in accounts] == [True, True]


@pytest.mark.parametrize(("written", "message"), [("1", "is for the single account"), ("yes", "expected 0 or 1")])
def test_the_variable_is_for_a_single_account(written: str, message: str) -> None:
    found = problems({"GATEWAY_SUBACCOUNTS": written})
    assert set(found) == {"GATEWAY_SUBACCOUNTS"}
    assert found["GATEWAY_SUBACCOUNTS"].startswith(message)


@pytest.mark.parametrize("written", ['"yes"', "2", "[]"])
def test_no_other_word_says_that_there_are_subaccounts(tmp_path: Path, written: str) -> None:
    assert set(problems({}, table(tmp_path, subaccounts=written))) == {"accounts[0].subaccounts"}


# --- redirect hosts -------------------------------------------------------------------------------------------


def test_redirect_hosts_of_the_variable_go_to_every_account() -> None:
    accounts = load(TWILIO | SIGNALWIRE | {"GATEWAY_REDIRECT_HOSTS": "cdn.example,cdn.example:8443,"}, None).accounts
    for account in accounts:
        assert account.redirect_hosts == (RedirectHost("cdn.example"), RedirectHost("cdn.example", 8443))


def test_only_accounts_at_loopback_origins_get_loopback_redirect_hosts(tmp_path: Path) -> None:
    config = table(tmp_path, account_sid=f'"{SECOND}"', redirect_hosts='["cdn.example"]')
    environ = {
        **TWILIO,
        "GATEWAY_UPSTREAM_URL": "http://127.0.0.1:9000",
        "GATEWAY_REDIRECT_HOSTS": "127.0.0.1:9001,cdn.example",
    }
    local, remote = load(environ, config).accounts
    assert local.redirect_hosts == (RedirectHost("127.0.0.1", 9001), RedirectHost("cdn.example"))
    assert remote.redirect_hosts == (RedirectHost("cdn.example"),)


@pytest.mark.parametrize("host", ["127.0.0.1:9001", "localhost:1", "[::1]:5", "127.9.9.9:80", "[::ffff:127.0.0.1]:80"])
def test_a_loopback_redirect_host_needs_a_loopback_origin(host: str) -> None:
    assert set(problems(TWILIO | {"GATEWAY_REDIRECT_HOSTS": host})) == {"GATEWAY_REDIRECT_HOSTS"}
    environ = TWILIO | {"GATEWAY_REDIRECT_HOSTS": host, "GATEWAY_UPSTREAM_URL": "http://localhost:9000"}
    assert only(environ).redirect_hosts[0].loopback


def test_a_loopback_redirect_host_needs_a_port() -> None:
    environ = TWILIO | {"GATEWAY_REDIRECT_HOSTS": "localhost", "GATEWAY_UPSTREAM_URL": "http://localhost:9000"}
    assert set(problems(environ)) == {"GATEWAY_REDIRECT_HOSTS"}


def test_a_loopback_redirect_host_is_checked_against_all_accounts() -> None:
    environ = {"GATEWAY_REDIRECT_HOSTS": "localhost:1"}
    assert load(environ, None).accounts == ()
    assert set(problems({**SIGNALWIRE, **environ, "TWILIO_AUTH_TOKEN": "t"})) == {"TWILIO_ACCOUNT_SID"}


def test_a_space_is_for_signalwire(tmp_path: Path) -> None:
    found = problems({}, table(tmp_path, space='"example"'))
    assert found["accounts[0].space"].startswith("is for SignalWire")
