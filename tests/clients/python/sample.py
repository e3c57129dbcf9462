"""A program that runs a sample of the documents as it stands: `sample.py FILE BASE_URL [OLD=NEW…]`.

The client that it makes is pointed at BASE_URL, and each identifier OLD that it names is NEW.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import twilio.rest


def main(name: str, base_url: str, *identifiers: str) -> None:
    made = twilio.rest.Client

    def pointed(*arguments: Any) -> Any:
        client = made(*arguments)
        client.api.base_url = base_url
        return client

    twilio.rest.Client = pointed
    text = Path(name).read_text("utf-8")
    for pair in identifiers:
        old, _, new = pair.partition("=")
        assert old in text, f"{old} is not in the sample"
        text = text.replace(old, new)
    exec(compile(text, name, "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    main(*sys.argv[1:])
