"""The sample media that ship with the package, and a short conversation that uses them.

Every file in `media/` was drawn, composed or written for this project.
"""

from __future__ import annotations

import functools
import random
import struct
from importlib import resources
from typing import Final

from proxy.sandbox.messages import Attachment, Direction, Draft

OURS: Final = "+15555550100"
ADA: Final = "+15555550142"
BEN: Final = "+15555550178"

_SURF_SIZE: Final = 5_000_000
_SURF_RATE: Final = 44_100
_RIFF_HEADER: Final = 44


@functools.cache
def _shipped(name: str) -> bytes:
    return resources.files(__package__).joinpath("media", name).read_bytes()


@functools.cache
def surf() -> bytes:
    """Make waves on a beach: a WAV file of exactly 5,000,000 bytes, 8 bits mono, the same at each call.

    The sound is noise whose loudness swells, so no two parts of the file are alike.
    """
    frames = _SURF_SIZE - _RIFF_HEADER
    noise = random.Random(20_090_717).randbytes(frames)  # noqa: S311 - a sound, not a secret
    step = _SURF_RATE // 20
    parts: list[bytes] = []
    for number, start in enumerate(range(0, frames, step)):
        phase = number % 160 / 160
        swell = 4 * phase * (1 - phase)
        depth = 4 + int(28 * swell * swell)
        loudness = bytes(128 + (value - 128) * depth // 128 for value in range(256))
        parts.append(noise[start : start + step].translate(loudness))
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", _SURF_SIZE - 8, b"WAVE", b"fmt ", 16, 1, 1, _SURF_RATE, _SURF_RATE, 1, 8,
        b"data", frames,
    )  # fmt: skip
    return header + b"".join(parts)


def _file(content_type: str, name: str) -> Attachment:
    return Attachment(content_type, name, _shipped(name))


def conversation(now: float) -> tuple[Draft, ...]:
    """Return the planning of a weekend, oldest message first; the last one came three minutes before `now`."""
    start = int(now)
    day = 86_400
    return (
        Draft(ADA, OURS, "Evening at the lake. You have to see this place!", Direction.INBOUND, start - 3 * day,
              (_file("image/jpeg", "lake.jpg"), _file("video/mp4", "lake-pan.mp4"))),
        Draft(OURS, ADA, "Wow. Count me in for the weekend.", Direction.OUTBOUND_REPLY, start - 3 * day + 240),
        Draft(ADA, OURS, "Here is the way up, the plan, and my card for the others.", Direction.INBOUND,
              start - 2 * day,
              (_file("image/png", "trail-map.png"), _file("application/pdf", "weekend-plan.pdf"),
               _file("text/vcard", "ada-okafor.vcf"))),
        Draft(OURS, BEN, "Ada asks whether you come too. The morning view:", Direction.OUTBOUND_API, start - day,
              (_file("image/webp", "hills.webp"), _file("image/gif", "bounce.gif"))),
        Draft(BEN, OURS, "In! I can not talk here, so I sing it.", Direction.INBOUND, start - day + 1_800,
              (_file("audio/ogg", "voice-note.ogg"), _file("audio/mpeg", "melody.mp3"))),
        Draft(BEN, OURS, "And this is two minutes of the sea from last year.", Direction.INBOUND, start - 180,
              (Attachment("audio/wav", "surf.wav", surf()),)),
    )  # fmt: skip
