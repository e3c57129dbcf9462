"""The logs' lines: where they go, how they look, and that nothing in them can break a line or hold the program up."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.telemetry import logs
from proxy.telemetry.access_log import ACCESS_LOGGER, LoggedAnswer
from proxy.telemetry.logs import JsonFormatter, TextFormatter, logging_to
from proxy.telemetry.request_context import about_request
from tests.unit.telemetry.lines import NOW

ANYTHING = st.text(st.characters(), max_size=80)
PROGRAM = logging.getLogger("media_gateway.test")


def log_access(target: str) -> None:
    noted = LoggedAnswer("request-1", None, "GET", target, 200, 5, 0.5).noted(NOW)
    logging.getLogger(ACCESS_LOGGER).info("access", extra={"batch": [noted]})


def record(
    message: str, facts: dict[str, object] | None = None, *, raised: BaseException | None = None
) -> logging.LogRecord:
    exc_info = None if raised is None else (type(raised), raised, raised.__traceback__)
    made = logging.LogRecord("media_gateway.test", logging.INFO, "", 0, message, (), exc_info)
    made.created = 1_790_000_000.25
    if facts is not None:
        made.facts = facts
    return made


def thrown(error: RuntimeError | ValueError) -> RuntimeError | ValueError:
    try:
        raise error
    except (RuntimeError, ValueError) as caught:
        return caught


def test_a_text_line_is_time_level_logger_message_and_facts() -> None:
    line = TextFormatter().format(record("a message", {"status": 200, "agent": "a b", "empty": "", "x": 'q"='}))
    assert line == (
        '2026-09-21T14:13:20.250Z info media_gateway.test a message status=200 agent="a b" empty="" x="q\\"="'
    )


def test_a_json_line_is_one_object() -> None:
    line = JsonFormatter().format(record("a message", {"status": 200, "agent": "a b"}))
    assert json.loads(line) == {
        "time": "2026-09-21T14:13:20.250Z", "level": "info", "logger": "media_gateway.test", "message": "a message",
        "status": 200, "agent": "a b",
    }  # fmt: skip


@given(ANYTHING, ANYTHING)
def test_no_character_breaks_a_line(message: str, value: str) -> None:
    for formatter in (TextFormatter(), JsonFormatter()):
        line = formatter.format(record(message, {"value": value}))
        assert len(line.splitlines()) == 1
        assert line.isascii()
        assert line.isprintable()


@given(ANYTHING)
def test_no_exception_forges_a_line(message: str) -> None:
    raised = thrown(RuntimeError(message + "\n2026-01-01T00:00:00.000Z info media_gateway.access access status=200"))
    first, *rest = TextFormatter().format(record("failed", raised=raised)).splitlines()
    assert first.endswith("failed")
    assert rest
    assert all(line.startswith("  ") for line in rest)
    assert len(JsonFormatter().format(record("failed", raised=raised)).splitlines()) == 1


def test_secrets_are_left_out_of_messages_and_exceptions() -> None:
    signature = "mAwW9JmAUwEE6AFAxXs-ksNfqwiPkkffTcH0xNjwiE4"
    for formatter in (TextFormatter(), JsonFormatter()):
        line = formatter.format(record(f"a {signature}", raised=thrown(ValueError(f"https://u:p4ss@h/?a={signature}"))))
        assert signature not in line
        assert "p4ss" not in line


def test_the_access_log_and_the_rest_go_their_own_ways() -> None:
    access, program = StringIO(), StringIO()
    with logging_to(as_json=True, level="info", access=access, program=program):
        log_access("/a")
        PROGRAM.warning("careful")
        PROGRAM.debug("not asked for")
        logging.getLogger("asyncio").warning("of a library")
    assert [json.loads(line)["target"] for line in access.getvalue().splitlines()] == ["/a"]
    messages = [json.loads(line)["message"] for line in program.getvalue().splitlines()]
    assert messages == ["careful", "of a library"]


def test_lines_name_their_request_even_in_tasks_that_outlive_it() -> None:
    program = StringIO()

    async def outlive(over: asyncio.Event) -> None:
        await over.wait()
        PROGRAM.warning("of a task")

    async def serve() -> None:
        over = asyncio.Event()
        with about_request("request-1", "trace-1"):
            PROGRAM.warning("of a request", extra={"facts": {"host": "a"}})
            logging.getLogger("asyncio").warning("of a library")
            PROGRAM.warning("of another", extra={"facts": {"request_id": "request-0"}})
            task = asyncio.create_task(outlive(over))
        with about_request("request-2"):
            PROGRAM.warning("of the next")
            over.set()
            await task
        PROGRAM.warning("of none")

    with logging_to(as_json=True, level="info", access=StringIO(), program=program):
        asyncio.run(serve())
    said = [json.loads(line) for line in program.getvalue().splitlines()]
    assert [(line["message"], line.get("host"), line.get("request_id"), line.get("trace_id")) for line in said] == [
        ("of a request", "a", "request-1", "trace-1"),
        ("of a library", None, None, None),
        ("of another", None, "request-0", None),
        ("of the next", None, "request-2", None),
        ("of a task", None, "request-1", "trace-1"),
        ("of none", None, None, None),
    ]


def test_in_a_text_line_the_request_comes_last() -> None:
    program = StringIO()
    with logging_to(as_json=False, level="info", access=StringIO(), program=program), about_request("request-1", "t"):
        PROGRAM.warning("careful", extra={"facts": {"host": "a"}})
    assert program.getvalue().endswith(" careful host=a request_id=request-1 trace_id=t\n")


def test_standard_output_and_standard_error_are_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to(as_json=False, level="info"):
        log_access("/a")
        PROGRAM.info("started")
    captured = capsys.readouterr()
    assert " target=/a " in captured.out
    assert captured.err.endswith("started\n")


def test_below_its_level_nothing_is_written() -> None:
    access, program = StringIO(), StringIO()
    with logging_to(as_json=False, level="warning", access=access, program=program):
        log_access("/a")
        PROGRAM.info("started")
    assert (access.getvalue(), program.getvalue()) == ("", "")


def test_afterwards_logging_is_as_it_was() -> None:
    loggers = [logging.getLogger(name) for name in ("media_gateway", "aiohttp", "asyncio")]
    before = [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers]
    with pytest.raises(RuntimeError), logging_to(as_json=False, level="debug", access=StringIO(), program=StringIO()):
        raise RuntimeError
    assert [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers] == before


class _Stuck(StringIO):
    """A terminal that takes nothing until it is let go."""

    def __init__(self, last: str) -> None:
        super().__init__()
        self.last = last
        self.reached, self.released, self.drained = threading.Event(), threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        self.released.wait()
        written = super().write(text)
        if self.last in text:
            self.drained.set()
        return written


def test_a_stuck_terminal_blocks_nothing_and_lost_lines_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_QUEUED_LINES", 5)
    stuck = _Stuck("line 4")
    with logging_to(as_json=False, level="info", access=StringIO(), program=stuck):
        PROGRAM.info("first")
        stuck.reached.wait()
        for number in range(20):
            PROGRAM.info("line %d", number)
        stuck.released.set()
        stuck.drained.wait()
        PROGRAM.info("last")
    written = stuck.getvalue()
    assert "line 4\n" in written
    assert "line 5" not in written
    assert "15 lines were dropped" in written
    assert written.endswith("last\n")


def test_the_interpreters_own_streams_are_not_closed() -> None:
    with logging_to(as_json=False, level="error"):
        pass
    assert not sys.stdout.closed
