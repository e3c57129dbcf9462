"""The install commands of the repository, run on a machine that knows nothing, against an index of later days.

Every package of the locks has a stand-in in a local folder: a wheel with the real one's version and requirements and
nothing else, and beside it a much newer one. The locks are rewritten to the stand-ins' hashes. What a command looks up
beyond its lock it finds in the newer version, which no hash allows.
"""

from __future__ import annotations

import base64
import compileall
import csv
import ensurepip
import hashlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.documents import DEPLOY, ROOT, SETTINGS, blocks

LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-build.lock", "requirements-docs.lock")
SIGNALWIRE = "tests/clients/signalwire/requirements.txt"
_PIN = re.compile(
    r"^(?P<requirement>[\w.-]+(?:\[[\w,.-]+\])?==[^\\\n]+?) \\\n(?:    --hash=\S+(?: \\)?\n)+", re.MULTILINE
)
_NEWER = "9999.1"


def pins(text: str) -> Iterator[Requirement]:
    """Yield the packages of a lock that this machine needs."""
    for match in _PIN.finditer(text):
        requirement = Requirement(match["requirement"])
        if requirement.marker is None or requirement.marker.evaluate():
            yield requirement


def version_of(pin: Requirement) -> str:
    (specifier,) = pin.specifier
    return specifier.version


# --- the index of later days ----------------------------------------------------------------------------------


def metadata(name: str, version: str, known: Distribution | None) -> str:
    """Return the metadata of the package itself, each requirement with an extra.

    So pytest-cov asks for `coverage[toml]`, and the lock does not. A package that is not here asks for more than the
    index has.
    """
    if known is None:
        return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: not-in-this-index\n"
    text = known.read_text("METADATA")
    assert text is not None
    head = re.sub(r"(?m)^Version: .*$", f"Version: {version}", text.partition("\n\n")[0], count=1)
    return re.sub(r"(?m)^(Requires-Dist: [\w.-]+)(?:\[[^]]*\])?", r"\1[later]", head) + "\nProvides-Extra: later\n"


def contents(known: Distribution) -> dict[str, bytes]:
    """Return the modules of a package and what says which entry points it has."""
    found: dict[str, bytes] = {}
    for file in known.files or ():
        path = str(file)
        if (
            not path.startswith("..")
            and "__pycache__" not in path
            and not path.endswith(("/RECORD", "/METADATA", "/WHEEL"))
        ):
            located = Path(str(file.locate()))
            if located.is_file():
                found[path] = located.read_bytes()
    return {path: content for path, content in found.items() if ".dist-info/" not in path or "entry_points" in path}


def write_wheel(folder: Path, name: str, version: str, text: str, files: dict[str, bytes]) -> str:
    """Write a wheel; gives the hash of it as a lock writes it."""
    stem = f"{name.replace('-', '_')}-{version}"
    kept = {re.sub(r"^[^/]+\.dist-info/", f"{stem}.dist-info/", path): content for path, content in files.items()}
    kept[f"{stem}.dist-info/METADATA"] = text.encode()
    kept[f"{stem}.dist-info/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    for path, content in kept.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        rows.writerow((path, f"sha256={digest}", len(content)))
    rows.writerow((f"{stem}.dist-info/RECORD", "", ""))
    wheel = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in kept.items():
            archive.writestr(path, content)
        archive.writestr(f"{stem}.dist-info/RECORD", record.getvalue())
    return f"sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"


@dataclass(frozen=True)
class Index:
    """A folder of wheels, and the hash of each that a lock may name."""

    folder: Path
    hashes: dict[tuple[str, str], str]

    @classmethod
    def of(cls, folder: Path) -> Index:
        # pip replaces itself by what the lock names, and the build backend has to build.
        working = {"pip", *(pin.name for pin in pins((ROOT / "requirements-build.lock").read_text("utf-8")))}
        hashes: dict[tuple[str, str], str] = {}
        for lock in (*LOCKS, SIGNALWIRE):
            for pin in pins((ROOT / lock).read_text("utf-8")):
                name, version = canonicalize_name(pin.name), version_of(pin)
                if (name, version) in hashes:
                    continue
                try:
                    known = distribution(name)
                except PackageNotFoundError:
                    known = None
                if known is not None and known.version != version:
                    known = None
                files = contents(known) if known is not None and name in working else {}
                hashes[name, version] = write_wheel(folder, name, version, metadata(name, version, known), files)
                write_wheel(folder, name, _NEWER, metadata(name, _NEWER, known), {})
        return cls(folder, hashes)

    def lock(self, text: str) -> str:
        """Return the lock with the hashes of this index."""

        def pinned(match: re.Match[str]) -> str:
            requirement = Requirement(match["requirement"])
            known = self.hashes.get((canonicalize_name(requirement.name), version_of(requirement)))
            return match[0] if known is None else f"{match['requirement']} \\\n    --hash={known}\n"

        return _PIN.sub(pinned, text)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return Index.of(tmp_path_factory.mktemp("index"))


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python that this environment was made with, as a program whose `-m venv` takes a tenth of the time.

    The pip that Python brings is unpacked once and copied into each environment; ensurepip would compile it again.
    """
    folder = tmp_path_factory.mktemp("python")
    (bundled,) = (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")
    with zipfile.ZipFile(bundled) as archive:
        archive.extractall(folder / "pip")
    compileall.compile_dir(folder / "pip", quiet=2, workers=1)
    real = shlex.quote(os.path.realpath(sys.executable))
    program = folder / "python3"
    program.write_text(
        f"""#!/bin/sh
[ "$1 $2" = "-m venv" ] || exec {real} "$@"
{real} -m venv --without-pip "$3" && cp -a {shlex.quote(str(folder / "pip"))}/. "$3"/lib/python*/site-packages/ &&
  printf '#!/bin/sh\\nexec "%s" -m pip "$@"\\n' "$(cd "$3" && pwd)/bin/python" > "$3/bin/pip" && chmod +x "$3/bin/pip"
""",
        "utf-8",
    )
    program.chmod(0o755)
    return program


@dataclass(frozen=True)
class Machine:
    """A copy of the repository on a machine whose pip finds what the index holds, and nothing else."""

    tree: Path
    index: Index
    python: Path

    def run(self, *command: str, path: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.tree,
            env={
                "PATH": os.pathsep.join(filter(None, (path, os.environ["PATH"]))),
                "HOME": str(self.tree),
                "PIP_CONFIG_FILE": os.devnull,
                "PIP_NO_INDEX": "1",
                "PIP_FIND_LINKS": str(self.index.folder),
                "PIP_DISABLE_PIP_VERSION_CHECK": "1",
                "PIP_NO_COMPILE": "1",
            },
            capture_output=True,
            text=True,
            timeout=240,
        )

    def shell(self, commands: str, *, path: str = "") -> subprocess.CompletedProcess[str]:
        return self.run("/bin/sh", "-ec", commands, path=path)

    def make(self, target: str) -> subprocess.CompletedProcess[str]:
        return self.run("make", f"PYTHON={self.python}", target)

    def assert_whole(self, environment: str | Path) -> None:
        """Check that nothing that is installed misses anything."""
        checked = self.run(str(self.tree / environment / "bin/python"), "-m", "pip", "check")
        assert (checked.returncode, checked.stdout) == (0, "No broken requirements found.\n")
        started = self.run(str(self.tree / environment / "bin/python"), "-m", "pip", "show", "media-gateway")
        assert "Name: media-gateway" in started.stdout, started.stderr


@pytest.fixture
def machine(index: Index, python: Path, tmp_path: Path) -> Machine:
    tree = tmp_path / "tree"
    for name in ("Makefile", "pyproject.toml", "README.md", "LICENSE", "proxy", "tests/clients/signalwire"):
        source, target = ROOT / name, tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    for lock in (*LOCKS, SIGNALWIRE):
        (tree / lock).write_text(index.lock((ROOT / lock).read_text("utf-8")), "utf-8")
    return Machine(tree, index, python)


def installs(*commands: str) -> str:
    """Return the lines among commands that make an environment and install into it."""
    lines = [
        line
        for command in commands
        for line in command.splitlines()
        if re.search(r"\bpip\b.* install |-m venv|pip install", line)
    ]
    assert any("requirements.lock" in line for line in lines)
    return "\n".join(lines)


# --- the commands ---------------------------------------------------------------------------------------------


@pytest.mark.system("make")
@pytest.mark.timeout(300)
def test_what_make_installs_comes_from_the_locks_alone(machine: Machine) -> None:
    for target in (".venv/.runtime", ".venv/.dev"):
        made = machine.make(target)
        assert made.returncode == 0, made.stderr
        machine.assert_whole(".venv")


@pytest.mark.system("make")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("environment", [".venv/clients-signalwire", ".venv/docs"])
def test_an_environment_of_its_own_comes_from_its_lock_alone(machine: Machine, environment: str) -> None:
    made = machine.make(f"{environment}/.installed")
    assert (made.returncode, made.stderr) == (0, "")
    assert (machine.tree / environment / ".installed").exists()


@pytest.mark.timeout(300)
def test_an_install_without_make_comes_from_the_locks_alone(machine: Machine) -> None:
    text = installs(*(block.text for block in blocks("bash", document=SETTINGS) if "requirements.lock" in block.text))
    done = machine.shell(text.replace("python3 -m venv", f"{machine.python} -m venv"))
    assert done.returncode == 0, done.stderr
    machine.assert_whole(".venv")


@pytest.mark.timeout(300)
def test_the_service_guide_installs_from_the_locks_alone(machine: Machine) -> None:
    text = installs(*(block.text for block in blocks("bash", document=DEPLOY) if "requirements.lock" in block.text))
    text = text.replace("python3 -m venv", f"{machine.python} -m venv")
    done = machine.shell(text.replace("/opt/media-gateway", str(machine.tree / "opt")))
    assert done.returncode == 0, done.stderr
    machine.assert_whole("opt")


@pytest.mark.timeout(300)
def test_the_image_is_built_from_the_locks_alone(machine: Machine) -> None:
    text = re.sub(r"\\\n\s*", "", (ROOT / "deploy/Dockerfile").read_text("utf-8"))
    text = installs(*re.findall(r"(?m)^RUN (.*)$", text.partition("\nFROM ")[2].partition("\nFROM ")[0]))
    text = text.replace("/opt/media-gateway", str(machine.tree / "opt")).replace("/src", str(machine.tree))
    # Its base image has a Python and a pip of its own.
    image = machine.run(str(machine.python), "-m", "venv", str(machine.tree / "image"))
    assert image.returncode == 0, image.stderr
    done = machine.shell(text, path=str(machine.tree / "image/bin"))
    assert done.returncode == 0, done.stderr
    checked = machine.run(
        str(machine.tree / "image/bin/pip"), "--python", str(machine.tree / "opt/bin/python"), "check"
    )
    assert (checked.returncode, checked.stdout) == (0, "No broken requirements found.\n")
    assert (machine.tree / "opt/bin/media-gateway").exists()


@pytest.mark.system("make")
@pytest.mark.timeout(300)
def test_the_index_catches_an_install_that_follows_requirements(machine: Machine) -> None:
    makefile = machine.tree / "Makefile"
    makefile.write_text(makefile.read_text("utf-8").replace("--no-deps", ""), "utf-8")
    assert "[later]" in machine.make(".venv/.runtime").stderr
    assert not (machine.tree / ".venv/.runtime").exists()


# --- the rule, by the letter ----------------------------------------------------------------------------------


def tracked() -> Iterator[Path]:
    """Yield the files of the repository that are text."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        path = ROOT / name
        if path.is_file() and path != Path(__file__) and b"\0" not in path.read_bytes()[:1_000]:
            yield path


@pytest.mark.system("git")
def test_every_install_of_a_lock_has_both_flags() -> None:
    found = 0
    for path in tracked():
        text = re.sub(r"\\\n\s*", " ", path.read_text("utf-8", "replace"))
        for line in re.findall(r"(?m)^.*\bpip\b.*\binstall\b.*\s(?:-r\b|--requirement\b).*$", text):
            found += 1
            assert {"--require-hashes", "--no-deps"} <= set(line.replace('"', " ").split()), f"{path.name}: {line}"
    assert found >= 7


@pytest.mark.parametrize(
    ("lock", "extras", "roots"),
    [
        ("requirements.lock", {"redis", "speed"}, ()),
        ("requirements-dev.lock", {"redis", "speed", "test", "dev"}, ()),
        ("requirements-build.lock", None, ("hatchling", "editables")),
    ],
)
def test_a_lock_holds_every_requirement_in_the_right_version(
    lock: str, extras: set[str] | None, roots: tuple[str, ...]
) -> None:
    locked = {canonicalize_name(pin.name): version_of(pin) for pin in pins((ROOT / lock).read_text("utf-8"))}
    waiting = [Requirement(root) for root in roots]
    if extras is not None:
        waiting.append(Requirement(f"media-gateway[{','.join(sorted(extras))}]"))
    seen: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name != "media-gateway":
            assert name in locked, f"{lock} lacks {requirement}"
            assert requirement.specifier.contains(locked[name], prereleases=True), f"{lock}: {requirement}"
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        wanted = [Requirement(text) for text in distribution(name).requires or ()]
        waiting += [
            one
            for one in wanted
            if one.marker is None
            or any(one.marker.evaluate({"extra": extra}) for extra in (requirement.extras or {""}) | {""})
        ]
