"""A real redis-server on a free port and a unix socket: started, stopped, paused and ended with its scope."""

from __future__ import annotations

import asyncio
import hashlib
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from redis.asyncio import Redis

from tests.ports import free_port

_READY = b"Ready to accept connections"


@dataclass(frozen=True)
class Certificate:
    """A server's certificate for 127.0.0.1 and localhost, its key, and the authority that signed it."""

    authority: Path
    certificate: Path
    key: Path


@dataclass
class RedisServer:
    """A redis-server; made by `redis_running`. `user` and `password` are those of its one ACL user, if it has one."""

    program: str
    folder: Path
    port: int
    arguments: Sequence[str]
    certificate: Certificate | None = None
    user: str | None = None
    password: str | None = None
    ready: bytes = _READY
    _process: asyncio.subprocess.Process | None = None
    _draining: asyncio.Task[bytes] | None = None
    said: list[bytes] = field(default_factory=list)

    @property
    def _credentials(self) -> str:
        if self.user is None or self.password is None:
            return ""
        return f"{quote(self.user, safe='')}:{quote(self.password, safe='')}@"

    @property
    def url(self) -> str:
        """The URL by TCP: `redis://`, or `rediss://` with the authority's file if the server has a certificate."""
        if self.certificate is None:
            return f"redis://{self._credentials}127.0.0.1:{self.port}/0"
        authority = quote(str(self.certificate.authority), safe="/")
        return f"rediss://{self._credentials}127.0.0.1:{self.port}/0?ssl_ca_certs={authority}"

    @property
    def socket_path(self) -> Path:
        return self.folder / "redis.sock"

    @property
    def unix_url(self) -> str:
        """The URL by its unix socket, which takes no TLS."""
        return f"unix://{self._credentials}{self.socket_path}?db=0"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start it, as empty as it was made; it takes connections when this returns."""
        assert not self.running
        process = self._process = await asyncio.create_subprocess_exec(
            self.program, *self.arguments,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        assert process.stdout is not None
        line = b""
        while self.ready not in line:
            line = await process.stdout.readline()
            assert line, f"redis-server did not start: {b''.join(self.said).decode()}"
            self.said.append(line)
        self._draining = asyncio.create_task(process.stdout.read())

    async def stop(self) -> None:
        """End it with SIGTERM, also if it is paused."""
        self.resume()
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """End it with SIGKILL."""
        await self._end(signal.SIGKILL)

    async def restart(self) -> None:
        """End it and start it again: empty, but if it was made `persistent`."""
        await self.stop()
        await self.start()

    def pause(self) -> None:
        """Let it hang: it takes connections, through its kernel, and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        if self.running:
            assert self._process is not None
            self._process.send_signal(signal.SIGCONT)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Redis]:
        """Yield a client of the test's own, by the unix socket."""
        client = Redis.from_url(self.unix_url, username=self.user, password=self.password)
        try:
            yield client
        finally:
            await client.aclose()

    async def command(self, *arguments: str | bytes | float) -> object:
        """Return one command, such as `command("CONFIG", "SET", "maxmemory", "5mb")`."""
        async with self.client() as client:
            answer: object = await client.execute_command(*arguments)  # type: ignore[no-untyped-call]
            return answer

    async def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.send_signal(number)
        await process.wait()
        if self._draining is not None:
            self.said.append(await self._draining)
            self._draining = None


@asynccontextmanager
async def redis_running(
    program: str,
    folder: Path,
    *,
    certificate: Certificate | None = None,
    user: str | None = None,
    password: str | None = None,
    persistent: bool = False,
    options: Sequence[str] = (),
) -> AsyncIterator[RedisServer]:
    """Run a redis-server over an empty folder, which is made; it has ended when the scope has.

    With `certificate` its port speaks TLS alone. With `user` and `password` it has that one user. `persistent`: what it
    holds outlives its end. `options` are its own: `("--maxmemory", "5mb")`.
    """
    port = free_port()
    acl = _laid_out(folder, user, password)
    arguments = [
        "--bind", "127.0.0.1", "--dir", str(folder), "--unixsocket", str(folder / "redis.sock"), "--save", "",
        "--appendonly", "yes" if persistent else "no", "--appendfsync", "always", "--daemonize", "no",
        *(("--aclfile", str(acl)) if user is not None else ()),
        *_ports(port, certificate),
        *options,
    ]  # fmt: skip
    server = RedisServer(program, folder, port, arguments, certificate, user, password)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def _laid_out(folder: Path, user: str | None, password: str | None) -> Path:
    """Make the folder, with the file of its users, whose path this gives."""
    folder.mkdir(parents=True)
    acl = folder / "users.acl"
    if user is not None and password is not None:
        digest = hashlib.sha256(password.encode()).hexdigest()
        acl.write_text(f"user default off\nuser {user} on #{digest} ~* &* +@all\n")
    return acl


def _ports(port: int, certificate: Certificate | None) -> Sequence[str]:
    if certificate is None:
        return "--port", str(port)
    return (
        "--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no",
        "--tls-cert-file", str(certificate.certificate), "--tls-key-file", str(certificate.key),
        "--tls-ca-cert-file", str(certificate.authority),
    )  # fmt: skip


async def make_certificate(openssl: str, folder: Path) -> Certificate:
    """Return a certificate for 127.0.0.1 and localhost, under an authority of its own."""
    made = Certificate(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    request, names = folder / "server.csr", folder / "names.cnf"
    _write_names(names)
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    await _run(
        openssl, "req", "-x509", *key, "-days", "2", "-subj", "/CN=a test's authority",
        "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        "-keyout", str(folder / "ca.key"), "-out", str(made.authority),
    )  # fmt: skip
    await _run(openssl, "req", "-new", *key, "-subj", "/CN=redis", "-keyout", str(made.key), "-out", str(request))
    await _run(
        openssl, "x509", "-req", "-in", str(request), "-CA", str(made.authority), "-CAkey", str(folder / "ca.key"),
        "-CAcreateserial", "-days", "2", "-extfile", str(names), "-out", str(made.certificate),
    )  # fmt: skip
    return made


def _write_names(names: Path) -> None:
    names.parent.mkdir(parents=True)
    names.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n")


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
