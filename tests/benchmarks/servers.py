"""The servers that are compared, each a process of its own on a free port with the same media behind it."""

from __future__ import annotations

import base64
import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.links import LinkMinter, LinkPolicy
from proxy.model import MediaRef
from tests.benchmarks.machine import program
from tests.benchmarks.origin import Upstream
from tests.benchmarks.processes import BenchmarkFailed, Child, listening, started
from tests.ports import free_port

GATEWAY: Final = "gateway"
NGINX: Final = "nginx"
NGINX_NOPUSH: Final = "nginx, tcp_nopush on"
VARNISH: Final = "Varnish"

CLIENT: Final = ("bench", "c" * 40)
_KEY: Final = f"bench:{'b' * 40}"
_SECRET: Final = "s" * 40
_FIRST_LIFE: Final = 3_600
_LONGEST_LIFE: Final = 86_400
_OWN_SETTINGS: Final = ("GATEWAY_", "TWILIO_", "SIGNALWIRE_")

Signer = Callable[[str, int], str]
"""A maker of a media's request target, from its path and the Unix second at which the link ends."""


class Server:
    """A running server; `metrics_port` is 0 if it has no metrics of the gateway's.

    Its links are all different from each other, or always the same for a media.
    """

    def __init__(self, name: str, port: int, child: Child, sign: Signer, metrics_port: int = 0) -> None:
        self.name, self.port, self.child, self.metrics_port = name, port, child, metrics_port
        self._sign = sign
        self._began = int(time.time())
        self._ends: dict[MediaRef, int] = {}

    def renamed(self, name: str) -> Server:
        """Return the same server under another name."""
        return Server(name, self.port, self.child, self._sign, self.metrics_port)

    def link(self, ref: MediaRef) -> str:
        """Return the request target of the media's usual link."""
        return self._sign(_path(ref), self._began + _FIRST_LIFE)

    def new_link(self, ref: MediaRef) -> str:
        """Return the request target of a link that was never made before."""
        end = self._ends.get(ref, self._began + _FIRST_LIFE) + 1
        assert end < self._began + _LONGEST_LIFE
        self._ends[ref] = end
        return self._sign(_path(ref), end)


def _path(ref: MediaRef) -> str:
    return f"/media/{ref.account}/{ref.message}/{ref.media}"


@dataclass(frozen=True, slots=True)
class Kind:
    """A server that can be started: `start(upstream, upstream's port, folder, workers)`.

    What it has stored lies in `folder` and is there again when it is started on the same one; Varnish has it in RAM.
    """

    name: str
    start: Callable[[Upstream, int, Path, int], AbstractContextManager[Server]]
    keeps: bool = True


def kinds() -> tuple[list[Kind], list[str]]:
    """Return what can be compared on this machine, the gateway first; and what cannot, and why."""
    found = [Kind(GATEWAY, gateway)]
    missing: list[str] = []
    if program("nginx") is None:
        missing.append("nginx is not installed: nothing is compared with it")
    else:
        found += [Kind(NGINX, _nginx("off")), Kind(NGINX_NOPUSH, _nginx("on"))]
    if program("varnishd") is None:
        missing.append("varnishd is not installed: nothing is compared with it")
    else:
        found.append(Kind(VARNISH, varnish, keeps=False))
    return found, missing


@contextmanager
def gateway(upstream: Upstream, origin: int, folder: Path, workers: int = 1) -> Iterator[Server]:
    """Run `media-gateway serve` with uvloop, its access log and everything else that is on by default."""
    port, metrics_port = free_port(), free_port()
    environ = {name: value for name, value in os.environ.items() if not name.startswith(_OWN_SETTINGS)}
    environ |= {
        "TWILIO_ACCOUNT_SID": upstream.begun.account_sid,
        "TWILIO_AUTH_TOKEN": upstream.begun.auth_token,
        "GATEWAY_UPSTREAM_URL": f"http://127.0.0.1:{origin}",
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "GATEWAY_METRICS_LISTEN": f"127.0.0.1:{metrics_port}",
        "GATEWAY_SIGNING_KEYS": _KEY,
        "GATEWAY_CLIENTS": ":".join(CLIENT),
        "GATEWAY_CACHE_DIR": str(_made(folder / "gateway")),
        "GATEWAY_LOOP": "uvloop",
        "GATEWAY_DRAIN_SECONDS": "1",
    }
    command = [sys.executable, "-m", "proxy", "serve", *([] if workers == 1 else ["--workers", str(workers)])]
    core = 0 if workers == 1 else None
    with started(command, folder / "gateway.log", environ=environ, core=core) as child:
        listening(child, port)
        yield Server(GATEWAY, port, child, _gateway_signer(f"http://127.0.0.1:{port}"), metrics_port)


def _gateway_signer(url: str) -> Signer:
    # A link's end is the asked life after a fixed second, so that each life gives a link of its own.
    minter = LinkMinter(url, _KEY, LinkPolicy(300, _LONGEST_LIFE, 1), lambda: began)
    began = int(time.time())

    def sign(path: str, end: int) -> str:
        return minter.url(path.removeprefix("/media/"), ttl=end - began).removeprefix(minter.origin)

    return sign


def _nginx(nopush: str) -> Callable[[Upstream, int, Path, int], AbstractContextManager[Server]]:
    @contextmanager
    def start(upstream: Upstream, origin: int, folder: Path, workers: int = 1) -> Iterator[Server]:
        port = free_port()
        name = NGINX if nopush == "off" else NGINX_NOPUSH
        own = _made(folder / f"nginx-{nopush}")
        file = own / "nginx.conf"
        file.write_text(
            _NGINX.format(
                user="user root;" if os.geteuid() == 0 else "",
                folder=own, port=port, origin=origin, nopush=nopush, workers=workers, secret=_SECRET,
                reuseport="reuseport" if workers > 1 else "", authorization=upstream.begun.authorization,
            )
        )  # fmt: skip
        command = [_required("nginx"), "-p", str(own), "-c", str(file), "-e", "stderr"]
        core = 0 if workers == 1 else None
        with started(command, own / "log", core=core) as child:
            listening(child, port)
            yield Server(name, port, child, _secure_link)

    return start


def _secure_link(path: str, end: int) -> str:
    digest = hashlib.md5(f"{end}{path} {_SECRET}".encode(), usedforsecurity=False).digest()
    return f"{path}?expires={end}&signature={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


@contextmanager
def varnish(upstream: Upstream, origin: int, folder: Path, workers: int = 1) -> Iterator[Server]:
    """Run Varnish, which checks no link and logs to shared memory; the query is taken off before the look-up."""
    port = free_port()
    own = _made(folder / "varnish")
    file = own / "bench.vcl"
    file.write_text(_VCL.format(origin=origin, authorization=upstream.begun.authorization))
    command = [
        _required("varnishd"), "-F", "-j", "none", "-n", str(own / "work"), "-a", f"127.0.0.1:{port}", "-T", "none",
        "-f", str(file), "-s", "malloc,2g", "-p", "thread_pools=1", "-p", "thread_pool_min=300",
        "-p", "thread_pool_max=2000",
    ]  # fmt: skip
    with started(command, own / "log") as child:
        listening(child, port)
        yield Server(VARNISH, port, child, _secure_link)


def _required(name: str) -> str:
    path = program(name)
    if path is None:
        raise BenchmarkFailed(f"{name} is not installed")
    return path


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


_NGINX: Final = """\
{user}
worker_processes {workers};
worker_rlimit_nofile 20000;
daemon off;
pid {folder}/pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
  default_type application/octet-stream;
  log_format full '$remote_addr [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"';
  access_log {folder}/access.log full buffer=64k flush=1s;
  sendfile on;
  tcp_nopush {nopush};
  tcp_nodelay on;
  keepalive_timeout 75;
  keepalive_requests 1000000000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  open_file_cache max=10000 inactive=600s;
  open_file_cache_valid 600s;
  proxy_cache_path {folder}/cache levels=1:2 keys_zone=media:50m max_size=10g inactive=1d use_temp_path=off;
  upstream origin {{ server 127.0.0.1:{origin}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096 {reuseport};
    location ~ ^/media/([^/]+)/([^/]+)/([^/]+)$ {{
      secure_link $arg_signature,$arg_expires;
      secure_link_md5 "$secure_link_expires$uri {secret}";
      if ($secure_link = "") {{ return 403; }}
      if ($secure_link = "0") {{ return 410; }}
      proxy_cache media;
      proxy_cache_key $uri;
      proxy_cache_valid 200 1d;
      proxy_cache_lock on;
      proxy_cache_lock_timeout 60s;
      proxy_cache_lock_age 60s;
      proxy_cache_revalidate on;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host 127.0.0.1;
      proxy_set_header Authorization "{authorization}";
      add_header X-Cache $upstream_cache_status;
      proxy_pass http://origin/2010-04-01/Accounts/$1/Messages/$2/Media/$3;
    }}
  }}
}}
"""

_VCL: Final = """\
vcl 4.1;
backend default {{ .host = "127.0.0.1"; .port = "{origin}"; }}
sub vcl_recv {{
  set req.url = regsub(req.url, "\\?.*$", "");
  unset req.http.Cookie;
}}
sub vcl_backend_fetch {{
  set bereq.url = regsub(
    bereq.url, "^/media/([^/]+)/([^/]+)/([^/]+)$", "/2010-04-01/Accounts/\\1/Messages/\\2/Media/\\3"
  );
  set bereq.http.Authorization = "{authorization}";
}}
sub vcl_backend_response {{
  set beresp.ttl = 1d;
}}
"""
