"""The form that a provider posts to an application's webhook when a message comes in."""

from __future__ import annotations

from proxy.sandbox.messages import Message
from proxy.sandbox.targets import media_path


def webhook_fields(message: Message, api_url: str) -> dict[str, str]:
    """The fields for one message; `api_url` is the origin of its media's addresses."""
    fields = {
        "MessageSid": message.sid,
        "SmsSid": message.sid,
        "SmsMessageSid": message.sid,
        "AccountSid": message.ref.account.value,
        "From": message.from_,
        "To": message.to,
        "Body": message.body,
        "NumMedia": str(len(message.media)),
        "NumSegments": "1",
        "SmsStatus": "received",
        "ApiVersion": "2010-04-01",
    }
    for place, media in enumerate(message.media):
        fields[f"MediaContentType{place}"] = media.content_type
        fields[f"MediaUrl{place}"] = api_url + media_path(media.ref)
    return fields
