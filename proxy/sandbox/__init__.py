"""The sandbox: a pretend provider, to show and to test the gateway against.

It has two servers. The **API** knows credentials, messages and their media, and sends a fetch of bytes on to the
**CDN**, which is an origin of its own and refuses credentials: whether a client keeps them to the first hop shows here.
Which redirect that is, or none, is the *mode*. **Faults** spoil an answer on purpose, at a *point* of the exchange.
The **control** resource at `/_sandbox` lays them on, sets the mode, shows what was asked and brings inbound messages.

    sandbox            starts and stops the two servers; what tests and the command line hold
    api, cdn, control  the servers' answers, in the providers' forms
    state              what the servers share, and what every answer goes through
    targets, locations the paths of the API and of the CDN, and the redirects between them; `signing` signs those
    documents, listing what the API says of messages and media, in JSON and XML, and in pages
    delivery           bytes on their way out; `conditions` decides which of them
    faults, fault_board  the kinds of faults, and those that are laid on
    hosts              the hosts that are answered, so that a page whose name was rebound reads nothing
    creation, fetching messages as an application creates them, and the files that `MediaUrl` names
    storage            messages and media in memory, kept by `ledger` in SQLite and by `folder` as files
    samples, seeding   messages to begin with: a conversation, or a user's own files

The sandbox takes nothing from the gateway but its errors, its identifiers and the phrases of statuses. Conditions,
ranges, dates, entity-tags and what a fetched file may be kept for are decided by rules of its own, on purpose: tests
hold the gateway against it, and an oracle that shared the gateway's rules would share its mistakes.
"""

from proxy.sandbox.fault_board import FaultRule
from proxy.sandbox.faults import (
    Disconnect,
    Fault,
    Headers,
    Overrun,
    Oversize,
    Point,
    Raw,
    RedirectHops,
    RedirectLoop,
    RedirectStatus,
    RedirectTo,
    StallBody,
    StallHeaders,
    Status,
    Truncate,
    Unlengthed,
    WrongType,
)
from proxy.sandbox.messages import Direction, Media, Message
from proxy.sandbox.options import Mode, SandboxOptions
from proxy.sandbox.records import Origin, RequestRecord
from proxy.sandbox.sandbox import Sandbox

__all__ = [
    "Direction",
    "Disconnect",
    "Fault",
    "FaultRule",
    "Headers",
    "Media",
    "Message",
    "Mode",
    "Origin",
    "Overrun",
    "Oversize",
    "Point",
    "Raw",
    "RedirectHops",
    "RedirectLoop",
    "RedirectStatus",
    "RedirectTo",
    "RequestRecord",
    "Sandbox",
    "SandboxOptions",
    "StallBody",
    "StallHeaders",
    "Status",
    "Truncate",
    "Unlengthed",
    "WrongType",
]
