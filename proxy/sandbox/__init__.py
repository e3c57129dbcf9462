"""A stand-in for the providers' Media resource, to show and to test the gateway against."""

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
