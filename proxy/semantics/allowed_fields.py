"""The allow-list of a provider's fields: all that is stored of them, and so all that an answer to a client can hold.

`web.media.headers` makes the fields of an answer from them.
"""

from __future__ import annotations

from typing import Final

from proxy.semantics.fields import Fields, split_list

_ALLOWED: Final = frozenset(
    {
        # read by the rules of this package
        "age",
        "cache-control",
        "date",
        "etag",
        "expires",
        "last-modified",
        "vary",
        # representation metadata, of which the answer to a client is derived
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-length",
        "content-type",
    }
)


def allowed_fields(fields: Fields) -> Fields:
    """Return the fields that are stored, by an allow-list.

    RFC 9111 §3.1 would keep unknown fields and drop those of the connection; the gateway answers under links of its own
    and passes on what is listed, so it keeps nothing that it would not use: no cookie, no Location, no challenge. A
    field that `Connection` nominates belongs to the connection even if it is on the list (RFC 9110 §7.6.1).
    """
    nominated = {option.lower() for option in split_list(fields.combined("Connection") or "")}
    kept = _ALLOWED - nominated
    return Fields(tuple((name, value) for name, value in fields if name.lower() in kept))
