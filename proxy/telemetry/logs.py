"""The form and the destination of log lines: text or JSON, written by a thread of their own."""

from __future__ import annotations

import json
import logging
import queue
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from typing import Final, TextIO

from proxy.telemetry.access_log import ACCESS_LOGGER, Fact, Noted, Sentence, Style, hand_over_all
from proxy.telemetry.redaction import redact
from proxy.telemetry.request_context import request_facts

ROOT_LOGGER: Final = "media_gateway"
_QUEUED_LINES: Final = 50_000
_QUEUED_BATCHES: Final = 50
_FOREIGN: Final = ("aiohttp", "asyncio")
# Faster than `json.dumps`, which does several times as much for each value.
_encode: Final = json.JSONEncoder().encode
# Printable ASCII, and no white space, quote, backslash or equals sign.
_PLAIN: Final = re.compile(r"[!#-<>-\[\]-~]+")


def _facts(record: logging.LogRecord) -> Mapping[str, object]:
    facts = getattr(record, "facts", None)
    return facts if isinstance(facts, Mapping) else {}


def _batch(record: logging.LogRecord) -> list[Noted]:
    batch = getattr(record, "batch", None)
    return batch if isinstance(batch, list) else []


def _moment(created: float) -> str:
    return datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Moments:
    """Texts of moments that follow each other closely: that of each second and millisecond is made once."""

    def __init__(self) -> None:
        self._second = -1
        self._of_second = ""
        self._millisecond = -1
        self._text = ""

    def text(self, created: float) -> str:
        millisecond = round(created * 1e6) // 1_000
        if millisecond != self._millisecond:
            second, rest = divmod(millisecond, 1_000)
            if second != self._second:
                self._of_second, self._second = datetime.fromtimestamp(second, UTC).isoformat()[:19], second
            self._text, self._millisecond = f"{self._of_second}.{rest:03d}Z", millisecond
        return self._text


def _lines(batch: list[Noted], style: Style, pieces: tuple[str, str, str, str, str]) -> str:
    """Return the lines of a batch; `pieces` surround the moment, the seconds and the request id of each."""
    opening, head, seconds_name, id_name, closing = pieces
    moments = _Moments()
    lines: list[str] = []
    last: Sentence | None = None
    text = ""
    for now, seconds, request_id, sentence in batch:
        if sentence is not last:
            last, text = sentence, sentence.text(style)
        took = round(seconds, 4) if seconds else 0.0
        lines.append(f"{opening}{moments.text(now)}{head}{text}{seconds_name}{took}{id_name}{request_id}{closing}")
    return "\n".join(lines)


class TextFormatter(logging.Formatter):
    """The text form: `time level logger message name=value …`; a value with spaces or quotes is quoted as in JSON."""

    def words(self, facts: Mapping[str, Fact]) -> str:
        """Return facts with the separator before the next fact."""
        return "".join([f"{name}={_word(value)} " for name, value in facts.items()])

    def format(self, record: logging.LogRecord) -> str:
        batch = _batch(record)
        if batch:
            head = f" {record.levelname.lower()} {record.name} {record.getMessage()} "
            return _lines(batch, self, ("", head, "seconds=", " request_id=", ""))
        words = [_moment(record.created), record.levelname.lower(), record.name, _one_line(redact(record.getMessage()))]
        words += [f"{name}={_word(value)}" for name, value in _facts(record).items()]
        line = " ".join(words)
        if record.exc_info:
            # Indented, so that none of these lines can be taken for a line of the log.
            trace = redact(self.formatException(record.exc_info)).splitlines()
            line += "".join(f"\n  {_one_line(part)}" for part in trace)
        return line


class JsonFormatter(logging.Formatter):
    """The JSON form: one object per line."""

    def words(self, facts: Mapping[str, Fact]) -> str:
        """Return facts with the separator before the next fact."""
        return "".join([f"{_encode(name)}: {_encode(value)}, " for name, value in facts.items()])

    def format(self, record: logging.LogRecord) -> str:
        batch = _batch(record)
        if batch:
            facts = {"level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
            head = f'", {self.words(facts)}'
            return _lines(batch, self, ('{"time": "', head, '"seconds": ', ', "request_id": "', '"}'))
        line: dict[str, object] = {
            "time": _moment(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
            **_facts(record),
        }
        if record.exc_info:
            line["exception"] = redact(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=True, default=str)


def _one_line(text: str) -> str:
    return text if text.isascii() and text.isprintable() else _encode(text)


def _word(value: object) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else _encode(text)


class _BoundedQueueHandler(QueueHandler):
    """The entrance to the log's queue, which drops lines if the queue is full: a stuck terminal must not stop answers.

    It logs the number of dropped lines once there is room again.
    """

    def __init__(self, lines: queue.SimpleQueue[logging.LogRecord]) -> None:
        super().__init__(lines)
        self._lines = lines
        self._dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        # A SimpleQueue never waits for a lock, and has no bound of its own.
        batch = _batch(record)
        if self._lines.qsize() >= (_QUEUED_BATCHES if batch else _QUEUED_LINES):
            self._dropped += len(batch) or 1
            return
        if self._dropped:
            self._lines.put(_dropped(self._dropped))
            self._dropped = 0
        self._lines.put(record)

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        # The formatter runs in this process, so the record needs no flattening. The request is known here alone: the
        # thread of the log has another context. A library may log from a destructor, in the context of any request.
        about = request_facts()
        facts = _facts(record)
        if about and not _batch(record) and "request_id" not in facts and record.name.startswith(f"{ROOT_LOGGER}."):
            record.facts = {**facts, **about}
        return record


def _dropped(count: int) -> logging.LogRecord:
    message = "%d lines were dropped, because the log could not be written fast enough"
    return logging.LogRecord(f"{ROOT_LOGGER}.log", logging.WARNING, "", 0, message, (count,), None)


@contextmanager
def logging_to(
    *, as_json: bool, level: str, access: TextIO | None = None, program: TextIO | None = None
) -> Iterator[None]:
    """Send the access log to `access` (standard output), and all else to `program` (standard error), within the scope.

    `level` is `debug`, `info`, `warning` or `error`.
    """
    formatter = JsonFormatter() if as_json else TextFormatter()
    lines: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    to_access = logging.StreamHandler(access or sys.stdout)
    to_access.addFilter(lambda record: record.name == ACCESS_LOGGER)
    to_program = logging.StreamHandler(program or sys.stderr)
    to_program.addFilter(lambda record: record.name != ACCESS_LOGGER)
    for handler in (to_access, to_program):
        handler.setFormatter(formatter)
    entrance = _BoundedQueueHandler(lines)
    listener = QueueListener(lines, to_access, to_program)
    loggers = [logging.getLogger(name) for name in (ROOT_LOGGER, *_FOREIGN)]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(entrance)
        logger.setLevel(level.upper() if logger.name == ROOT_LOGGER else logging.WARNING)
        logger.propagate = False
    listener.start()
    try:
        yield
    finally:
        hand_over_all()
        for logger, (old_level, old_propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(entrance)
            logger.setLevel(old_level)
            logger.propagate = old_propagate
        listener.stop()
