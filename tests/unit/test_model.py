"""Identifiers: untrusted text becomes one value, or an error that does not repeat it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import IdentifierError
from proxy.model import AccountSid, MediaRef, MediaSid, MessageRef, MessageSid, Provider

HEX = "0123456789abcdefABCDEF"
KINDS = st.sampled_from([(AccountSid, "AC"), (MessageSid, "SM"), (MessageSid, "MM"), (MediaSid, "ME")])
HEX32 = st.text(HEX, min_size=32, max_size=32)
UUID = st.from_regex(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", fullmatch=True, alphabet=HEX + "-")
Kind = type[AccountSid] | type[MessageSid] | type[MediaSid]

A, M, E = "AC" + "a" * 32, "MM" + "b" * 32, "ME" + "c" * 32
UA, UM, UE = (f"{digit * 8}-{digit * 4}-4{digit * 3}-8{digit * 3}-{digit * 12}" for digit in "def")


@given(KINDS, HEX32)
def test_hexadecimal_digits_fold_to_lower_case_and_letters_stay(kind: tuple[Kind, str], digits: str) -> None:
    cls, prefix = kind
    parsed = cls.parse(prefix + digits)
    assert parsed.value == str(parsed) == prefix + digits.lower()
    assert parsed.provider is Provider.TWILIO
    assert cls.parse(parsed.value) == parsed
    assert hash(cls.parse(prefix + digits.upper())) == hash(parsed)


@given(st.sampled_from([AccountSid, MessageSid, MediaSid]), UUID)
def test_a_uuid_is_an_identifier_of_signalwires(cls: Kind, text: str) -> None:
    parsed = cls.parse(text)
    assert (parsed.value, parsed.provider) == (text.lower(), Provider.SIGNALWIRE)


@given(st.sampled_from([AccountSid, MessageSid, MediaSid]), st.text(max_size=45))
def test_anything_else_is_refused_and_not_repeated(cls: Kind, text: str) -> None:
    if re.fullmatch(r"(AC|SM|MM|ME)[0-9a-fA-F]{32}|[0-9a-fA-F-]{36}", text, re.ASCII):
        return
    with pytest.raises(IdentifierError) as raised:
        cls.parse(text)
    assert len(text) < 4 or text not in raised.value.detail


@pytest.mark.parametrize(
    "text",
    ["", A + "\n", " " + A, A[:-1], A + "0", "ac" + A[2:], "AC" + "g" * 32, "AC" + "١" * 32, A.replace("a", "/", 1),
     UA + "\n", UA.replace("-", ""), UA[:-1], "{" + UA + "}", "AC" + UA, M, E],
)  # fmt: skip
def test_an_account_is_of_its_own_form_alone(text: str) -> None:
    with pytest.raises(IdentifierError):
        AccountSid.parse(text)


def test_kinds_are_not_confused() -> None:
    for cls, good in ((AccountSid, [A]), (MessageSid, [M, "SM" + M[2:]]), (MediaSid, [E])):
        for text in (A, M, "SM" + M[2:], E):
            if text in good:
                assert cls.parse(text).value == text
            else:
                with pytest.raises(IdentifierError):
                    cls.parse(text)


def test_a_reference_is_the_three_in_order() -> None:
    ref = MediaRef.parse("AC" + "A" * 32, M, E)
    assert str(ref) == f"{A}/{M}/{E}"
    assert ref.parent == MessageRef.parse(A, M)
    assert ref.parent.media(ref.media) == ref
    assert (str(ref.parent), ref.parent.provider, ref.provider) == (f"{A}/{M}", Provider.TWILIO, Provider.TWILIO)
    assert MediaRef.parse(UA, UM, UE).provider is Provider.SIGNALWIRE


@pytest.mark.parametrize(("account", "message", "media"), [(UA, M, E), (A, UM, E), (A, M, UE), (UA, UM, E)])
def test_two_providers_are_not_mixed(account: str, message: str, media: str) -> None:
    with pytest.raises(IdentifierError):
        MediaRef.parse(account, message, media)


def test_a_message_of_another_provider_is_refused() -> None:
    with pytest.raises(IdentifierError):
        MessageRef.parse(A, UM)
