from __future__ import annotations

import email.message
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.http import parse_options_header

from proxy.semantics.disposition import (
    MAX_DISPOSITION,
    MAX_NAME,
    MAX_PARAMETERS,
    MAX_TYPE,
    content_disposition,
    content_security_policy,
    display,
    filename_of,
    media_type,
    safe_filename,
    saved_name,
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
    def test_a_scripting_or_unknown_type_is_always_saved(self, content_type: str | None) -> None:
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
    def test_any_name_gives_an_ascii_field_with_safe_names(self, name: str) -> None:
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


def received(field: str, charset: str = "utf-8") -> str:
    """Return a field as it comes from the wire: a character for each octet."""
    return field.encode(charset).decode("latin-1")


class TestFilenameOf:
    @pytest.mark.parametrize(
        ("field", "name"),
        [
            (received('attachment; filename="Jörg.vcf"'), "Jörg.vcf"),
            (received('attachment; filename="日本語.jpg"'), "日本語.jpg"),
            (received("attachment; filename=日本 語.jpg"), "日本 語.jpg"),
            (received('attachment; filename="Jörg.vcf"', "latin-1"), "Jörg.vcf"),
            (received('attachment; filename="5 €.txt"', "cp1252"), "5 €.txt"),
            (received('attachment; filename="写%41.jpg"'), "写%41.jpg"),
            ("attachment; filename=photo.jpg", "photo.jpg"),
            ("attachment; filename=my photo 1.jpg", "my photo 1.jpg"),
            ("attachment; filename=my photo, 1.jpg ;x=y", "my photo, 1.jpg"),
            ("filename=photo.jpg", "photo.jpg"),
            ('attachment;filename = "a;b.jpg"', "a;b.jpg"),
            ('attachment; filename="a \\"b\\".jpg"', 'a "b".jpg'),
            ('attachment; filename="cut.jpg', "cut.jpg"),
            ('attachment; filename="a.jpg"b; x=y', "a.jpg"),
            ('attachment; filename=""; filename="second.jpg"; filename="third.jpg"', "second.jpg"),
            ('attachment; FILENAME="a.jpg"', "a.jpg"),
            ("attachment; filename*=UTF-8''%E6%97%A5.jpg", "日.jpg"),
            ("attachment; filename*=iso-8859-1''J%F6rg.jpg", "Jörg.jpg"),
            ("attachment; filename*=ISO-8859-1'de'5%80.jpg", "5€.jpg"),
            ("attachment; filename*=Shift_JIS'ja'%93%FA.jpg", "日.jpg"),
            ("attachment; filename*=\"UTF-8''a%20b.jpg\"", "a b.jpg"),
            (received("attachment; filename*=UTF-8''日.jpg"), "日.jpg"),
            ("attachment; filename=\"plain.jpg\"; filename*=UTF-8''%E2%82%AC.jpg", "€.jpg"),
            ("attachment; filename*=UTF-8''%E2%82%AC.jpg; filename=plain.jpg", "€.jpg"),
            ("attachment; filename*=UTF-8''%E9.jpg; filename=plain.jpg", "plain.jpg"),
            ("attachment; filename*=UTF-7''+AGE-.jpg; filename=plain.jpg", "plain.jpg"),
            ("attachment; filename*=rot13''n.jpg; filename=plain.jpg", "plain.jpg"),
            ("attachment; filename*=star.jpg; filename=plain.jpg", "plain.jpg"),
            ("attachment; filename*=UTF-8''..; filename=plain.jpg", "plain.jpg"),
            ('attachment; filename="%E6%97%A5.jpg"', "日.jpg"),
            ("attachment; filename=my%20photo.jpg", "my photo.jpg"),
            ('attachment; filename="100%.jpg"', "100%.jpg"),
            ('attachment; filename="J%F6rg.jpg"', "J%F6rg.jpg"),
            ('attachment; filename="a%2525.jpg"', "a%25.jpg"),
            ('attachment; filename="=?UTF-8?B?5pel5pys6KqeLmpwZw==?="', "日本語.jpg"),
            ("attachment; filename==?utf-8?b?5pel5pys6KqeLmpwZw?=", "日本語.jpg"),
            ('attachment; filename="=?iso-8859-1?Q?J=F6rg_M=FCller?= =?UTF-8*en?q?=2Ejpg?="', "Jörg Müller.jpg"),
            ('attachment; filename="=?utf-8?q?=E6=97?=  =?utf-8?q?=A5?= x.jpg"', "日 x.jpg"),
            ('attachment; filename="a =?utf-8?q?b?= c.jpg"', "a b c.jpg"),
            ('attachment; filename="=?ISO-2022-JP?B?GyRCRnxLXBsoQi5qcGc=?="', "日本.jpg"),
            ('attachment; filename="=?utf-8?q?=FF?=.jpg"', "=?utf-8?q?=FF?=.jpg"),
            ('attachment; filename="=?none?q?a?=.jpg"', "=?none?q?a?=.jpg"),
            ('attachment; filename="=?utf-8?b?a?=.jpg"', "=?utf-8?b?a?=.jpg"),
        ],
    )
    def test_a_name_is_read_as_browsers_read_it(self, field: str, name: str) -> None:
        assert filename_of(field) == name

    @pytest.mark.parametrize(
        ("field", "name"),
        [
            ('attachment; filename="..%2F..%2Fetc%2Fpasswd"', "_.._etc_passwd"),
            ("attachment; filename*=UTF-8''%2Fa%00b%0D%0Ac%5Cd.jpg", "_abc_d.jpg"),
            ("attachment; filename*=UTF-8''photo%E2%80%AEgpj.exe", "photogpj.exe"),
            (received('attachment; filename="photo\u202egpj.exe"'), "photogpj.exe"),
            ('attachment; filename="=?utf-8?q?=E2=80=AE=2F=2E?="', "_"),
            ("attachment; filename*=iso-8859-1''a%85b%81.jpg", "a…b.jpg"),
            ("attachment; filename=" + "%C3%A9" * 300 + ".jpeg", "é" * ((MAX_NAME - 5) // 2) + ".jpeg"),
        ],
    )
    def test_a_decoded_name_is_made_safe(self, field: str, name: str) -> None:
        assert filename_of(field) == name

    @pytest.mark.parametrize(
        "field",
        [None, "", "inline", "attachment; filename", "attachment; filename=", 'attachment; filename="', "; ; =x",
         "attachment; filename=..", "attachment; filename*=UTF-8''", "attachment; name=a.jpg",
         "attachment; filename=" + "a" * MAX_DISPOSITION],
    )  # fmt: skip
    def test_a_field_without_a_name_gives_none(self, field: str | None) -> None:
        assert filename_of(field) is None

    @given(
        st.sampled_from(["", "attachment; filename=", 'attachment; filename="', "attachment; filename*="]),
        ANY_TEXT
        | st.text(st.sampled_from("=?utf-8*'bBq%EF26;\"\\ .\u00e9\u00e2\u0080\u00ae/"), max_size=300)
        | st.binary(max_size=300).map(lambda octets: octets.decode("latin-1")),
    )
    def test_any_field_gives_a_safe_name_or_none(self, beginning: str, text: str) -> None:
        name = filename_of(beginning + text)
        assert name is None or (name == safe_filename(name) and len(name.encode()) <= MAX_NAME)
        saved = saved_name(beginning + text, "image/jpeg", "ME1")
        assert saved is not None
        assert safe_filename(saved).rpartition(".")[0]
        assert content_disposition("inline", saved).isascii()

    @given(st.text(st.characters(exclude_characters='"\\%'), min_size=1).filter(safe_filename))
    def test_what_goes_out_is_read_back(self, name: str) -> None:
        assert filename_of(content_disposition("attachment", name)) == safe_filename(name)

    @pytest.mark.parametrize("piece", ["=?a?b?", "=?utf-8?q?a?=", "%", "%E6", "\\", ";", "=", " ", '"', "\u00e9", "=?"])
    @pytest.mark.parametrize("beginning", ["", "a;filename=", 'a;filename="', "a;filename*=utf-8''"])
    def test_a_repetitive_field_is_read_in_linear_work(self, beginning: str, piece: str) -> None:
        # A pattern that is tried again at each character would not come to an end here.
        filename_of(beginning + piece * ((MAX_DISPOSITION - len(beginning)) // len(piece)))


class TestSavedName:
    @pytest.mark.parametrize(
        ("content_type", "ending"),
        [
            ("image/jpeg", "jpg"), ("image/jpg", "jpg"), ("image/png", "png"), ("image/gif", "gif"),
            ("image/webp", "webp"), ("image/heic", "heic"), ("image/heif", "heif"), ("image/tiff", "tiff"),
            ("image/bmp", "bmp"), ("audio/mpeg", "mp3"), ("audio/mp3", "mp3"), ("audio/mp4", "m4a"),
            ("audio/ogg", "ogg"), ("audio/ogg; codecs=opus", "ogg"), ("audio/amr", "amr"), ("audio/aac", "aac"),
            ("audio/3gpp", "3gp"), ("audio/wav", "wav"), ("video/mp4", "mp4"), ("video/mpeg", "mpeg"),
            ("video/quicktime", "mov"), ("video/3gpp", "3gp"), ("video/webm", "webm"), ("application/pdf", "pdf"),
            ("text/vcard", "vcf"), ("text/x-vcard", "vcf"), ("text/calendar; method=REQUEST", "ics"),
            ("application/msword", "doc"), ("application/vnd.ms-excel", "xls"),
            ("application/vnd.ms-powerpoint", "ppt"),
            ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "docx"),
            ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx"),
            ("application/vnd.openxmlformats-officedocument.presentationml.presentation", "pptx"),
            ("application/vnd.apple.pkpass", "pkpass"), ("text/plain; charset=utf-8", "txt"), ("text/csv", "csv"),
        ],
    )  # fmt: skip
    def test_a_nameless_media_is_saved_with_its_types_extension(self, content_type: str, ending: str) -> None:
        assert saved_name(None, content_type, "ME1") == f"ME1.{ending}"
        assert saved_name("attachment", content_type, "ME1") == f"ME1.{ending}"

    @pytest.mark.parametrize("content_type", ["application/octet-stream", "binary/octet-stream", "x/y", "image/x-new"])
    def test_a_type_without_an_extension_gives_none(self, content_type: str) -> None:
        assert saved_name(None, content_type, "ME1") is None
        assert saved_name("attachment; filename=photo", content_type, "ME1") == "photo"

    @pytest.mark.parametrize(
        ("given", "saved"),
        [
            ("photo", "photo.jpg"),
            ("report v1.2", "report v1.2.jpg"),
            ("My. Photo", "My. Photo.jpg"),
            ("photo.", "photo.jpg"),
            ("photo.png", "photo.png"),
            ("a.7z", "a.7z"),
            ("a..jpeg", "a..jpeg"),
        ],
    )
    def test_an_upstreams_name_without_an_extension_gets_its_types(self, given: str, saved: str) -> None:
        assert saved_name(f'attachment; filename="{given}"', "image/jpeg", "ME1") == saved

    def test_the_extension_is_kept_where_a_long_name_is_cut(self) -> None:
        saved = saved_name("attachment; filename=" + "a" * 300, "image/jpeg", "ME1")
        assert content_disposition("inline", saved) == f'inline; filename="{"a" * (MAX_NAME - 4)}.jpg"'


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
