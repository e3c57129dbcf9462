"""Requests of a person who opens an address in a window or a frame, and reads what comes."""

from __future__ import annotations

import re
from typing import Final

from proxy.semantics.fields import Fields, split_list

NEGOTIATED: Final = "Accept, Sec-Fetch-Dest"
"""The request fields that decide it, as `Vary` names them (RFC 9110 §12.5.5)."""

# A destination of the Fetch standard whose answer is shown as a document.
_DOCUMENTS: Final = frozenset({"document", "iframe", "embed"})
_HTML: Final = "text/html"
# RFC 9110 §12.4.2
_WEIGHT: Final = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?", re.ASCII)


def wants_page(request: Fields) -> bool:
    """Return whether an error is to come as a page.

    `Accept` has to name `text/html`: wildcards are what programs send. `Sec-Fetch-Dest` decides too, if it is sent:
    an element of a page, or a script, shows nothing of an error.
    """
    destinations = request.all("Sec-Fetch-Dest")
    if destinations and (len(destinations) > 1 or destinations[0].strip(" \t") not in _DOCUMENTS):
        return False
    return any(map(_names_html, split_list(request.combined("Accept") or "")))


def _names_html(media_range: str) -> bool:
    """Return whether a member of `Accept` is `text/html` with a weight above 0 (RFC 9110 §12.5.1)."""
    name, *parameters = split_list(media_range, ";") or ("",)
    if name.lower() != _HTML:
        return False
    weights = [value.strip(" \t") for key, _, value in (part.partition("=") for part in parameters) if _is_q(key)]
    return all(_WEIGHT.fullmatch(weight) is not None and float(weight) > 0 for weight in weights)


def _is_q(name: str) -> bool:
    return name.strip(" \t").lower() == "q"
