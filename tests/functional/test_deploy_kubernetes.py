"""The Kubernetes manifests: sound by the API's own schemas, consistent, hardened, and of use to the gateway."""

from __future__ import annotations

import functools
import ipaddress
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import kubernetes_validate
import msgspec
import pytest
import yaml
from redis.asyncio import Redis
from yarl import URL

from proxy.cli.serve import serve_command
from proxy.errors import SettingsError
from proxy.settings import Settings, TcpAddress, load
from proxy.version import version
from tests.documents import ROOT
from tests.functional.test_deploy_compose import VALKEY
from tests.functional.test_deploy_docker import image_environment, value
from tests.redis_server import redis_running

FOLDER = ROOT / "deploy/kubernetes"
FORMS = ("base", "overlays/config-file", "overlays/ingress", "overlays/scaled", "overlays/sidecar")
SCALED = "overlays/scaled"
# The oldest that knows all that is used, and the newest whose schemas are at hand.
VERSIONS = ("1.30", kubernetes_validate.latest_version())
SECRETS = {"base": "settings/secret.example.yaml", "overlays/config-file": "overlays/config-file/secret.example.yaml"}
SOUND = {
    "signing_keys": f"k1:{'s' * 40}",
    "clients": f"backend:{'c' * 40}",
    "twilio_auth_token": "t" * 32,
}
PASSWORD = "5f" * 32
"""The password as the component's head makes it."""
SHARED = {"app.kubernetes.io/component": "shared-cache"}
"""The labels that Valkey's documents have."""
Labels = Mapping[str, str]
Document = dict[str, object]

# --- manifests, as far as they are looked into ------------------------------------------------------------------


class Port(msgspec.Struct):
    name: str
    number: int = msgspec.field(name="containerPort")


class SecretKey(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    key: str


class ValueFrom(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    secret_key_ref: SecretKey


class Variable(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    name: str
    value: str = ""
    value_from: ValueFrom | None = None


class Mount(msgspec.Struct):
    name: str
    path: str = msgspec.field(name="mountPath")


class Named(msgspec.Struct):
    name: str


class Source(msgspec.Struct, forbid_unknown_fields=True):
    config: Named = msgspec.field(name="configMapRef")


class Asked(msgspec.Struct):
    path: str
    port: str


class Probe(msgspec.Struct):
    asked: Asked | None = msgspec.field(name="httpGet", default=None)


class Container(msgspec.Struct, rename="camel"):
    name: str
    image: str
    resources: dict[str, dict[str, str]]
    security_context: dict[str, object]
    args: list[str] = []
    ports: list[Port] = []
    env: list[Variable] = []
    env_from: list[Source] = []
    volume_mounts: list[Mount] = []
    startup_probe: Probe | None = None
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    restart_policy: str = ""
    lifecycle: dict[str, dict[str, dict[str, int]]] = {}

    @property
    def probes(self) -> list[Asked]:
        probes = (self.startup_probe, self.liveness_probe, self.readiness_probe)
        return [probe.asked for probe in probes if probe is not None and probe.asked is not None]


class Claimed(msgspec.Struct, rename="camel"):
    claim_name: str


class EmptyDir(msgspec.Struct, rename="camel"):
    size_limit: str


class Volume(msgspec.Struct, rename="camel"):
    name: str
    persistent_volume_claim: Claimed | None = None
    empty_dir: EmptyDir | None = None
    secret: dict[str, object] = {}


class Pod(msgspec.Struct, rename="camel"):
    containers: list[Container]
    security_context: dict[str, object]
    enable_service_links: bool
    automount_service_account_token: bool
    termination_grace_period_seconds: int
    volumes: list[Volume] = []
    init_containers: list[Container] = []

    @property
    def all_containers(self) -> list[Container]:
        return self.containers + self.init_containers


@dataclass(frozen=True)
class Form:
    """One form of the gateway: what `kubectl apply -k` would apply, and of that what Valkey is part of apart."""

    name: str
    documents: list[Document]
    shared: list[Document]

    def one(self, kind: str, *path: str) -> object:
        """Return what stands at that path of the only document of that kind."""
        (found,) = (document for document in self.documents if document["kind"] == kind)
        return at(found, *path)

    def named(self, kind: str) -> set[str]:
        return {str(at(found, "metadata", "name")) for found in self.documents if found["kind"] == kind}

    @property
    def pod(self) -> Pod:
        return msgspec.convert(self.one("Deployment", "spec", "template", "spec"), Pod)

    @property
    def pod_labels(self) -> Labels:
        return msgspec.convert(self.one("Deployment", "spec", "template", "metadata", "labels"), dict[str, str])

    @property
    def gateway(self) -> Container:
        (found,) = (container for container in self.pod.all_containers if container.name == "media-gateway")
        return found

    def environment(self, secrets: Path) -> dict[str, str]:
        """Return the gateway's, with the files of its Secret in this folder."""
        (mount,) = (mount for mount in self.gateway.volume_mounts if mount.name == "secrets")
        found = image_environment() | msgspec.convert(self.one("ConfigMap", "data"), dict[str, str])
        found |= expanded(self.gateway.env)
        return {name: text.replace(mount.path, str(secrets)) for name, text in found.items()}

    def settings(self, secrets: Path) -> Settings:
        arguments = serve_command.make_context("serve", self.gateway.args[1:], resilient_parsing=False).params
        config = arguments["config"]
        settings = load(self.environment(secrets), None if config is None else secrets / Path(config).name)
        settings.require_serving()
        return settings


def expanded(variables: list[Variable]) -> dict[str, str]:
    """Return the variables with what the secrets hold, and with `$(NAME)` of an earlier variable put in its place."""
    found: dict[str, str] = {}
    for variable in variables:
        text = variable.value if variable.value_from is None else PASSWORD
        for name, before in found.items():
            text = text.replace(f"$({name})", before)
        found[variable.name] = text
    return found


def at(document: object, *path: str) -> object:
    for name in path:
        assert isinstance(document, dict)
        document = document[name]
    return document


def parsed(text: str) -> list[Document]:
    return [msgspec.convert(document, Document) for document in yaml.safe_load_all(text)]


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest, program_path: Callable[[str], str]) -> Form:
    return kustomized(program_path("kubectl"), msgspec.convert(request.param, str))


@functools.cache
def kustomized(kubectl: str, name: str) -> Form:
    """Build it once: tests only read it."""
    done = subprocess.run([kubectl, "kustomize", str(FOLDER / name)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    documents = parsed(done.stdout)
    shared = [document for document in documents if SHARED.items() <= labels_of(document).items()]
    return Form(name, [document for document in documents if document not in shared], shared)


def labels_of(document: Document) -> Labels:
    metadata = msgspec.convert(document["metadata"], dict[str, object])
    return msgspec.convert(metadata.get("labels", {}), dict[str, str])


def whole_manifests() -> list[Path]:
    """Return every file that stands by itself: not what kustomize reads, and no patch of another one."""
    files = set(FOLDER.glob("**/*.yaml"))
    for kustomization in FOLDER.glob("**/kustomization.yaml"):
        (document,) = parsed(kustomization.read_text())
        patches = msgspec.convert(document.get("patches", []), list[dict[str, str]])
        files -= {kustomization} | {kustomization.parent / patch["path"] for patch in patches}
    return sorted(files)


# --- by the API's own schemas -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", whole_manifests(), ids=lambda path: str(path.relative_to(FOLDER)))
@pytest.mark.parametrize("kubernetes", VERSIONS)
def test_every_manifest_is_sound(path: Path, kubernetes: str) -> None:
    for document in parsed(path.read_text()):
        kubernetes_validate.validate(document, kubernetes, strict=True)


@pytest.mark.system("kubectl")
def test_what_is_applied_is_sound(form: Form) -> None:
    for kubernetes in VERSIONS:
        for document in form.documents + form.shared:
            kubernetes_validate.validate(document, kubernetes, strict=True)


# --- one part fits the other ------------------------------------------------------------------------------------


@pytest.mark.system("kubectl")
def test_selectors_find_the_pods(form: Form) -> None:
    paths = {
        "Deployment": ("spec", "selector", "matchLabels"),
        "Service": ("spec", "selector"),
        "PodDisruptionBudget": ("spec", "selector", "matchLabels"),
        "NetworkPolicy": ("spec", "podSelector", "matchLabels"),
    }
    for kind, path in paths.items():
        if kind in {document["kind"] for document in form.documents}:
            selected = msgspec.convert(form.one(kind, *path), dict[str, str])
            assert selected, kind
            assert selected.items() <= form.pod_labels.items(), kind


def named_ports(document: object) -> Iterator[str]:
    """Yield every port that a document names, wherever it does."""
    if isinstance(document, dict):
        for key, inner in document.items():
            if key in {"port", "targetPort"} and isinstance(inner, str):
                yield inner
            else:
                yield from named_ports(inner)
    elif isinstance(document, list):
        for inner in document:
            yield from named_ports(inner)


@pytest.mark.system("kubectl")
def test_every_port_that_is_named_is_there(form: Form) -> None:
    ports = {port.name for container in form.pod.all_containers for port in container.ports}
    for document in form.documents:
        if document["kind"] != "Ingress":
            assert set(named_ports(document)) <= ports, document["kind"]


@pytest.mark.system("kubectl")
def test_what_is_referred_to_is_there(form: Form) -> None:
    configs = {source.config.name for container in form.pod.all_containers for source in container.env_from}
    assert configs == form.named("ConfigMap")
    volumes = {volume.name for volume in form.pod.volumes}
    assert {mount.name for container in form.pod.all_containers for mount in container.volume_mounts} == volumes
    claims = {
        volume.persistent_volume_claim.claim_name for volume in form.pod.volumes if volume.persistent_volume_claim
    }
    assert claims == form.named("PersistentVolumeClaim")


@pytest.mark.system("kubectl")
@pytest.mark.parametrize("form", ["overlays/ingress", SCALED], indirect=True)
def test_the_ingress_leads_to_the_service_under_the_public_host(form: Form, secrets: Path) -> None:
    (rule,) = msgspec.convert(form.one("Ingress", "spec", "rules"), list[Document])
    (path,) = msgspec.convert(at(rule, "http", "paths"), list[Document])
    (port,) = msgspec.convert(form.one("Service", "spec", "ports"), list[Document])
    assert at(path, "backend", "service") == {
        "name": form.one("Service", "metadata", "name"), "port": {"name": port["name"]}
    }  # fmt: skip
    (tls,) = msgspec.convert(form.one("Ingress", "spec", "tls"), list[Document])
    settings = form.settings(secrets)
    assert str(settings.public_url) == f"https://{rule['host']}"
    assert tls["hosts"] == [rule["host"]]
    assert settings.trusted_proxies.networks


# --- the gateway's own ------------------------------------------------------------------------------------------


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """Return a Secret as the examples have it, with values that are good."""
    (example,) = parsed((FOLDER / SECRETS["overlays/config-file"]).read_text())
    table = str(at(example, "stringData", "gateway.toml"))
    table = table.replace("CHANGE-ME", "c" * 40).replace('password = ""', 'password = "tttt"')
    for name, text in {**SOUND, "gateway.toml": table}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.system("kubectl")
def test_the_settings_are_ones_that_the_gateway_starts_with(form: Form, secrets: Path) -> None:
    settings = form.settings(secrets)
    assert len(settings.accounts) == 1
    assert len(settings.clients) == (2 if form.name == "overlays/config-file" else 1)
    ports = {port.name: port.number for port in form.gateway.ports}
    listen, metrics = settings.listen, settings.metrics_listen
    assert isinstance(listen, TcpAddress)
    assert {probe.port for probe in form.gateway.probes} <= {n for n, number in ports.items() if number == listen.port}
    assert isinstance(metrics, TcpAddress) == ("metrics" in ports)
    if isinstance(metrics, TcpAddress):
        assert metrics.port == ports["metrics"]
        assert form.one("Deployment", "spec", "template", "metadata", "annotations", "prometheus.io/port") == str(
            metrics.port
        )


@pytest.mark.system("kubectl")
def test_the_secret_has_the_named_files_and_its_example_fails(form: Form, tmp_path: Path) -> None:
    (example,) = parsed((FOLDER / SECRETS.get(form.name, SECRETS["base"])).read_text())
    files = msgspec.convert(example["stringData"], dict[str, str])
    used = {Path(text).name for name, text in form.environment(tmp_path).items() if name.endswith("_FILE")}
    used |= {Path(word).name for word in form.gateway.args if word.endswith(".toml")}
    assert used == files.keys()
    (secret,) = (volume.secret["secretName"] for volume in form.pod.volumes if volume.secret)
    assert at(example, "metadata", "name") == secret
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(SettingsError) as refused:
        form.settings(tmp_path)
    assert len(refused.value.problems) >= 3


@pytest.mark.system("kubectl")
def test_probes_ask_for_what_is_meant_for_them(form: Form) -> None:
    gateway = form.gateway
    assert gateway.liveness_probe is not None
    assert gateway.liveness_probe.asked is not None
    # A full disk is not a reason to start it again.
    assert gateway.liveness_probe.asked.path == "/healthz"
    # A sidecar has no Service that could wait; the program beside it does.
    ready = gateway.startup_probe if form.name == "overlays/sidecar" else gateway.readiness_probe
    assert ready is not None
    assert ready.asked is not None
    assert ready.asked.path == "/readyz"


@pytest.mark.system("kubectl")
def test_a_pod_has_time_to_drain(form: Form, secrets: Path) -> None:
    pause = form.gateway.lifecycle.get("preStop", {}).get("sleep", {}).get("seconds", 0)
    needed = pause + form.settings(secrets).drain_seconds + 15
    assert form.pod.termination_grace_period_seconds > needed


@pytest.mark.system("kubectl")
def test_the_cache_has_a_volume_of_its_size(form: Form, secrets: Path) -> None:
    settings = form.settings(secrets)
    (mount,) = (mount for mount in form.gateway.volume_mounts if mount.name == "cache")
    assert settings.cache_dir.is_relative_to(mount.path)
    # The volume's own folder is root's and its group's.
    assert settings.cache_dir != Path(mount.path)
    (volume,) = (volume for volume in form.pod.volumes if volume.name == "cache")
    if volume.empty_dir is not None:
        size = volume.empty_dir.size_limit
    else:
        size = str(form.one("PersistentVolumeClaim", "spec", "resources", "requests", "storage"))
    assert int(size.removesuffix("Gi")) * 2**30 > 1.5 * settings.cache_bytes


@pytest.mark.system("kubectl")
def test_what_is_revoked_holds_in_every_pod_of_a_service(form: Form, secrets: Path) -> None:
    """Each pod has a cache folder of its own, and the marks are in that folder, and in Valkey if there is one."""
    replicas = form.one("Deployment", "spec", "replicas")
    shared = form.settings(secrets).shared_cache is not None
    assert replicas == 1 or shared or not form.named("Service")
    if form.named("Service") and not shared:
        assert form.one("Deployment", "spec", "strategy") == {"type": "Recreate"}


@pytest.mark.system("kubectl")
def test_a_sidecar_serves_before_the_program_and_as_long(form: Form) -> None:
    for container in form.pod.init_containers:
        assert container.restart_policy == "Always"
        assert container.startup_probe is not None
    assert bool(form.pod.init_containers) == (form.name == "overlays/sidecar")


# --- Valkey -----------------------------------------------------------------------------------------------------

scaled = pytest.mark.parametrize("form", [SCALED], indirect=True)


def named(documents: list[Document], kind: str, name: str) -> Document:
    (found,) = (item for item in documents if item["kind"] == kind and at(item, "metadata", "name") == name)
    return found


@dataclass(frozen=True)
class Valkey:
    """The server that runs beside the gateways."""

    stateful: Document
    service: Document
    labels: Labels
    pod: Pod

    @classmethod
    def of(cls, form: Form) -> Valkey:
        (stateful,) = (document for document in form.shared if document["kind"] == "StatefulSet")
        (service,) = (document for document in form.shared if document["kind"] == "Service")
        labels = msgspec.convert(at(stateful, "spec", "template", "metadata", "labels"), dict[str, str])
        return cls(stateful, service, labels, msgspec.convert(at(stateful, "spec", "template", "spec"), Pod))

    @property
    def container(self) -> Container:
        (found,) = self.pod.containers
        return found

    @property
    def command(self) -> list[str]:
        """The command with the password put in."""
        variables = expanded(self.container.env)
        return [word.replace("$(VALKEY_PASSWORD)", variables["VALKEY_PASSWORD"]) for word in self.container.args]


@pytest.mark.system("kubectl")
@scaled
def test_the_gateways_find_valkey_with_its_password(form: Form, secrets: Path) -> None:
    valkey = Valkey.of(form)
    assert form.settings(secrets).shared_cache is not None
    url = URL(form.environment(secrets)["GATEWAY_SHARED_CACHE"])
    assert (url.scheme, url.host) == ("redis", at(valkey.service, "metadata", "name"))
    (port,) = msgspec.convert(at(valkey.service, "spec", "ports"), list[Document])
    (listens,) = valkey.container.ports
    assert (url.port, port["targetPort"], listens.number) == (port["port"], listens.name, port["port"])
    assert at(valkey.service, "metadata", "name") == at(valkey.stateful, "spec", "serviceName")
    assert url.password == PASSWORD == valkey.command[valkey.command.index("--requirepass") + 1]
    asked = [
        variable.value_from.secret_key_ref
        for container in (form.gateway, valkey.container)
        for variable in container.env
        if variable.value_from is not None
    ]
    assert asked == [SecretKey("media-gateway-valkey", "password")] * 2


@pytest.mark.system("kubectl")
@scaled
def test_the_gateways_alone_reach_valkey_and_it_reaches_nothing(form: Form) -> None:
    valkey = Valkey.of(form)
    within = at(named(form.shared, "NetworkPolicy", "media-gateway-valkey"), "spec")
    assert selected(within, "podSelector") == valkey.labels
    assert (at(within, "policyTypes"), at(within, "egress")) == (["Ingress", "Egress"], [])
    (let_in,) = msgspec.convert(at(within, "ingress"), list[Document])
    (peer,) = msgspec.convert(let_in["from"], list[Document])
    (port,) = msgspec.convert(let_in["ports"], list[Document])
    assert selected(peer, "podSelector").items() <= form.pod_labels.items()
    assert not selected(peer, "podSelector").items() <= valkey.labels.items()
    assert port["port"] in {port.name for port in valkey.container.ports}
    out = at(named(form.shared, "NetworkPolicy", "media-gateway-to-valkey"), "spec")
    assert at(out, "policyTypes") == ["Egress"]
    assert selected(out, "podSelector").items() <= form.pod_labels.items()
    (rule,) = msgspec.convert(at(out, "egress"), list[Document])
    (peer,) = msgspec.convert(rule["to"], list[Document])
    (port,) = msgspec.convert(rule["ports"], list[Document])
    assert selected(peer, "podSelector") == valkey.labels
    assert port["port"] in {port.number for port in valkey.container.ports}


def selected(document: object, key: str) -> Labels:
    """Return the labels that pods are chosen by."""
    labels = msgspec.convert(at(document, key, "matchLabels"), dict[str, str])
    assert labels
    return labels


@pytest.mark.system("kubectl")
@scaled
def test_valkey_s_selectors_find_it_and_no_gateway(form: Form) -> None:
    valkey = Valkey.of(form)
    service = msgspec.convert(at(valkey.service, "spec", "selector"), dict[str, str])
    for labels in (selected(at(valkey.stateful, "spec"), "selector"), service):
        assert labels.items() <= valkey.labels.items()
        assert not labels.items() <= form.pod_labels.items()


@pytest.mark.system("redis-server")
@pytest.mark.system("kubectl")
@scaled
async def test_valkey_s_options_bound_it_and_keep_lasting_keys(
    form: Form, program_path: Callable[[str], str], tmp_path: Path
) -> None:
    container = Valkey.of(form).container
    server, *options = Valkey.of(form).command
    assert server == "valkey-server"
    async with redis_running(program_path("redis-server"), tmp_path / "valkey", options=options) as running:
        async with Redis(unix_socket_path=str(running.socket_path), password=PASSWORD) as client:
            policy = msgspec.convert(await client.config_get("maxmemory*"), dict[str, str])
            assert policy["maxmemory-policy"].startswith("volatile-")
            limit = int(container.resources["limits"]["memory"].removesuffix("Mi")) * 2**20
            assert limit > 2 * int(policy["maxmemory"]) > 0
            await client.set("decided", "for ever")
        await running.restart()
        async with Redis(unix_socket_path=str(running.socket_path), password=PASSWORD) as client:
            assert await client.get("decided") == b"for ever"
    (mount,) = container.volume_mounts
    (claim,) = msgspec.convert(at(Valkey.of(form).stateful, "spec", "volumeClaimTemplates"), list[Document])
    assert (mount.path, mount.name) == ("/data", at(claim, "metadata", "name"))


@pytest.mark.system("kubectl")
@scaled
def test_valkey_is_restricted_as_the_gateway_is(form: Form) -> None:
    pod = Valkey.of(form).pod
    own = pod.security_context
    assert {name: own[name] for name in ("runAsNonRoot", "seccompProfile")} == {
        "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}
    }  # fmt: skip
    assert isinstance(own["runAsUser"], int)
    assert own["runAsUser"] > 0
    assert own["fsGroup"] == own["runAsGroup"]
    assert (pod.enable_service_links, pod.automount_service_account_token) == (False, False)
    assert Valkey.of(form).container.security_context == form.gateway.security_context
    assert Valkey.of(form).container.resources["limits"].keys() == {"memory"}


@pytest.mark.system("kubectl")
@scaled
def test_valkey_is_that_of_the_compose_file_with_a_password(form: Form) -> None:
    container = Valkey.of(form).container
    assert container.image == VALKEY.image
    words = [word for word in container.args if word not in {"--requirepass", "$(VALKEY_PASSWORD)"}]
    assert words == VALKEY.command


# --- hardening --------------------------------------------------------------------------------------------------


@pytest.mark.system("kubectl")
def test_the_pod_is_restricted(form: Form) -> None:
    """By the Pod Security Standards' `restricted`, and the root file system read-only besides."""
    pod = form.pod
    user, group = value("USER").split(":")
    assert pod.security_context["runAsNonRoot"] is True
    assert (pod.security_context["runAsUser"], pod.security_context["runAsGroup"]) == (int(user), int(group))
    assert pod.security_context["fsGroup"] == int(group)
    assert pod.security_context["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod.all_containers:
        assert container.security_context == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= container.resources["requests"].keys()
        assert container.resources["limits"].keys() == {"memory"}


@pytest.mark.system("kubectl")
def test_nothing_of_the_cluster_gets_into_the_pod(form: Form) -> None:
    assert form.pod.enable_service_links is False
    assert form.pod.automount_service_account_token is False
    with pytest.raises(SettingsError):
        load({"GATEWAY_PORT": "tcp://10.0.0.1:80"})


@pytest.mark.system("kubectl")
def test_the_image_is_this_version(form: Form) -> None:
    assert form.gateway.image == f"media-gateway:{version()}"


@pytest.mark.system("kubectl")
@pytest.mark.parametrize("form", ["base", "overlays/ingress", SCALED], indirect=True)
def test_the_gateway_reaches_nothing_within(form: Form) -> None:
    rules = msgspec.convert(form.one("NetworkPolicy", "spec", "egress"), list[Document])
    blocks = [
        at(to, "ipBlock")
        for rule in rules
        if {at(port, "port") for port in msgspec.convert(rule["ports"], list[Document])} != {53}
        for to in msgspec.convert(rule["to"], list[Document])
    ]
    assert blocks
    excepted = [
        ipaddress.ip_network(net) for block in blocks for net in msgspec.convert(at(block, "except"), list[str])
    ]
    for within in ("10.1.2.3", "172.20.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "fd00::1", "fe80::1"):
        assert any(ipaddress.ip_address(within) in net for net in excepted), within


@pytest.mark.system("kubectl")
@pytest.mark.parametrize("form", ["overlays/ingress", SCALED], indirect=True)
def test_where_a_proxy_is_believed_it_alone_is_let_in(form: Form) -> None:
    rules = msgspec.convert(form.one("NetworkPolicy", "spec", "ingress"), list[Document])
    for rule in rules:
        (peer,) = msgspec.convert(rule["from"], list[Document])
        assert peer.keys() == {"namespaceSelector"}
