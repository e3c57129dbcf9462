"""Paths of the Media resource: exactly the providers' own, nothing decoded or tidied."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.model import MediaRef, Provider
from proxy.web.api.resources import Content, Form, MediaList, Properties, error_form, parse_resource, provider_of

TWILIO = MediaRef.parse("AC" + "0a" * 16, "MM" + "0b" * 16, "ME" + "0c" * 16)
UUID = "{0}{0}{0}{0}{0}{0}{0}{0}-{0}{0}{0}{0}-{0}{0}{0}{0}-{0}{0}{0}{0}-{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}"
SIGNALWIRE = MediaRef.parse(UUID.format("a"), UUID.format("b"), UUID.format("c"))
PLAIN, LAML = "/2010-04-01", "/api/laml/2010-04-01"


def path(ref: MediaRef, rest: str = "", prefix: str = PLAIN, folder: str = "Messages") -> str:
    return f"{prefix}/Accounts/{ref.account}/{folder}/{ref.message}/Media{rest}"


def member(ref: MediaRef, suffix: str = "", prefix: str = PLAIN, folder: str = "Messages") -> str:
    return path(ref, f"/{ref.media}{suffix}", prefix, folder)


@pytest.mark.parametrize("folder", ["Messages", "Message"])
@pytest.mark.parametrize(("ref", "prefix"), [(TWILIO, PLAIN), (SIGNALWIRE, PLAIN), (SIGNALWIRE, LAML)])
def test_the_providers_paths_are_resources(ref: MediaRef, prefix: str, folder: str) -> None:
    assert parse_resource(member(ref, "", prefix, folder), "") == Content(ref, prefix)
    assert parse_resource(path(ref, "", prefix, folder), "") == MediaList(ref.parent, prefix, None)
    for form in Form:
        assert parse_resource(member(ref, f".{form}", prefix, folder), "") == Properties(ref, prefix, form)
        assert parse_resource(path(ref, f".{form}", prefix, folder), "") == MediaList(ref.parent, prefix, form)


@pytest.mark.parametrize(("ref", "prefix"), [(TWILIO, PLAIN), (SIGNALWIRE, PLAIN), (SIGNALWIRE, LAML)])
def test_the_target_is_the_canonical_path_under_the_same_prefix(ref: MediaRef, prefix: str) -> None:
    for rest in ("", ".json", ".xml", f"/{ref.media}", f"/{ref.media}.json", f"/{ref.media}.xml"):
        resource = parse_resource(path(ref, rest, prefix, "Message"), "")
        assert resource is not None
        assert resource.target == path(ref, rest, prefix)


def test_digits_fold_to_lower_case() -> None:
    upper = f"{PLAIN}/Accounts/AC{'0A' * 16}/Messages/MM{'0B' * 16}/Media/ME{'0C' * 16}"
    assert parse_resource(upper, "") == Content(TWILIO, PLAIN)
    assert parse_resource(upper.replace("/AC", "/ac"), "") is None


def test_twilio_is_not_under_signalwires_prefix() -> None:
    assert parse_resource(member(TWILIO, prefix=LAML), "") is None


def test_a_mount_is_taken_away_once_where_it_is_written() -> None:
    for mount in ("/a", "/a/b", "/api/laml"):
        assert parse_resource(mount + member(TWILIO), mount) == Content(TWILIO, PLAIN)
        assert parse_resource(member(TWILIO), mount) == Content(TWILIO, PLAIN)
        assert parse_resource(mount * 2 + member(TWILIO), mount) is None
    assert parse_resource("/a" + member(TWILIO), "") is None
    assert parse_resource(member(SIGNALWIRE, prefix=LAML), "/api/laml") == Content(SIGNALWIRE, LAML)


@pytest.mark.parametrize(
    "change",
    [
        lambda whole: whole + "/",
        lambda whole: whole + ".",
        lambda whole: whole + ".json.xml",
        lambda whole: whole + ".JSON",
        lambda whole: whole + ".csv",
        lambda whole: whole + "%2ejson",
        lambda whole: whole + "%00",
        lambda whole: whole + "\n",
        lambda whole: whole + "\u0661",
        lambda whole: "/" + whole,
        lambda whole: whole.replace("/Media/", "/Media//"),
        lambda whole: whole.replace("/Media/", "/Media/./"),
        lambda whole: whole.replace("/Media/", "/x/../Media/"),
        lambda whole: whole.replace("/Media/", "/media/"),
        lambda whole: whole.replace("/Messages/", "/Calls/"),
        lambda whole: whole.replace("/2010-04-01/", "/2010-04-02/"),
        lambda whole: whole.replace("/2010-04-01/", "/2010-04-01/%41ccounts/../"),
        lambda whole: whole.replace("/Messages/MM", "/Messages/XX"),
        lambda whole: whole.replace("MM" + "0b" * 16, UUID.format("b")),
        lambda whole: whole.removesuffix("0c"),
        lambda whole: whole + "/Feedback",
    ],
)
def test_any_other_path_is_no_resource(change: object) -> None:
    assert callable(change)
    assert parse_resource(change(member(TWILIO)), "/m") is None


@given(st.text(max_size=40), st.integers(0, 120))
def test_text_put_into_a_path_makes_no_other_resource(text: str, place: int) -> None:
    whole = member(TWILIO)
    resource = parse_resource(whole[:place] + text + whole[place:], "")
    if resource is not None:
        assert resource.target.isascii()
        assert parse_resource(resource.target, "") == resource


def test_errors_are_json_for_json_and_xml_for_all_else() -> None:
    assert [error_form(end) for end in ("/x.json", "/x", "/x.xml", "/x.json/", "/x.JSON")] == [
        Form.JSON, Form.XML, Form.XML, Form.XML, Form.XML,
    ]  # fmt: skip


def test_the_resource_or_else_the_prefix_names_the_provider() -> None:
    content = parse_resource(member(SIGNALWIRE), "")
    assert provider_of(member(SIGNALWIRE), content) is Provider.SIGNALWIRE
    assert provider_of("/2010-04-01/x", None) is Provider.TWILIO
    assert provider_of("/m/api/laml/2010-04-01/x", None) is Provider.SIGNALWIRE
