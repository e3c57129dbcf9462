"""A process that has imported the gateway and forks one on demand: its imports take longer than most tests.

What is forked is `media-gateway` all the same: it reads its arguments and its environment, and is a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, suppress
from importlib import import_module
from typing import Final, NoReturn

from tests.documents import ROOT

COMMAND: Final = (sys.executable, "-m", "proxy")
"""The command that is replaced by forking."""
_READY: Final = b"ready\n"
_MOST_BYTES: Final = 1 << 20


class _Preloaded:
    """The process, begun when it is first asked for; `address` is that of an abstract unix socket."""

    def __init__(self) -> None:
        self.address = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._beginning = threading.Lock()

    def begin(self) -> None:
        """Let it run, and have it import everything."""
        with self._beginning:
            if self._process is not None:
                return
            name = f"media-gateway-tests-{secrets.token_hex(8)}"
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.functional.preloaded", name],
                cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
            assert self._process.stdout is not None
            assert self._process.stdout.readline() == _READY
            self.address = f"\0{name}"

    def end(self) -> None:
        """Let it end: nobody holds its standard input any more."""
        process, self._process = self._process, None
        if process is not None:
            with process:
                pass


PRELOADED: Final = _Preloaded()


class Forked:
    """A program that was forked there. What waits for it there tells of its end."""

    def __init__(self, pid: int, told: asyncio.StreamReader) -> None:
        self.pid = pid
        self._code: int | None = None
        self._told = told

    def send_signal(self, number: int, /) -> None:
        """Send it a signal, if it runs."""
        if self._code is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def wait(self) -> int:
        """Wait for its end; its exit code."""
        if self._code is None:
            self._code = int(await self._told.readline())
        return self._code


@asynccontextmanager
async def forked(
    arguments: Sequence[str], environ: Mapping[str, str], *, with_output: bool
) -> AsyncIterator[tuple[Forked, asyncio.StreamReader]]:
    """Fork `media-gateway` with that environment; yield it and its standard error, also its standard output.

    Killed at the end if it still runs.
    """
    await asyncio.to_thread(PRELOADED.begin)
    control = socket.socket(socket.AF_UNIX)
    ours, theirs = os.pipe()
    try:
        control.connect(PRELOADED.address)
        socket.send_fds(control, [json.dumps([with_output, arguments, dict(environ)]).encode()], [theirs])
    finally:
        os.close(theirs)
    output = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(output), os.fdopen(ours, "rb")
    )
    told, writer = await asyncio.open_unix_connection(sock=control)
    try:
        process = Forked(int(await told.readline()), told)
        try:
            yield process, output
        finally:
            process.send_signal(signal.SIGKILL)
            await output.read()
            await process.wait()
    finally:
        transport.close()
        writer.close()
        await writer.wait_closed()


# --- the process ---------------------------------------------------------------------------------------------------


def _serve(listener: socket.socket) -> None:
    """Fork for each connection one that sees to it; return when nobody holds standard input any more."""
    # Who has seen to a connection is not waited for.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    given = sys.stdin.fileno()
    while given not in select.select([listener, given], [], [])[0]:
        connection, _ = listener.accept()
        with connection:
            if not os.fork():
                listener.close()
                _see_to(connection)


def _see_to(connection: socket.socket) -> NoReturn:
    """Fork the gateway that is asked for; write down its process id, and its exit code when it has ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    asked, (output,), *_ = socket.recv_fds(connection, _MOST_BYTES, 1)
    pid = os.fork()
    if not pid:
        connection.close()
        _become(output, *json.loads(asked))
    os.close(output)
    connection.sendall(b"%d\n" % pid)
    _, status = os.waitpid(pid, 0)
    with suppress(OSError):
        connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _become(output: int, with_output: bool, arguments: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    """Run `media-gateway`, as from a shell that gives it nothing to read."""
    from proxy.cli import main

    nothing = os.open(os.devnull, os.O_RDWR)
    for number, target in enumerate((nothing, output if with_output else nothing, output)):
        os.dup2(target, number)
    os.close(nothing)
    os.close(output)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = [str(ROOT / "proxy/__main__.py"), *arguments]
    sys.exit(main(arguments, prog_name="python -m proxy"))


def _run(name: str) -> None:
    for module in ("sandbox", "serve", "storage"):
        import_module(f"proxy.cli.{module}")
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(f"\0{name}")
        listener.listen()
        sys.stdout.buffer.write(_READY)
        sys.stdout.buffer.flush()
        _serve(listener)


if __name__ == "__main__":
    _run(sys.argv[1])
