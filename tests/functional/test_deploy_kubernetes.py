"""The Kubernetes manifests: sound by the API's own schemas, consistent, hardened, and of use to the gateway."""

from __future__ import annotations

import ipaddress
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import kubernetes_validate
import msgspec
import pytest
import yaml

from proxy.cli.serving import serve_command
from proxy.errors import SettingsError
from proxy.settings import Settings, TcpAddress, load
from proxy.version import version
from tests.documents import ROOT
from tests.functional.test_deploy_docker import image_environment, value

FOLDER = ROOT / "deploy/kubernetes"
FORMS = ("base", "overlays/config-file", "overlays/ingress", "overlays/sidecar")
# The oldest that knows all that is used, and the newest whose schemas are at hand.
VERSIONS = ("1.30", kubernetes_validate.latest_version())
SECRETS = {"base": "settings/secret.example.yaml", "overlays/config-file": "overlays/config-file/secret.example.yaml"}
SOUND = {
    "signing_keys": f"k1:{'s' * 40}",
    "clients": f"backend:{'c' * 40}",
    "twilio_auth_token": "t" * 32,
}
Labels = Mapping[str, str]
Document = dict[str, object]

# --- manifests, as far as they are looked into ------------------------------------------------------------------


class Port(msgspec.Struct):
    name: str
    number: int = msgspec.field(name="containerPort")


class Variable(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    value: str


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
    asked: Asked = msgspec.field(name="httpGet")


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
        return [probe.asked for probe in probes if probe is not None]


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
    volumes: list[Volume]
    security_context: dict[str, object]
    enable_service_links: bool
    automount_service_account_token: bool
    termination_grace_period_seconds: int
    init_containers: list[Container] = []

    @property
    def all_containers(self) -> list[Container]:
        return self.containers + self.init_containers


@dataclass(frozen=True)
class Form:
    """One form of the gateway: what `kubectl apply -k` would apply."""

    name: str
    documents: list[Document]

    def one(self, kind: str, *path: str) -> object:
        """What stands at that path of the only document of that kind."""
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
        """The gateway's, with the files of its Secret in this folder."""
        (mount,) = (mount for mount in self.gateway.volume_mounts if mount.name == "secrets")
        found = image_environment() | msgspec.convert(self.one("ConfigMap", "data"), dict[str, str])
        found |= {variable.name: variable.value for variable in self.gateway.env}
        return {name: text.replace(mount.path, str(secrets)) for name, text in found.items()}

    def settings(self, secrets: Path) -> Settings:
        arguments = serve_command.make_context("serve", self.gateway.args[1:], resilient_parsing=False).params
        config = arguments["config"]
        settings = load(self.environment(secrets), None if config is None else secrets / Path(config).name)
        settings.require_serving()
        return settings


def at(document: object, *path: str) -> object:
    for name in path:
        assert isinstance(document, dict)
        document = document[name]
    return document


def parsed(text: str) -> list[Document]:
    return [msgspec.convert(document, Document) for document in yaml.safe_load_all(text)]


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest, program_path: Callable[[str], str]) -> Form:
    name = msgspec.convert(request.param, str)
    done = subprocess.run([program_path("kubectl"), "kustomize", str(FOLDER / name)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return Form(name, parsed(done.stdout))


def whole_manifests() -> list[Path]:
    """Every file that stands by itself: not what kustomize reads, and no patch of another one."""
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
        for document in form.documents:
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
    """Every port that a document names, wherever it does."""
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
@pytest.mark.parametrize("form", ["overlays/ingress"], indirect=True)
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
    """A Secret as the examples have it, with values that are good."""
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
def test_the_secret_has_the_files_that_the_settings_name_and_its_example_does_not_serve(
    form: Form, tmp_path: Path
) -> None:
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
    # A full disk is no reason to start it anew.
    assert gateway.liveness_probe.asked.path == "/healthz"
    # A sidecar has no Service that could wait; the program beside it does.
    ready = gateway.startup_probe if form.name == "overlays/sidecar" else gateway.readiness_probe
    assert ready is not None
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
def test_what_is_revoked_holds_in_every_pod_of_a_service(form: Form) -> None:
    """Each pod has a cache folder of its own, and the marks are in that folder."""
    replicas = form.one("Deployment", "spec", "replicas")
    assert replicas == 1 or not form.named("Service")
    if form.named("Service"):
        assert form.one("Deployment", "spec", "strategy") == {"type": "Recreate"}


@pytest.mark.system("kubectl")
def test_a_sidecar_serves_before_the_program_and_as_long(form: Form) -> None:
    for container in form.pod.init_containers:
        assert container.restart_policy == "Always"
        assert container.startup_probe is not None
    assert bool(form.pod.init_containers) == (form.name == "overlays/sidecar")


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
@pytest.mark.parametrize("form", ["base", "overlays/ingress"], indirect=True)
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
@pytest.mark.parametrize("form", ["overlays/ingress"], indirect=True)
def test_where_a_proxy_is_believed_it_alone_is_let_in(form: Form) -> None:
    rules = msgspec.convert(form.one("NetworkPolicy", "spec", "ingress"), list[Document])
    for rule in rules:
        (peer,) = msgspec.convert(rule["from"], list[Document])
        assert peer.keys() == {"namespaceSelector"}
