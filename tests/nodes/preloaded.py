"""A process that has imported the gateway and forks one for whoever asks: a node's imports take longer than most tests.

What is forked is `media-gateway` all the same: it reads its arguments and its environment, and is a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from typing import Final, NoReturn

from proxy.cli import main, serving
from tests.documents import ROOT
from tests.functional.programs import Program
from tests.functional.serving import clean_environment

_READY: Final = b"ready\n"
_MOST_BYTES: Final = 1 << 20
_PRELOADED: Final = (main, serving)


@contextmanager
def preloaded(path: Path) -> Iterator[Path]:
    """Run such a process at a unix socket, which this yields; it ends with the scope, or with the one that runs it."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.nodes.preloaded", str(path)],
        cwd=ROOT, env=clean_environment({}), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == _READY
        yield path


class _Forked:
    """A gateway that was forked there. What waits for it there tells of its end."""

    def __init__(self, pid: int, told: asyncio.StreamReader) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._told = told

    def send_signal(self, number: int, /) -> None:
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def wait(self) -> int:
        if self.returncode is None:
            self.returncode = int(await self._told.readline())
        return self.returncode


@asynccontextmanager
async def forked(path: Path, arguments: Sequence[str], environ: Mapping[str, str]) -> AsyncIterator[Program]:
    """Let the process at that socket fork `media-gateway` with that environment; killed at the end if it still runs."""
    control = socket.socket(socket.AF_UNIX)
    control.connect(str(path))
    ours, theirs = os.pipe()
    try:
        socket.send_fds(control, [json.dumps([arguments, dict(environ)]).encode()], [theirs])
    finally:
        os.close(theirs)
    output = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(output), os.fdopen(ours, "rb")
    )
    told, writer = await asyncio.open_unix_connection(sock=control)
    try:
        process = _Forked(int(await told.readline()), told)
        try:
            yield Program(process, output)
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


def _become(output: int, arguments: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    """Be `media-gateway`, as from a shell that keeps its standard error alone."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number, target in enumerate((nothing, nothing, output)):
        os.dup2(target, number)
    os.close(nothing)
    os.close(output)
    os.environ.clear()
    os.environ.update(environ)
    sys.exit(main(arguments))


if __name__ == "__main__":
    with closing(socket.socket(socket.AF_UNIX)) as made:
        made.bind(sys.argv[1])
        made.listen()
        sys.stdout.buffer.write(_READY)
        sys.stdout.buffer.flush()
        _serve(made)
