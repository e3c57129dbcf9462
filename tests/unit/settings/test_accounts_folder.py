"""`GATEWAY_ACCOUNTS_DIR`: each file is an account and is followed, and a bad one concerns no other."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import SettingsError
from proxy.model import AccountSid
from proxy.settings import AccountsFolder, Settings, load
from proxy.settings.accounts_folder import MAX_FILE_BYTES, Look

SECRET = "secret-word-that-never-leaks"
ONE, TWO, THREE = (f"AC{number:032x}" for number in (1, 2, 3))


def text(sid: str, password: str = SECRET, **more: str) -> str:
    rows = {"provider": '"twilio"', "account_sid": f'"{sid}"', "password": f'"{password}"'} | more
    return "".join(f"{key} = {value}\n" for key, value in rows.items() if value)


def put(path: Path, content: str) -> None:
    """Write a file again and put it in its place at once, as programs that take care do."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(content)
    fresh.chmod(0o600)
    fresh.replace(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "accounts"
    made.mkdir()
    return made


def opened(folder: Path, before: Settings | None = None, **environ: str) -> AccountsFolder:
    found = load({"GATEWAY_ACCOUNTS_DIR": str(folder), **environ}, None, before).folder
    assert found is not None
    return found


def held(folder: AccountsFolder) -> dict[str, str]:
    """Return each account with its password."""
    return {str(account.sid): account.password.get_secret_value() for account in folder.accounts}


def wrong(found: AccountsFolder | Look) -> dict[str, str]:
    problems = {problem.name: problem.message for problem in found.problems}
    assert SECRET not in str(problems)
    return problems


# --- what is read ---------------------------------------------------------------------------------------------


def test_each_file_is_an_account(folder: Path) -> None:
    put(folder / "one.toml", text(ONE))
    put(folder / "two.toml", text(TWO, username='"SK1"', redirect_hosts='["cdn.example"]', subaccounts="true"))
    put(folder / "space.toml", text("11111111-2222-4333-8444-555555555555", provider='"signalwire"', space='"acme"'))
    found = load({"GATEWAY_ACCOUNTS_DIR": str(folder), "GATEWAY_REDIRECT_HOSTS": "all.example"}, None)
    accounts = {str(account.sid): account for account in found.accounts}
    assert len(accounts) == 3
    assert [str(host) for host in accounts[TWO].redirect_hosts] == ["cdn.example", "all.example"]
    assert (accounts[TWO].username, accounts[TWO].subaccounts) == ("SK1", True)
    assert found.folder is not None
    assert wrong(found.folder) == {}


@pytest.mark.parametrize("name", [".hidden.toml", "notes.txt", "one.toml~", "one.toml.bak", "..data"])
def test_other_files_are_passed_over(folder: Path, name: str) -> None:
    (folder / name).write_text("no account")
    assert (held(opened(folder)), wrong(opened(folder))) == ({}, {})


BROKEN: Mapping[str, tuple[str, str]] = {
    "toml": (f'password = "{SECRET}', "file.toml"),
    "key": (text(ONE, nick='"x"'), "file.toml: nick"),
    "table": (f"[[accounts]]\n{text(ONE)}", "file.toml: accounts"),
    "missing": (text(ONE, password=""), "file.toml: password"),
    "sid": (text(SECRET), "file.toml: account_sid"),
    "provider": (text(ONE, provider='"signalwire"', space='"x"'), "file.toml: account_sid"),
    "origin": (text(ONE, origin='"http://api.twilio.com"'), "file.toml: origin"),
    "password file": (text(ONE, password="", password_file='"/nowhere"'), "file.toml: password_file"),
    "empty": ("", "file.toml: provider"),
    "large": (text(ONE) + "#" * MAX_FILE_BYTES, "file.toml"),
    "deep": ("a = " + "[" * 5_000, "file.toml"),
    "digits": ("a = " + "1" * 5_000, "file.toml"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_named_and_takes_no_other_down(folder: Path, kind: str) -> None:
    put(folder / "other.toml", text(TWO))
    content, name = BROKEN[kind]
    put(folder / "file.toml", content.replace(text(ONE, password=""), text(ONE, "").replace('password = ""\n', "")))
    found = opened(folder)
    assert held(found) == {TWO: SECRET}
    assert name in wrong(found)


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_keeps_its_account_until_it_is_mended(folder: Path, kind: str) -> None:
    put(folder / "file.toml", text(ONE))
    found = opened(folder)
    put(folder / "file.toml", BROKEN[kind][0])
    look = found.look()
    assert (look.come, look.gone) == ((), ())
    assert BROKEN[kind][1] in wrong(look)
    assert held(found) == {ONE: SECRET}
    # It is told once.
    assert found.look() == Look()
    assert BROKEN[kind][1] in wrong(found)
    put(folder / "file.toml", text(ONE, "new"))
    look = found.look()
    assert ([str(account.sid) for account in look.come], look.mended, wrong(look)) == ([ONE], ("file.toml",), {})
    assert held(found) == {ONE: "new"}


def test_what_is_not_utf_8_is_named(folder: Path) -> None:
    (folder / "file.toml").write_bytes(b'provider = "\xff"')
    assert wrong(opened(folder)) == {"file.toml": "is not UTF-8"}


@pytest.mark.parametrize("kind", ["pipe", "folder", "socket", "device"])
def test_only_regular_files_are_read(folder: Path, kind: str) -> None:
    path = folder / "file.toml"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "socket":
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(str(path))
        case _:
            path.symlink_to("/dev/zero")
    assert set(wrong(opened(folder))) == {"file.toml"}


def test_a_file_that_others_may_write_is_refused(folder: Path) -> None:
    put(folder / "file.toml", text(ONE))
    found = opened(folder)
    put(folder / "file.toml", text(ONE, "new"))
    (folder / "file.toml").chmod(0o666)
    assert wrong(found.look()) == {"file.toml": "may be written by other users"}
    assert held(found) == {ONE: SECRET}
    (folder / "file.toml").chmod(0o600)
    found.look()
    assert held(found) == {ONE: "new"}


@pytest.mark.parametrize(("mode", "named"), [(0o644, ("file.toml",)), (0o640, ()), (0o600, ())])
def test_a_file_that_others_may_read_is_served_and_named(folder: Path, mode: int, named: tuple[str, ...]) -> None:
    put(folder / "file.toml", text(ONE))
    (folder / "file.toml").chmod(mode)
    found = opened(folder)
    assert (held(found), found.exposed) == ({ONE: SECRET}, named)


def test_a_name_with_control_characters_is_shown_without_them(folder: Path) -> None:
    (folder / "a\nb{}%s.toml").write_text("")
    names = wrong(opened(folder))
    assert names
    assert all(name.isprintable() and name.startswith("'a\\nb{}%s.toml'") for name in names)


# --- what is followed -----------------------------------------------------------------------------------------


def test_files_come_change_and_go(folder: Path) -> None:
    found = opened(folder)
    assert held(found) == {}
    put(folder / "one.toml", text(ONE))
    put(folder / "two.toml", text(TWO))
    assert {str(account.sid) for account in found.look().come} == {ONE, TWO}
    put(folder / "two.toml", text(TWO, "new"))
    look = found.look()
    assert [account.password.get_secret_value() for account in look.come] == ["new"]
    (folder / "one.toml").unlink()
    look = found.look()
    assert (look.come, [str(sid) for sid in look.gone]) == ((), [ONE])
    assert held(found) == {TWO: "new"}


def test_a_file_that_is_written_in_place_is_read_again(folder: Path) -> None:
    path = folder / "one.toml"
    put(path, text(ONE, "first"))
    found = opened(folder)
    path.write_text(text(ONE, "other"))
    found.look()
    assert held(found) == {ONE: "other"}


def test_an_unchanged_file_is_not_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        put(folder / f"{number}.toml", text(f"AC{number:032x}"))
    found = opened(folder)
    read: list[str] = []
    original = AccountsFolder._read

    def reading(self: AccountsFolder, name: str, stamp: tuple[int, ...]) -> bool:
        read.append(name)
        return original(self, name, stamp)

    monkeypatch.setattr(AccountsFolder, "_read", reading)
    put(folder / "7.toml", text(f"AC{7:032x}", "new"))
    found.look()
    found.look()
    assert read == ["7.toml"]


def test_a_file_that_changes_its_account_drops_the_one_before(folder: Path) -> None:
    put(folder / "file.toml", text(ONE))
    found = opened(folder)
    put(folder / "file.toml", text(TWO))
    look = found.look()
    assert ([str(account.sid) for account in look.come], [str(sid) for sid in look.gone]) == ([TWO], [ONE])


def test_a_renamed_file_keeps_its_account(folder: Path) -> None:
    put(folder / "a.toml", text(ONE))
    found = opened(folder)
    (folder / "a.toml").rename(folder / "b.toml")
    assert found.look() == Look()
    assert held(found) == {ONE: SECRET}


def test_two_files_may_exchange_their_accounts(folder: Path) -> None:
    put(folder / "a.toml", text(ONE, "a"))
    put(folder / "b.toml", text(TWO, "b"))
    found = opened(folder)
    put(folder / "a.toml", text(TWO, "a"))
    put(folder / "b.toml", text(ONE, "b"))
    assert wrong(found.look()) == {}
    assert held(found) == {TWO: "a", ONE: "b"}


def test_a_password_file_is_followed_too(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    put(secret, "first\n")
    put(folder / "one.toml", text(ONE, password="").replace('password = ""\n', f'password_file = "{secret}"\n'))
    found = opened(folder)
    assert held(found) == {ONE: "first"}
    put(secret, "second\n")
    found.look()
    assert held(found) == {ONE: "second"}
    secret.unlink()
    assert set(wrong(found.look())) == {"one.toml: password_file"}
    assert held(found) == {ONE: "second"}
    put(secret, "third\n")
    assert found.look().mended == ("one.toml",)
    assert held(found) == {ONE: "third"}


@pytest.mark.parametrize("kind", ["pipe", "writable"])
def test_a_password_file_is_a_sound_file(folder: Path, tmp_path: Path, kind: str) -> None:
    secret = tmp_path / "token"
    if kind == "pipe":
        os.mkfifo(secret)
    else:
        secret.write_text("first")
        secret.chmod(0o666)
    put(folder / "one.toml", text(ONE, password="").replace('password = ""\n', f'password_file = "{secret}"\n'))
    found = opened(folder)
    assert held(found) == {}
    assert wrong(found)["one.toml"].startswith("the file that password_file names ")


def kubernetes(folder: Path, version: int, files: Mapping[str, str]) -> None:
    """Put files into a volume as Kubernetes does: a new folder, one exchange of a link, then links come and go."""
    data = folder / f"..{version}"
    data.mkdir()
    for name, content in files.items():
        (data / name).write_text(content)
    fresh = folder / "..data_tmp"
    fresh.symlink_to(data.name)
    fresh.replace(folder / "..data")
    for name in files:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")


def test_a_volume_of_kubernetes_is_followed(folder: Path) -> None:
    kubernetes(folder, 1, {"a.toml": text(ONE, "a1"), "b.toml": text(TWO, "b1")})
    found = opened(folder)
    assert held(found) == {ONE: "a1", TWO: "b1"}
    kubernetes(folder, 2, {"a.toml": text(ONE, "a2"), "c.toml": text(THREE, "c2")})
    # The link of the key that has gone leads nowhere for a moment.
    assert (folder / "b.toml").is_symlink()
    assert wrong(found.look()) == {}
    assert held(found) == {ONE: "a2", THREE: "c2"}
    (folder / "b.toml").unlink()
    assert found.look() == Look()


# --- one place for each ---------------------------------------------------------------------------------------


def test_an_account_in_two_files_belongs_to_the_first(folder: Path) -> None:
    put(folder / "b.toml", text(ONE, "b"))
    found = opened(folder)
    # It comes first by its name, and later.
    put(folder / "a.toml", text(ONE, "a"))
    assert wrong(found.look()) == {"a.toml: account_sid": "this account is configured twice, here and at b.toml"}
    assert held(found) == {ONE: "b"}
    assert found.look() == Look()
    (folder / "b.toml").unlink()
    look = found.look()
    assert (look.gone, look.mended) == ((), ("a.toml",))
    assert held(found) == {ONE: "a"}


def test_a_file_that_takes_another_ones_account_keeps_its_own(folder: Path) -> None:
    put(folder / "a.toml", text(ONE, "a"))
    put(folder / "b.toml", text(TWO, "b"))
    found = opened(folder)
    put(folder / "b.toml", text(ONE, "b"))
    assert set(wrong(found.look())) == {"b.toml: account_sid"}
    assert held(found) == {ONE: "a", TWO: "b"}


def test_an_account_of_the_other_settings_stands_there(folder: Path) -> None:
    put(folder / "a.toml", text(ONE))
    put(folder / "b.toml", text(TWO))
    found = opened(folder, TWILIO_ACCOUNT_SID=ONE, TWILIO_AUTH_TOKEN="token")
    assert held(found) == {TWO: SECRET}
    message = "this account is configured twice, here and at TWILIO_ACCOUNT_SID"
    assert wrong(found) == {"a.toml: account_sid": message}
    assert [str(account.sid) for account in found.everyone] == [ONE, TWO]


def test_one_account_of_a_provider_has_subaccounts(folder: Path) -> None:
    put(folder / "a.toml", text(ONE, subaccounts="true"))
    found = opened(folder)
    put(folder / "b.toml", text(TWO, subaccounts="true"))
    message = "is for one account of a provider only, and is also set at a.toml"
    assert wrong(found.look()) == {"b.toml: subaccounts": message}
    assert set(held(found)) == {ONE}
    put(folder / "a.toml", text(ONE))
    found.look()
    assert {str(account.sid): account.subaccounts for account in found.accounts} == {ONE: False, TWO: True}


def test_the_parent_of_the_other_settings_is_the_only_one(folder: Path) -> None:
    put(folder / "b.toml", text(TWO, subaccounts="true"))
    found = opened(folder, TWILIO_ACCOUNT_SID=ONE, TWILIO_AUTH_TOKEN="token", GATEWAY_SUBACCOUNTS="1")
    message = "is for one account of a provider only, and is also set at GATEWAY_SUBACCOUNTS"
    assert wrong(found) == {"b.toml: subaccounts": message}


# --- the folder -----------------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load({"GATEWAY_ACCOUNTS_DIR": str(tmp_path / "nowhere")}, None)
    (problem,) = caught.value.problems
    assert problem.name == "GATEWAY_ACCOUNTS_DIR"
    assert problem.message == "the folder cannot be read: No such file or directory"


def test_a_folder_that_goes_away_takes_no_account_with_it(folder: Path) -> None:
    put(folder / "one.toml", text(ONE))
    found = opened(folder)
    folder.rename(folder.with_name("elsewhere"))
    assert set(wrong(found.look())) == {"GATEWAY_ACCOUNTS_DIR"}
    assert found.look() == Look()
    assert held(found) == {ONE: SECRET}
    folder.with_name("elsewhere").rename(folder)
    look = found.look()
    assert (look.come, look.gone, look.mended) == ((), (), ("GATEWAY_ACCOUNTS_DIR",))


def test_too_many_files_leave_those_that_came_last_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.settings.accounts_folder.MAX_ACCOUNTS", 2)
    put(folder / "c.toml", text(ONE))
    found = opened(folder)
    put(folder / "b.toml", text(TWO))
    put(folder / "a.toml", text(THREE))
    put(folder / "d.toml", text(THREE))
    assert set(wrong(found.look())) == {"GATEWAY_ACCOUNTS_DIR"}
    assert held(found) == {ONE: SECRET, THREE: SECRET}
    (folder / "c.toml").unlink()
    found.look()
    assert held(found) == {TWO: SECRET, THREE: SECRET}


def test_settings_read_again_keep_the_accounts_of_broken_files(folder: Path) -> None:
    put(folder / "one.toml", text(ONE))
    put(folder / "two.toml", text(TWO))
    before = load({"GATEWAY_ACCOUNTS_DIR": str(folder)}, None)
    put(folder / "one.toml", "broken")
    put(folder / "two.toml", text(TWO, "new"))
    again = opened(folder, before)
    assert held(again) == {ONE: SECRET, TWO: "new"}
    assert set(wrong(again)) == {"one.toml"}
    # Of another folder nothing is kept.
    other = folder.with_name("other")
    other.mkdir()
    assert held(opened(other, before)) == {}


def test_a_folder_may_be_empty_at_the_start(folder: Path) -> None:
    found = load({"GATEWAY_ACCOUNTS_DIR": str(folder), "GATEWAY_SIGNING_KEYS": f"k:{'s' * 40}"}, None)
    found.require_serving()


# --- any order of things --------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a.toml", "b.toml", "c.toml"])
SIDS = st.sampled_from([ONE, TWO, THREE])
STEPS = st.one_of(
    st.tuples(st.just("write"), NAMES, SIDS, st.sampled_from(["p", "q"]), st.booleans()),
    st.tuples(st.just("break"), NAMES),
    st.tuples(st.just("remove"), NAMES),
    st.tuples(st.just("look")),
    st.tuples(st.just("reload")),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=12))
def test_what_is_told_of_changes_is_what_holds(steps: list[tuple[object, ...]]) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        environ = {"GATEWAY_ACCOUNTS_DIR": place}
        before = load(environ, None)
        found = before.folder
        assert found is not None
        told: dict[str, str] = {}
        written: dict[str, tuple[str, str, bool] | None] = {}
        for step in [*steps, ("look",)]:
            match step:
                case ("write", str(name), str(sid), str(password), bool(parent)):
                    put(folder / name, text(sid, password, subaccounts="true" if parent else "false"))
                    written[name] = sid, password, parent
                case ("break", str(name)):
                    put(folder / name, "broken")
                    written[name] = None
                case ("remove", str(name)):
                    (folder / name).unlink(missing_ok=True)
                    written.pop(name, None)
                case ("reload",):
                    before = load(environ, None, before)
                    found = before.folder
                    assert found is not None
                    told = held(found)
                case _:
                    look = found.look()
                    for lost in look.gone:
                        del told[str(lost)]
                    told |= {str(account.sid): account.password.get_secret_value() for account in look.come}
            assert held(found) == told
            parents = [account for account in found.accounts if account.subaccounts]
            assert len(parents) <= 1
        sound = [one for one in written.values() if one is not None]
        distinct = len({sid for sid, _, _ in sound}) == len(sound) == len(written) and sum(p for _, _, p in sound) <= 1
        if distinct:
            assert told == {sid: password for sid, password, _ in sound}
            assert wrong(found) == {}
        # Nothing is served that stands nowhere, and nothing waits without cause.
        assert len(told) <= len(written)
        for name, one in written.items():
            if one is None:
                assert any(problem.startswith(name) for problem in wrong(found))


def test_an_account_id_of_a_file_is_an_account(folder: Path) -> None:
    put(folder / "one.toml", text(ONE.lower().replace("ac", "AC")))
    assert {account.sid for account in opened(folder).accounts} == {AccountSid.parse(ONE)}
