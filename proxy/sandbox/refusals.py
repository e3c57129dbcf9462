"""The reasons for which a message is not created, in the provider's codes and words."""

from __future__ import annotations

import enum


class Refusal(enum.Enum):
    """A code of the provider's error dictionary, and its message."""

    NO_TO = (21604, "A 'To' phone number is required.")
    NO_FROM = (21603, "A 'From' phone number is required.")
    NO_CONTENT = (21619, "A text message body or media urls must be specified.")
    BODY_TOO_LONG = (21617, "The concatenated message body exceeds the 1600 character limit.")
    TOO_MANY_MEDIA = (21623, "Number of media files exceeds allowed limit.")
    BAD_MEDIA_URL = (21620, "Invalid media URL(s).")
    TOO_LARGE = (11751, "Media exceeds messaging provider size limit.")
    NOT_FETCHED = (11200, "HTTP retrieval failure.")
    NO_CONTENT_TYPE = (12300, "Invalid Content-Type.")
    BAD_FORM = (20001, "The request's body cannot be read.")

    @property
    def code(self) -> int:
        return self.value[0]

    @property
    def message(self) -> str:
        return self.value[1]


class Refused(Exception):
    """A refusal to create a message."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
