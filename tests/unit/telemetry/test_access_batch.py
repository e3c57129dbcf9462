"""Answers of the express lane in the access log: noted at once, written together, as each alone would be."""

from __future__ import annotations

import json
import logging
import logging.handlers
import queue
import threading
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.telemetry import access_log, logs
from proxy.telemetry.access_log import AccessBatch, Noted, Sentence, Words
from proxy.telemetry.logs import JsonFormatter, TextFormatter, logging_to
from tests.functional.express import until
from tests.functional.harness import logged
from tests.unit.telemetry.lines import NOW, record

STYLES = [TextFormatter(), JsonFormatter()]
TEXT = st.text(st.characters(), max_size=40)


def noted(request_id: str = "1", now: float = NOW) -> Noted:
    words = Words({"method": "GET"}), Words({"status": 200}), Words({})
    return now, 0.00012, request_id, Sentence(Words({"client": "127.0.0.1"}), *words)


@pytest.mark.parametrize("style", STYLES)
@given(target=TEXT, agent=st.none() | TEXT, seconds=st.floats(0, 100), cache=TEXT)
def test_a_batch_writes_the_line_of_each_answer(
    style: TextFormatter | JsonFormatter, target: str, agent: str | None, seconds: float, cache: str
) -> None:
    facts: dict[str, str | int | float] = {"client": "::1", "method": "GET", "target": target}
    facts |= {"status": 200, "bytes": 5, "cache": cache}
    said = {} if agent is None else {"user_agent": agent}
    parts = [
        Words({name: facts[name] for name in names})
        for names in (("client",), ("method", "target"), ("status", "bytes", "cache"))
    ]
    noted = (NOW, seconds, "a1", Sentence(parts[0], parts[1], parts[2], Words(said)))
    alone = style.format(record(facts={**facts, **said, "seconds": round(seconds, 4), "request_id": "a1"}))
    assert style.format(record(batch=[noted] * 3)).split("\n") == [alone] * 3


@given(st.integers(0, 4 * 10**15))
def test_each_line_has_the_moment_of_its_own_answer(microseconds: int) -> None:
    moments = [(microseconds + later) / 1e6 for later in (0, 999, 1_000_000, 1_500_000)]
    lines = JsonFormatter().format(record(batch=[noted(now=now) for now in moments])).split("\n")
    alone = []
    for moment in moments:
        made = record()
        made.created = moment
        alone.append(json.loads(JsonFormatter().format(made))["time"])
    assert [json.loads(line)["time"] for line in lines] == alone


def test_words_are_made_once_for_each_style() -> None:
    words = Words({"a": "b c"})
    text, other = TextFormatter(), JsonFormatter()
    assert words.text(text) is words.text(text)
    assert (words.text(text), words.text(other), words.text(text)) == ('a="b c" ', '"a": "b c", ', 'a="b c" ')


async def test_a_batch_is_written_after_a_moment() -> None:
    async with logged() as written:
        batch = AccessBatch()
        assert batch.wanted
        batch.note(noted())
        assert not _is_written(batch)
        await until(lambda: _is_written(batch))
    assert [entry["request_id"] for entry in written.entries] == ["1"]


async def test_a_full_batch_is_written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "MOST", 10)
    async with logged() as written:
        batch = AccessBatch()
        for number in range(25):
            batch.note(noted(str(number)))
        assert len(batch._noted) == 5
        batch.flush()
        batch.flush()
    assert [entry["request_id"] for entry in written.entries] == [str(number) for number in range(25)]


def test_where_no_access_log_is_written_none_is_wanted() -> None:
    with logging_to(as_json=True, level="warning", access=StringIO(), program=StringIO()):
        assert not AccessBatch().wanted


def _is_written(batch: AccessBatch) -> bool:
    return batch._timer is None


def test_batches_beyond_the_queue_are_dropped_and_their_lines_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logs, "_QUEUED_BATCHES", 3)
    taken, free = threading.Event(), threading.Event()

    class Stuck(StringIO):
        def write(self, text: str) -> int:
            taken.set()
            free.wait(10)
            return super().write(text)

    access, program = Stuck(), StringIO()
    log = logging.getLogger("media_gateway.access")
    with logging_to(as_json=True, level="info", access=access, program=program):
        for number in range(10):
            log.info("access", extra={"batch": [noted(str(number))] * 2})
            if number == 0:
                taken.wait(10)
        free.set()
        lines = _queue()
        while lines.qsize():
            pass
        log.info("access", extra={"batch": [noted("last")]})
    written = [json.loads(line)["request_id"] for line in access.getvalue().splitlines()]
    assert written == ["0", "0", "1", "1", "2", "2", "3", "3", "last"]
    assert "12 lines were dropped" in program.getvalue()


def _queue() -> queue.SimpleQueue[object]:
    (entrance,) = (
        handler
        for handler in logging.getLogger("media_gateway").handlers
        if isinstance(handler, logging.handlers.QueueHandler)
    )
    found = entrance.queue
    assert isinstance(found, queue.SimpleQueue)
    return found


async def test_the_end_of_the_log_writes_what_is_noted() -> None:
    batch = AccessBatch()
    async with logged() as written:
        batch.note(noted("1"))
    async with logged() as later:
        batch.note(noted("2"))
        await until(lambda: _is_written(batch))
    assert [entry["request_id"] for entry in written.entries] == ["1"]
    assert [entry["request_id"] for entry in later.entries] == ["2"]
