from datetime import UTC, datetime
from os import environ

import requests
from flask import Flask, Response, abort, request
from twilio.request_validator import RequestValidator

app = Flask(__name__)
messages: dict[str, tuple[bytes, list[dict[str, str]]]] = {}  # your database, by MessageSid: the form and its links


def mint(form: bytes) -> list[dict[str, str]]:
    client, _, secret = environ["CLIENT"].partition(":")
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = requests.post(environ["GATEWAY"] + "/links", form, auth=(client, secret), headers=headers, timeout=20)
    answer.raise_for_status()
    return list(answer.json()["links"])


@app.post("/incoming")
def incoming() -> Response:
    form, signature = request.get_data(), request.headers["X-Twilio-Signature"]
    if not RequestValidator(environ["TWILIO_AUTH_TOKEN"]).validate(environ["WEBHOOK_URL"], request.form, signature):
        abort(403)
    messages[request.form["MessageSid"]] = form, mint(form)
    return Response("<Response/>", mimetype="text/xml")


@app.get("/messages/<sid>/media")
def media(sid: str) -> list[dict[str, str]]:
    form, links = messages.get(sid) or abort(404)
    stale = any(datetime.fromisoformat(link["refresh_at"]) < datetime.now(UTC) for link in links)
    return mint(form) if stale else links
