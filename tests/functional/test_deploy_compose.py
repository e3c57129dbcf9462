"""The compose file, as Compose reads it, and its nginx over real gateways."""

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
from yarl import URL

from proxy.cli.serve import serve_command
from proxy.links import LinkMinter
from proxy.sandbox import Media, Origin, Sandbox
from proxy.settings import Settings, TcpAddress, load
from proxy.version import version
from tests.documents import ROOT
from tests.functional.harness import KEY, environment
from tests.functional.nginx import nginx, substituted
from tests.functional.serving import serving
from tests.functional.test_deploy_docker import image_environment, value
from tests.ports import free_port
from tests.redis_server import redis_running

FILE = ROOT / "deploy/compose.yaml"
VARIABLES = {
    "GATEWAY_PUBLIC_URL": "https://media.example.com",
    "TWILIO_ACCOUNT_SID": "AC0123456789abcdef0123456789abcdef",
}


class Build(msgspec.Struct, forbid_unknown_fields=True):
    context: str
    dockerfile: str


class Address(msgspec.Struct, forbid_unknown_fields=True):
    ipv4_address: str = ""


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
    networks: dict[str, Address | None]
    mem_limit: str
    ports: list[str] = []
    build: Build | None = None
    environment: dict[str, str] = {}
    secrets: list[str] = []
    stop_grace_period: str = ""
    ulimits: Ulimits | None = None
    user: str = ""
    tmpfs: list[str] = []
    depends_on: dict[str, Condition] = {}
    healthcheck: Check | None = None

    @property
    def address(self) -> str:
        """The address at the network that is reached from outside."""
        address = self.networks["front"]
        assert address is not None
        return address.ipv4_address


class Subnet(msgspec.Struct, forbid_unknown_fields=True):
    subnet: str


class Addressing(msgspec.Struct, forbid_unknown_fields=True):
    config: list[Subnet]


class Network(msgspec.Struct, forbid_unknown_fields=True):
    ipam: Addressing | None = None
    internal: bool = False


class Secret(msgspec.Struct, forbid_unknown_fields=True):
    file: str


class Composed(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    services: dict[str, Service]
    networks: dict[str, Network]
    volumes: dict[str, None]
    secrets: dict[str, Secret]
    common: dict[str, object] = msgspec.field(name="x-common")
    gateway: dict[str, object] = msgspec.field(name="x-gateway")


COMPOSED = msgspec.yaml.decode(FILE.read_bytes(), type=Composed)
SERVICES = COMPOSED.services
GATEWAYS = [service for name, service in SERVICES.items() if name.startswith("gateway-")]
NGINX, VALKEY = SERVICES["nginx"], SERVICES["valkey"]
ADDRESSES = [f"{gateway.address}:8080" for gateway in GATEWAYS]

gateways = pytest.mark.parametrize("gateway", GATEWAYS, ids=["gateway-1", "gateway-2"])


def compose(program: str, folder: Path, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `config` on the file as it is, but for its name, which Compose before 2 does not know."""
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


def settings_of(gateway: Service, folder: Path) -> Settings:
    """Return what a gateway's container reads, with its secrets in this folder."""
    secrets = {"signing_keys": KEY, "clients": f"backend:{'c' * 40}", "twilio_auth_token": "t" * 32}
    for name, text in secrets.items():
        (folder / name).write_text(text)
    written = image_environment() | {
        name: text.replace("/run/secrets", str(folder)) for name, text in gateway.environment.items()
    }
    return load(written | VARIABLES)


@gateways
def test_the_settings_are_ones_that_the_gateway_starts_with(tmp_path: Path, gateway: Service) -> None:
    settings = settings_of(gateway, tmp_path)
    settings.require_serving()
    assert isinstance(settings.listen, TcpAddress)
    assert {address.partition(":")[2] for address in ADDRESSES} == {str(settings.listen.port)}
    assert isinstance(settings.metrics_listen, TcpAddress)
    (published,) = gateway.ports
    assert re.fullmatch(rf"127\.0\.0\.1:\d+:{settings.metrics_listen.port}", published)
    # nginx alone is believed, and it is where it is believed to be.
    (trusted,) = settings.trusted_proxies.networks
    assert str(trusted) == f"{NGINX.address}/32"
    (volume,) = gateway.volumes
    assert volume.partition(":")[2] == str(settings.cache_dir)
    assert int(gateway.stop_grace_period.removesuffix("s")) > settings.drain_seconds + 15
    assert gateway.ulimits is not None
    assert gateway.ulimits.nofile > 2 * settings.limits.connections
    assert serve_command.make_context("serve", gateway.command[1:]).params["workers"] == 2


def test_gateways_differ_in_folder_and_port_alone() -> None:
    first, second = (msgspec.structs.replace(gateway, volumes=[], ports=[], networks={}) for gateway in GATEWAYS)
    assert first == second
    for own in (GATEWAYS[0].volumes + GATEWAYS[1].volumes, GATEWAYS[0].ports + GATEWAYS[1].ports):
        assert len({text.rpartition(":")[0] for text in own}) == 2
    mounted = {volume.partition(":")[0] for service in SERVICES.values() for volume in service.volumes}
    assert mounted - {"./nginx/media-gateway.conf"} == COMPOSED.volumes.keys()


# --- Valkey -----------------------------------------------------------------------------------------------------


@gateways
def test_a_gateway_finds_valkey(gateway: Service) -> None:
    url = URL(gateway.environment["GATEWAY_SHARED_CACHE"])
    assert (url.scheme, url.port) == ("redis", 6379)
    assert SERVICES[str(url.host)] is VALKEY
    assert gateway.networks.keys() & VALKEY.networks.keys()
    assert gateway.depends_on == {"valkey": Condition("service_healthy")}


def test_the_gateways_alone_reach_valkey() -> None:
    assert VALKEY.ports == []
    (network,) = VALKEY.networks
    assert COMPOSED.networks[network].internal
    assert [service for service in SERVICES.values() if network in service.networks] == [*GATEWAYS, VALKEY]


@pytest.mark.system("redis-server")
async def test_valkey_s_options_bound_it_and_keep_lasting_keys(
    program_path: Callable[[str], str], tmp_path: Path
) -> None:
    server, *options = VALKEY.command
    assert server == "valkey-server"
    async with redis_running(program_path("redis-server"), tmp_path / "valkey", options=options) as running:
        policy = await running.command("CONFIG", "GET", "maxmemory*")
        assert isinstance(policy, dict)
        assert policy[b"maxmemory-policy"].startswith(b"volatile-")
        assert int(VALKEY.mem_limit.removesuffix("m")) * 2**20 > 2 * int(policy[b"maxmemory"]) > 0
        await running.command("SET", "decided", "for ever")
        await running.restart()
        assert await running.command("GET", "decided") == b"for ever"
    (kept,) = VALKEY.volumes
    assert kept.endswith(":/data")


def test_variables_of_the_file_are_those_of_its_user() -> None:
    taken = set(re.findall(r"\$\{(\w+)", FILE.read_text()))
    assert taken == VARIABLES.keys() | {"MEDIA_GATEWAY_SECRETS"}


@gateways
def test_secrets_come_as_files(gateway: Service) -> None:
    files = {Path(text).name for name, text in gateway.environment.items() if name.endswith("_FILE")}
    assert files == set(gateway.secrets) == COMPOSED.secrets.keys()
    assert all(secret.file.endswith(f"/{name}") for name, secret in COMPOSED.secrets.items())
    assert not [name for name in gateway.environment if name.endswith(("_KEYS", "_CLIENTS", "_TOKEN", "_SECRET"))]


def test_all_are_confined_and_none_fills_the_disk() -> None:
    for service in SERVICES.values():
        assert service.read_only
        assert service.cap_drop == ["ALL"]
        assert service.security_opt == ["no-new-privileges:true"]
        assert service.mem_limit
        assert {"max-size", "max-file"} <= service.logging.options.keys()
    assert not [gateway.user for gateway in GATEWAYS if gateway.user]  # the image's own
    assert int(value("USER").partition(":")[0]) > 0
    assert all(int(service.user.partition(":")[0]) > 0 for service in (NGINX, VALKEY))
    assert all("size=" in place for place in NGINX.tmpfs)


def test_the_addresses_are_of_the_network() -> None:
    ipam = COMPOSED.networks["front"].ipam
    assert ipam is not None
    (configured,) = ipam.config
    network = ipaddress.ip_network(configured.subnet)
    # The first one is the bridge's own.
    free = list(network.hosts())[1:]
    used = [ipaddress.ip_address(service.address) for service in (*GATEWAYS, NGINX)]
    assert set(used) <= set(free)
    assert len(set(used)) == len(used)


@gateways
def test_the_image_is_this_version_built_from_its_recipe(gateway: Service) -> None:
    assert gateway.image == f"media-gateway:{version()}"
    assert gateway.build is not None
    context = FILE.parent / gateway.build.context
    assert (context / gateway.build.dockerfile).samefile(ROOT / "deploy/Dockerfile")


def test_images_of_others_are_of_one_version() -> None:
    for service in (NGINX, VALKEY):
        assert re.fullmatch(r"[\w/]+:\d+\.\d+-alpine", service.image)


def test_each_waits_for_the_health_check_of_what_it_asks() -> None:
    waited = Condition("service_healthy")
    assert NGINX.depends_on == {name: waited for name, service in SERVICES.items() if service in GATEWAYS}
    assert not [gateway for gateway in GATEWAYS if gateway.healthcheck]
    assert value("HEALTHCHECK")
    assert VALKEY.healthcheck is not None


@pytest.fixture
def site(tmp_path: Path) -> str:
    """Return the site that the command of nginx's container writes before it becomes nginx."""
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
async def test_nginx_serves_media_from_the_site_its_command_writes(
    sandbox: Sandbox, photo: Media, tmp_path: Path, program_path: Callable[[str], str], site: str
) -> None:
    behind, front = [free_port(), free_port()], free_port()
    site = substituted(
        site,
        {
            **{address: f"127.0.0.1:{port}" for address, port in zip(ADDRESSES, behind, strict=True)},
            "listen 80;": f"listen 127.0.0.1:{front};",
            "    listen [::]:80;\n": "",
            "/dev/stdout": str(tmp_path / "access.log"),
            "/dev/stderr": "stderr",
        },
    )
    public = f"http://127.0.0.1:{front}"
    settings = [
        environment(sandbox, tmp_path / str(port), GATEWAY_LISTEN=f"127.0.0.1:{port}", GATEWAY_PUBLIC_URL=public)
        for port in behind
    ]
    assert NGINX.healthcheck is not None
    probe = NGINX.healthcheck.test[-1].replace("http://127.0.0.1", public)
    async with (
        serving(settings[0]),
        nginx(program_path("nginx"), site, tmp_path / "nginx"),
        aiohttp.ClientSession() as session,
    ):
        link = LinkMinter(public, KEY).url(photo.ref)
        async with serving(settings[1]):
            async with session.get(probe) as response:
                assert response.status == 200
            for _ in range(4):
                async with session.get(link) as response:
                    assert (response.status, await response.read()) == (200, photo.read())
        # Each of them has fetched it. One is away now, and is not missed.
        assert [request.origin for request in sandbox.requests] == [Origin.API, Origin.CDN] * 2
        for _ in range(4):
            async with session.get(link) as response:
                assert (response.status, await response.read()) == (200, photo.read())
    assert "signature" not in (tmp_path / "access.log").read_text()
