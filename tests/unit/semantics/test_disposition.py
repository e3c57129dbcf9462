from __future__ import annotations

import email.message
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.http import parse_options_header

from proxy.semantics.disposition import (
    MAX_NAME,
    MAX_PARAMETERS,
    MAX_TYPE,
    content_disposition,
    content_security_policy,
    display,
    media_type,
    safe_filename,
    viewable,
)

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=300)


class TestMediaType:
    @pytest.mark.parametrize(
        ("value", "plain"),
        [
            ("image/jpeg", "image/jpeg"),
            ("  IMAGE/JPEG ", "image/jpeg"),
            ("Text/Plain;Charset=UTF-8", "text/plain; charset=UTF-8"),
            ("text/plain ;\tcharset = utf-8", "text/plain"),
            ('text/plain; charset="utf-8"', "text/plain; charset=utf-8"),
            ('text/plain; name="a \\"b\\", c;d"', 'text/plain; name="a \\"b\\", c;d"'),
            ("text/plain; charset=utf-8; CHARSET=utf-7", "text/plain; charset=utf-8"),
            ("text/plain; a=b, text/html", "text/plain"),
            ("text/plain;; charset=utf-8;", "text/plain; charset=utf-8"),
            ("text/plain; charset; =x; a=; b=c d; e=f", "text/plain; e=f"),
            ("application/vnd.api+json", "application/vnd.api+json"),
        ],
    )
    def test_rfc9110_8_3_1_well_formed_parts_are_kept(self, value: str, plain: str) -> None:
        assert media_type(value) == plain

    @pytest.mark.parametrize(
        "value",
        [
            None, "", "image", "image/", "/jpeg", "image/jpeg/x", "image /jpeg", "image/ jpeg", "image/jpeg x", "*/*",
            "image/*", "text/html, image/png", "; text/html", "image/jpeg\r\nX: y", "imagé/jpeg", "image/jpeg; a=é",
            "a/" + "b" * MAX_TYPE,
        ],
    )  # fmt: skip
    def test_rfc9110_8_3_1_anything_else_is_an_octet_stream(self, value: str | None) -> None:
        assert media_type(value) == "application/octet-stream"

    def test_parameters_are_bounded(self) -> None:
        value = "a/b" + "".join(f"; p{n}=1" for n in range(MAX_PARAMETERS + 1))
        assert media_type(value) == value.rpartition(";")[0]

    @given(ANY_TEXT.map(lambda text: f"a/b; {text}") | ANY_TEXT)
    def test_it_is_its_own_plain_form_and_a_field_value(self, text: str) -> None:
        plain = media_type(text)
        assert media_type(plain) == plain
        assert plain.isascii()
        assert plain.replace("\t", " ").isprintable()


SCRIPTING = [
    "text/html", "TEXT/HTML; charset=utf-8", "application/xhtml+xml", "image/svg+xml", "image/svg",
    "image/svg+xml; a=b", "text/xml", "application/xml", "application/atom+xml", "application/mathml+xml",
    "video/x+xml", "image/xml", "text/javascript", "application/javascript", "application/ecmascript", "text/css",
    "multipart/x-mixed-replace", "multipart/related", "message/rfc822", "application/x-shockwave-flash",
]  # fmt: skip
UNKNOWN = [None, "", "image", "text/html, image/png", "application/octet-stream", "application/zip", "image/*", "x/y"]
VIEWABLE = [
    "image/jpeg", "image/png", "image/gif", "image/webp", "image/heic", "audio/mpeg", "audio/amr", "video/mp4",
    "video/3gpp", "application/pdf", "text/plain; charset=utf-8", "text/vcard", "text/x-vcard", "text/calendar",
]  # fmt: skip


class TestDisplay:
    @pytest.mark.parametrize("content_type", [*SCRIPTING, *UNKNOWN])
    def test_a_type_that_can_run_script_or_is_unknown_is_saved_whatever_is_asked(
        self, content_type: str | None
    ) -> None:
        assert not viewable(content_type)
        assert display(content_type) == "attachment"
        assert display(content_type, "inline") == "attachment"
        assert display(content_type, "attachment") == "attachment"

    @pytest.mark.parametrize("content_type", VIEWABLE)
    def test_a_viewable_type_is_shown_unless_asked_otherwise(self, content_type: str) -> None:
        assert display(content_type) == "inline"
        assert display(content_type, "inline") == "inline"
        assert display(content_type, "attachment") == "attachment"


class TestContentDisposition:
    @pytest.mark.parametrize(
        ("filename", "field"),
        [
            (None, "inline"),
            ("", "inline"),
            ("..", "inline"),
            (" . ", "inline"),
            ("photo.jpg", 'inline; filename="photo.jpg"'),
            ("my photo;1,2.jpg", 'inline; filename="my photo;1,2.jpg"'),
            ("naïve.jpg", "inline; filename=\"naive.jpg\"; filename*=UTF-8''na%C3%AFve.jpg"),
            ("nai\u0308ve.jpg", "inline; filename=\"naive.jpg\"; filename*=UTF-8''na%C3%AFve.jpg"),
            ("写真.jpg", "inline; filename=\"__.jpg\"; filename*=UTF-8''%E5%86%99%E7%9C%9F.jpg"),
            ("€ rates.txt", "inline; filename=\"_ rates.txt\"; filename*=UTF-8''%E2%82%AC%20rates.txt"),
            ('a"b.jpg', "inline; filename=\"a_b.jpg\"; filename*=UTF-8''a%22b.jpg"),
            ("50%41.jpg", "inline; filename=\"50_41.jpg\"; filename*=UTF-8''50%2541.jpg"),
            ("it's (1)*.jpg", 'inline; filename="it\'s (1)*.jpg"'),
            (
                "é'(*)!#$&+^`|~.jpg",
                "inline; filename=\"e'(*)!#$&+^`|~.jpg\"; filename*=UTF-8''%C3%A9%27%28%2A%29!#$&+^`|~.jpg",
            ),
            ("．．／x", "inline; filename=\"_x\"; filename*=UTF-8''%EF%BC%8E%EF%BC%8E%EF%BC%8Fx"),
            ("．", "inline; filename=\"_\"; filename*=UTF-8''%EF%BC%8E"),
        ],
    )
    def test_rfc6266_4_3(self, filename: str | None, field: str) -> None:
        assert content_disposition("inline", filename) == field
        assert content_disposition("attachment", filename) == field.replace("inline", "attachment", 1)

    @pytest.mark.parametrize(
        ("filename", "safe"),
        [
            ("../../etc/passwd", "_.._etc_passwd"),
            ("..\\..\\boot.ini", "_.._boot.ini"),
            (".htaccess", "htaccess"),
            ("a\r\nSet-Cookie: b=c", "aSet-Cookie: b=c"),
            ("a\x00b\x7f.jpg", "ab.jpg"),
            ("photo\u202egpj.exe", "photogpj.exe"),
            ("a\u2066b\u200bc\ufeffd\u2028e\u2029f.jpg", "abcdef.jpg"),
            ("\u200d\u0646\u200c.jpg", "\u200d\u0646\u200c.jpg"),
            ("a\udc80b", "ab"),
            ("  a \u00a0  b.  ", "a b"),
            ("name.", "name"),
        ],
    )
    def test_rfc6266_4_3_a_name_is_made_safe_to_save(self, filename: str, safe: str) -> None:
        assert safe_filename(filename) == safe

    @pytest.mark.parametrize(
        ("filename", "safe"),
        [
            ("a" * 300 + ".jpg", "a" * (MAX_NAME - 4) + ".jpg"),
            ("é" * 300 + ".jpeg", "é" * ((MAX_NAME - 5) // 2) + ".jpeg"),
            ("a" * 300, "a" * MAX_NAME),
            ("a." + "b" * 300, "a." + "b" * (MAX_NAME - 2)),
            ("a" * (MAX_NAME - 6) + ".  " + "b" * 40 + ".jpg", "a" * (MAX_NAME - 6) + ".jpg"),
            ("a" * MAX_NAME, "a" * MAX_NAME),
        ],
    )
    def test_a_long_name_is_cut_before_its_extension(self, filename: str, safe: str) -> None:
        assert safe_filename(filename) == safe

    @given(ANY_TEXT)
    def test_whatever_the_name_the_field_is_ascii_without_controls_and_its_names_are_safe(self, name: str) -> None:
        field = content_disposition("attachment", name)
        assert field.isascii()
        assert field.isprintable()
        kind, options = parse_options_header(field)
        assert kind == "attachment"
        safe = safe_filename(name)
        # werkzeug reads the last of filename and filename*
        assert options.get("filename", "") == safe
        assert len(safe.encode()) <= MAX_NAME
        assert safe_filename(safe) == safe
        assert not safe.startswith(".")
        assert not {"/", "\\"} & set(safe)
        assert not {"Cc", "Cs", "Zl", "Zp"} & {unicodedata.category(char) for char in safe}

    @given(ANY_TEXT)
    def test_the_plain_name_is_safe_by_itself(self, name: str) -> None:
        message = email.message.Message()
        message["Content-Disposition"] = content_disposition("inline", name).partition("; filename*=")[0]
        plain = message.get_filename("none")
        assert plain
        assert not plain.startswith(".")
        assert not set('/\\"%') & set(plain)


class TestContentSecurityPolicy:
    @pytest.mark.parametrize(
        "content_type", [*SCRIPTING, *UNKNOWN, "image/jpeg", "text/plain; charset=utf-8", "text/vcard", "text/calendar"]
    )
    def test_a_document_may_do_nothing(self, content_type: str | None) -> None:
        assert content_security_policy(content_type) == "default-src 'none'; sandbox"

    @pytest.mark.parametrize("content_type", ["video/mp4", "AUDIO/MPEG", "audio/ogg; codecs=opus"])
    def test_a_player_may_load_the_media_itself(self, content_type: str) -> None:
        policy = content_security_policy(content_type)
        assert policy == "default-src 'none'; media-src 'self'; sandbox allow-same-origin"

    def test_a_pdf_may_be_drawn_by_a_plugin(self) -> None:
        policy = content_security_policy("application/pdf")
        assert policy == "default-src 'none'; object-src 'self'; style-src 'unsafe-inline'"

    @pytest.mark.parametrize("content_type", [*SCRIPTING, *VIEWABLE, *UNKNOWN])
    def test_no_document_may_run_script(self, content_type: str | None) -> None:
        policy = content_security_policy(content_type)
        assert policy.startswith("default-src 'none'")
        assert "script" not in policy
