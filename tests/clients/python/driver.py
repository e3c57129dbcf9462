"""Drives a provider's Python library in a process of its own: a JSON line in is a call, a JSON line out is its outcome.

The argument names the library: `twilio`, `twilio-async` or `signalwire`. Nothing but that library and what it requires
is imported, so the file runs wherever the library does.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import requests
from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.http.http_client import TwilioHttpClient

Call = dict[str, Any]
Outcome = dict[str, Any]

PROPERTIES = ("sid", "account_sid", "parent_sid", "content_type", "uri")
DATES = ("date_created", "date_updated")
FILTERS = ("date_created", "date_created_before", "date_created_after", "limit", "page_size")


class Recorder:
    """The library's own HTTP client, and what it was answered."""

    is_async = False

    def __init__(self) -> None:
        self.inner = TwilioHttpClient()
        self.answers: list[Outcome] = []

    def request(self, method: str, url: str, **options: Any) -> Any:
        response = self.inner.request(method, url, **options)
        self.answers.append(answer(method, url, response))
        return response


def answer(method: str, url: str, response: Any) -> Outcome:
    return {"method": method, "url": url, "status": response.status_code, "text": response.text}


def media_values(media: Any) -> Outcome:
    """Return what the library made of a media's properties; dates in ISO 8601."""
    values = {name: getattr(media, name) for name in PROPERTIES}
    return values | {name: getattr(media, name).isoformat() for name in DATES}


def filters(call: Call) -> dict[str, Any]:
    return {name: call[name] for name in FILTERS if name in call}


def refusal(error: TwilioException) -> Outcome:
    """Return status and code, of an error of the library's or of the answer that it does not take for a page."""
    if isinstance(error, TwilioRestException):
        return {"kind": "rest", "status": error.status, "code": error.code, "message": error.msg}
    if len(error.args) < 2:
        return {"kind": "unread", "status": 200, "code": 0, "message": str(error)}
    response = error.args[1]
    document = json.loads(response.text)
    return {"kind": "page", "status": response.status_code, "code": document["code"], "message": document["message"]}


def content(status: int, headers: Any, octets: bytes, url: str) -> Outcome:
    fields = {name.lower(): value for name, value in headers.items()}
    return {"status": status, "headers": fields, "octets": base64.b64encode(octets).decode(), "url": url}


# --- libraries that block ------------------------------------------------------------------------------------------


def blocking_client(library: str, call: Call, recorder: Recorder) -> Any:
    """Return a client made as the library's documents say, then pointed at the place."""
    username, password = call["username"], call["password"]
    # The account is given apart if it is not the user name.
    apart = {} if username == call["account"] else {"account_sid": call["account"]}
    if library == "signalwire":
        from signalwire.rest import Client as SignalWireClient

        space = "example.signalwire.com"
        client = SignalWireClient(username, password, signalwire_space_url=space, http_client=recorder, **apart)
    else:
        from twilio.rest import Client

        client = Client(username, password, http_client=recorder, **apart)
    client.api.base_url = call["base"]
    return client


def blocking_call(client: Any, call: Call) -> Any:
    match call["call"]:
        case "fetch":
            return media_values(client.messages(call["message"]).media(call["media"]).fetch())
        case "delete":
            return client.messages(call["message"]).media(call["media"]).delete()
        case "list":
            return [media_values(media) for media in client.messages(call["message"]).media.list(**filters(call))]
        case "stream":
            return [media_values(media) for media in client.messages(call["message"]).media.stream(**filters(call))]
        case "pages":
            return list(pages(client.messages(call["message"]).media.page(**filters(call))))
        case "back":
            return list(pages(client.messages(call["message"]).media.get_page(call["url"]), "previous_page"))
        case "text":
            response = client.request("GET", call["url"])
            return {"status": response.status_code, "text": response.text}
        case "bytes":
            credentials = None if call["anonymous"] else (call["username"], call["password"])
            with requests.Session() as session:
                # The credentials of a call, and not those of a .netrc, are what is under test.
                session.trust_env = False
                response = session.get(call["url"], auth=credentials, allow_redirects=call["follow"], timeout=30)
                return content(response.status_code, response.headers, response.content, response.url)
        case unknown:
            raise AssertionError(unknown)


def pages(page: Any, step: str = "next_page") -> Iterator[Outcome]:
    while page is not None:
        yield {"media": [media_values(media) for media in page], "url": page.next_page_url}
        page = getattr(page, step)()


# --- the library that awaits ---------------------------------------------------------------------------------------


async def awaiting_call(call: Call, answers: list[Outcome]) -> Any:
    import aiohttp
    from twilio.http.async_http_client import AsyncTwilioHttpClient
    from twilio.rest import Client

    async with AsyncTwilioHttpClient() as inner:

        class AsyncRecorder:
            is_async = True

            async def request(self, method: str, url: str, **options: Any) -> Any:
                response = await inner.request(method, url, **options)
                answers.append(answer(method, url, response))
                return response

        apart = {} if call["username"] == call["account"] else {"account_sid": call["account"]}
        client = Client(call["username"], call["password"], http_client=AsyncRecorder(), **apart)
        client.api.base_url = call["base"]
        match call["call"]:
            case "fetch":
                return media_values(await client.messages(call["message"]).media(call["media"]).fetch_async())
            case "delete":
                return await client.messages(call["message"]).media(call["media"]).delete_async()
            case "list":
                return [
                    media_values(media)
                    for media in await client.messages(call["message"]).media.list_async(**filters(call))
                ]
            case "stream":
                stream = await client.messages(call["message"]).media.stream_async(**filters(call))
                return [media_values(media) async for media in stream]
            case "pages" | "back":
                listed = client.messages(call["message"]).media
                back = call["call"] == "back"
                page = await (listed.get_page_async(call["url"]) if back else listed.page_async(**filters(call)))
                found = []
                while page is not None:
                    found.append({"media": [media_values(media) for media in page], "url": page.next_page_url})
                    page = await (page.previous_page_async() if back else page.next_page_async())
                return found
            case "text":
                response = await client.request_async("GET", call["url"])
                return {"status": response.status_code, "text": response.text}
            case "bytes":
                credentials = None if call["anonymous"] else aiohttp.BasicAuth(call["username"], call["password"])
                async with (
                    aiohttp.ClientSession() as session,
                    session.get(call["url"], auth=credentials, allow_redirects=call["follow"]) as got,
                ):
                    return content(got.status, got.headers, await got.read(), str(got.url))
            case unknown:
                raise AssertionError(unknown)


# --- the lines -----------------------------------------------------------------------------------------------------


def outcome(act: Callable[[], Any], answers: list[Outcome]) -> Outcome:
    try:
        return {"result": act(), "answers": answers}
    except TwilioException as error:
        return {"refused": refusal(error), "answers": answers}


def main(library: str) -> None:
    for line in sys.stdin:
        call = json.loads(line)
        if library == "twilio-async":
            answers: list[Outcome] = []
            given = outcome(functools.partial(asyncio.run, awaiting_call(call, answers)), answers)
        else:
            recorder = Recorder()
            client = blocking_client(library, call, recorder)
            given = outcome(functools.partial(blocking_call, client, call), recorder.answers)
            recorder.inner.session.close()
        sys.stdout.write(json.dumps(given) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
