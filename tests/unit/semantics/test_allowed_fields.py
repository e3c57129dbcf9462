"""RFC 9111 §3.1: the fields that are kept of a response."""

from __future__ import annotations

from proxy.semantics.allowed_fields import allowed_fields
from proxy.semantics.fields import Fields


def test_s3_1_only_listed_fields_are_stored() -> None:
    received = Fields.of(
        [
            ("Content-Type", "image/jpeg"),
            ("ETAG", '"a"'),
            ("Set-Cookie", "a=b"),
            ("Location", "https://cdn.example/secret"),
            ("Connection", "close"),
            ("Keep-Alive", "timeout=5"),
            ("Transfer-Encoding", "chunked"),
            ("Proxy-Authenticate", "Basic"),
            ("WWW-Authenticate", "Basic"),
            ("X-Whatever", "1"),
            ("Vary", "Origin"),
            ("Vary", "Accept"),
        ]
    )
    assert allowed_fields(received).lines == (
        ("Content-Type", "image/jpeg"),
        ("ETAG", '"a"'),
        ("Vary", "Origin"),
        ("Vary", "Accept"),
    )


def test_s3_1_fields_that_rules_and_answers_need_are_stored() -> None:
    names = [
        "Age",
        "Cache-Control",
        "Date",
        "ETag",
        "Expires",
        "Last-Modified",
        "Vary",
        "Content-Disposition",
        "Content-Encoding",
        "Content-Language",
        "Content-Length",
        "Content-Type",
    ]
    received = Fields.of((name, "x") for name in names)
    assert allowed_fields(received) == received


def test_s3_1_a_field_that_connection_nominates_is_not_stored() -> None:
    received = Fields.of([("Connection", "close, ETag"), ("connection", "age"), ("ETag", '"a"'), ("Age", "1")])
    assert allowed_fields(received) == Fields()
