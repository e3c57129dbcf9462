"""The compose file, as Compose reads it, and its nginx over a real gateway."""

from __future__ import annotations

import ipaddress
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import aiohttp
import msgspec
import pytest

from proxy.cli.serving import serve_command
from proxy.links import LinkMinter
from proxy.sandbox import Media, Sandbox
from proxy.settings import TcpAddress, load
from proxy.version import version
from tests.documents import ROOT
from tests.functional.harness import KEY, environment
from tests.functional.nginx import nginx, substituted
from tests.functional.serving import serving
from tests.functional.test_deploy_docker import image_environment, value
from tests.ports import free_port

FILE = ROOT / "deploy/compose.yaml"
VARIABLES = {
    "GATEWAY_PUBLIC_URL": "https://media.example.com",
    "TWILIO_ACCOUNT_SID": "AC0123456789abcdef0123456789abcdef",
}


class Build(msgspec.Struct, forbid_unknown_fields=True):
    context: str
    dockerfile: str


class Address(msgspec.Struct, forbid_unknown_fields=True):
    ipv4_address: str


class Ulimits(msgspec.Struct, forbid_unknown_fields=True):
    nofile: int


class Logging(msgspec.Struct, forbid_unknown_fields=True):
    driver: str
    options: dict[str, str]


class Check(msgspec.Struct, forbid_unknown_fields=True):
    test: list[str]
    interval: str
    timeout: str
    start_period: str
    retries: int


class Condition(msgspec.Struct, forbid_unknown_fields=True):
    condition: str


class Service(msgspec.Struct, forbid_unknown_fields=True):
    image: str
    command: list[str]
    restart: str
    read_only: bool
    cap_drop: list[str]
    security_opt: list[str]
    logging: Logging
    volumes: list[str]
    ports: list[str]
    networks: dict[str, Address]
    mem_limit: str
    build: Build | None = None
    environment: dict[str, str] = {}
    secrets: list[str] = []
    stop_grace_period: str = ""
    ulimits: Ulimits | None = None
    user: str = ""
    tmpfs: list[str] = []
    depends_on: dict[str, Condition] = {}
    healthcheck: Check | None = None


class Subnet(msgspec.Struct, forbid_unknown_fields=True):
    subnet: str


class Addressing(msgspec.Struct, forbid_unknown_fields=True):
    config: list[Subnet]


class Network(msgspec.Struct, forbid_unknown_fields=True):
    ipam: Addressing


class Secret(msgspec.Struct, forbid_unknown_fields=True):
    file: str


class Services(msgspec.Struct, forbid_unknown_fields=True):
    gateway: Service
    nginx: Service


class Composed(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    services: Services
    networks: dict[str, Network]
    volumes: dict[str, None]
    secrets: dict[str, Secret]
    common: dict[str, object] = msgspec.field(name="x-common")


COMPOSED = msgspec.yaml.decode(FILE.read_bytes(), type=Composed)
GATEWAY, NGINX = COMPOSED.services.gateway, COMPOSED.services.nginx
ADDRESS = f"{GATEWAY.networks['front'].ipv4_address}:8080"


def compose(program: str, folder: Path, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """`config` on the file as it is, but for its name, which Compose before 2 does not know."""
    text, names = re.subn(r"^name: .*\n", "", FILE.read_text(), flags=re.MULTILINE)
    assert names == 1
    (folder / "compose.yaml").write_text(text)
    return subprocess.run(
        [program, "-f", str(folder / "compose.yaml"), "config", "--quiet"],
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **variables}, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.system("docker-compose")
def test_compose_takes_the_file(program_path: Callable[[str], str], tmp_path: Path) -> None:
    done = compose(program_path("docker-compose"), tmp_path, VARIABLES)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.system("docker-compose")
@pytest.mark.parametrize("missing", sorted(VARIABLES))
def test_a_variable_that_is_missing_is_named(program_path: Callable[[str], str], tmp_path: Path, missing: str) -> None:
    given = {name: text for name, text in VARIABLES.items() if name != missing}
    done = compose(program_path("docker-compose"), tmp_path, given)
    assert done.returncode != 0
    assert missing in done.stderr


def test_the_settings_are_ones_that_the_gateway_starts_with(tmp_path: Path) -> None:
    secrets = {"signing_keys": KEY, "clients": f"backend:{'c' * 40}", "twilio_auth_token": "t" * 32}
    for name, text in secrets.items():
        (tmp_path / name).write_text(text)
    written = image_environment() | {
        name: text.replace("/run/secrets", str(tmp_path)) for name, text in GATEWAY.environment.items()
    }
    settings = load(written | VARIABLES)
    settings.require_serving()
    assert isinstance(settings.listen, TcpAddress)
    assert settings.listen.port == int(ADDRESS.partition(":")[2])
    assert isinstance(settings.metrics_listen, TcpAddress)
    assert GATEWAY.ports == [f"127.0.0.1:{settings.metrics_listen.port}:{settings.metrics_listen.port}"]
    # nginx alone is believed, and it is where it is believed to be.
    (trusted,) = settings.trusted_proxies.networks
    assert str(trusted) == f"{NGINX.networks['front'].ipv4_address}/32"
    assert GATEWAY.volumes == [f"{name}:{settings.cache_dir}" for name in COMPOSED.volumes]
    assert int(GATEWAY.stop_grace_period.removesuffix("s")) > settings.drain_seconds + 15
    assert GATEWAY.ulimits is not None
    assert GATEWAY.ulimits.nofile > 2 * settings.limits.connections
    assert serve_command.make_context("serve", GATEWAY.command[1:]).params["workers"] == 2


def test_variables_of_the_file_are_those_of_its_user() -> None:
    taken = set(re.findall(r"\$\{(\w+)", FILE.read_text()))
    assert taken == VARIABLES.keys() | {"MEDIA_GATEWAY_SECRETS"}


def test_secrets_come_as_files() -> None:
    files = {Path(text).name for name, text in GATEWAY.environment.items() if name.endswith("_FILE")}
    assert files == set(GATEWAY.secrets) == COMPOSED.secrets.keys()
    assert all(secret.file.endswith(f"/{name}") for name, secret in COMPOSED.secrets.items())
    assert not [name for name in GATEWAY.environment if name.endswith(("_KEYS", "_CLIENTS", "_TOKEN", "_SECRET"))]


def test_both_are_confined_and_neither_fills_the_disk() -> None:
    for service in (GATEWAY, NGINX):
        assert service.read_only
        assert service.cap_drop == ["ALL"]
        assert service.security_opt == ["no-new-privileges:true"]
        assert service.mem_limit
        assert {"max-size", "max-file"} <= service.logging.options.keys()
    assert not GATEWAY.user  # the image's own
    assert int(value("USER").partition(":")[0]) > 0
    assert NGINX.user.partition(":")[0] != "0"
    assert all("size=" in place for place in NGINX.tmpfs)


def test_the_addresses_are_of_the_network() -> None:
    (configured,) = COMPOSED.networks["front"].ipam.config
    network = ipaddress.ip_network(configured.subnet)
    # The first one is the bridge's own.
    free = list(network.hosts())[1:]
    used = [ipaddress.ip_address(service.networks["front"].ipv4_address) for service in (GATEWAY, NGINX)]
    assert set(used) <= set(free)
    assert len(set(used)) == len(used)


def test_the_image_is_this_version_built_from_its_recipe() -> None:
    assert GATEWAY.image == f"media-gateway:{version()}"
    assert GATEWAY.build is not None
    context = FILE.parent / GATEWAY.build.context
    assert (context / GATEWAY.build.dockerfile).samefile(ROOT / "deploy/Dockerfile")


def test_nginx_waits_for_the_gateway_s_own_health_check() -> None:
    assert NGINX.depends_on == {"gateway": Condition("service_healthy")}
    assert GATEWAY.healthcheck is None
    assert value("HEALTHCHECK")


@pytest.fixture
def site(tmp_path: Path) -> str:
    """The site that the command of nginx's container writes before it becomes nginx."""
    (mounted,) = NGINX.volumes
    source, target, _ = mounted.split(":")
    shell, option, command = NGINX.command
    writes, _, runs = command.partition(" && exec ")
    assert runs == "nginx -g 'daemon off;'"
    (folder,) = (place.partition(":")[0] for place in NGINX.tmpfs if place.startswith("/etc/nginx/"))
    writes = substituted(writes, {target: str((FILE.parent / source).resolve()), folder: str(tmp_path)})
    subprocess.run([shell, option, writes], check=True)
    return (tmp_path / Path(source).name).read_text()


def test_nginx_s_logs_go_where_docker_reads_them(site: str) -> None:
    directives = [line for line in site.splitlines() if not line.lstrip().startswith("#")]
    logs = [line.split()[1] for line in directives if line.lstrip().startswith(("access_log ", "error_log "))]
    assert logs == ["/dev/stdout", "/dev/stderr"]


@pytest.mark.system("nginx")
async def test_nginx_serves_the_gateway_s_media_from_the_site_that_its_command_writes(
    sandbox: Sandbox, photo: Media, tmp_path: Path, program_path: Callable[[str], str], site: str
) -> None:
    behind, front = free_port(), free_port()
    site = substituted(
        site,
        {
            ADDRESS: f"127.0.0.1:{behind}",
            "listen 80;": f"listen 127.0.0.1:{front};",
            "    listen [::]:80;\n": "",
            "/dev/stdout": str(tmp_path / "access.log"),
            "/dev/stderr": "stderr",
        },
    )
    public = f"http://127.0.0.1:{front}"
    settings = environment(sandbox, tmp_path / "cache", GATEWAY_LISTEN=f"127.0.0.1:{behind}", GATEWAY_PUBLIC_URL=public)
    assert NGINX.healthcheck is not None
    probe = NGINX.healthcheck.test[-1].replace("http://127.0.0.1", public)
    async with (
        serving(settings),
        nginx(program_path("nginx"), site, tmp_path / "nginx"),
        aiohttp.ClientSession() as session,
    ):
        async with session.get(probe) as response:
            assert response.status == 200
        async with session.get(LinkMinter(public, KEY).url(photo.ref)) as response:
            assert (response.status, await response.read()) == (200, photo.read())
    assert "signature" not in (tmp_path / "access.log").read_text()
