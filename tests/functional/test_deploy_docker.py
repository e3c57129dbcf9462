"""The image's recipe, read as Docker reads it, and its health check and defaults against a real gateway."""

from __future__ import annotations

import asyncio
import fnmatch
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.sandbox import Sandbox
from tests.functional.harness import environment
from tests.functional.serving import COMMAND, clean_environment, serving
from tests.ports import free_port

TOP = Path(__file__).parents[2]
TEXT = (TOP / "deploy/Dockerfile").read_text()


@dataclass(frozen=True)
class Instruction:
    name: str
    value: str


def read(text: str) -> list[list[Instruction]]:
    """Return the stages of a Dockerfile, each from its FROM on."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    stages: list[list[Instruction]] = []
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        name, _, value = line.partition(" ")
        if name == "FROM":
            stages.append([])
        stages[-1].append(Instruction(name, value.strip()))
    return stages


BUILD, FINAL = read(TEXT)


def value(name: str) -> str:
    """Return the one instruction of this name in the final stage."""
    (only,) = (instruction.value for instruction in FINAL if instruction.name == name)
    return only


def image_environment() -> dict[str, str]:
    """Return what the image sets, without its PATH."""
    pairs = (word.partition("=") for word in shlex.split(value("ENV")))
    return {name: text for name, _, text in pairs if name != "PATH"}


def health_check() -> list[str]:
    flags, _, command = value("HEALTHCHECK").partition("CMD ")
    assert flags
    words: list[str] = json.loads(command)
    return words


def test_each_base_is_one_version_of_one_image() -> None:
    bases = {stage[0].value.partition(" ")[0] for stage in (BUILD, FINAL)}
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.1[123]-slim-[a-z]+", bases.pop())


def test_it_runs_as_a_numbered_user_other_than_root() -> None:
    user, group = value("USER").split(":")
    assert int(user) > 0
    assert int(group) > 0
    (made,) = (i.value for i in FINAL if i.name == "RUN")
    assert made == f"install -d -m 0700 -o {user} -g {group} {value('VOLUME')}"
    assert image_environment()["GATEWAY_CACHE_DIR"] == value("VOLUME")
    names = [instruction.name for instruction in FINAL]
    # A volume takes what lies in its folder before it is declared, and nothing after.
    assert names.index("RUN") < names.index("VOLUME")


def test_everything_that_is_installed_is_pinned_by_hash() -> None:
    installs = [part.strip() for i in BUILD if i.name == "RUN" for part in i.value.split("&&") if " install " in part]
    assert len(installs) == 3
    for command in installs:
        from_the_lock = "--require-hashes --no-deps" in command and re.search(
            r"-r requirements(-build)?\.lock", command
        )
        assert from_the_lock or "--no-deps --no-index" in command


def test_the_program_is_the_entry_and_serve_the_default() -> None:
    assert json.loads(value("ENTRYPOINT")) == ["media-gateway"]
    assert json.loads(value("CMD")) == ["serve"]
    assert value("STOPSIGNAL") == "SIGTERM"
    assert image_environment()["GATEWAY_LISTEN"] == f"0.0.0.0:{value('EXPOSE')}"


def test_no_secret_is_part_of_the_image() -> None:
    assert not [i for i in (*BUILD, *FINAL) if i.name == "ARG"]
    assert not re.findall(r"(?:KEYS|CLIENTS|TOKEN|SECRET|PASSWORD)\w*=", TEXT)


def ignored(path: str) -> bool:
    """Return whether .dockerignore leaves a path out: the last pattern that matches it or a folder of it decides."""
    verdict = False
    for line in (TOP / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        parts = path.split("/")
        names = ["/".join(parts[: end + 1]) for end in range(len(parts))]
        matched = any(
            fnmatch.fnmatchcase(name, pattern)
            or (pattern.startswith("**/") and fnmatch.fnmatchcase(name.rpartition("/")[2], pattern[3:]))
            for name in names
        )
        if matched:
            verdict = not line.startswith("!")
    return verdict


def test_what_is_copied_is_there_and_reaches_the_build() -> None:
    copied = [word for i in BUILD if i.name == "COPY" for word in i.value.split()[:-1]]
    assert {"requirements.lock", "pyproject.toml", "proxy/"} <= set(copied)
    for source in copied:
        assert (TOP / source).exists()
        assert not ignored(source.rstrip("/"))


@pytest.mark.parametrize(
    "path", [".git/config", ".venv/bin/python", "tests/conftest.py", ".env", "proxy/__pycache__/cli.cpython-313.pyc"]
)
def test_nothing_else_reaches_the_build(path: str) -> None:
    assert ignored(path)


async def run(command: list[str], settings: Mapping[str, str]) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *command, env=clean_environment(settings), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


async def test_the_health_check_is_true_of_a_serving_gateway_alone(sandbox: Sandbox, tmp_path: Path) -> None:
    port = free_port()
    overrides = {
        "GATEWAY_LISTEN": f"0.0.0.0:{port}",
        "GATEWAY_PUBLIC_URL": "https://media.example.com",
        "GATEWAY_CACHE_DIR": str(tmp_path / "cache"),
        # A proxy for the way out is none for the way to itself.
        "http_proxy": "http://127.0.0.1:9",
    }
    settings = environment(sandbox, tmp_path, **image_environment() | overrides)
    check = [COMMAND[0], *health_check()[1:]]
    assert health_check()[0] == "python"
    async with serving(settings):
        assert await run(check, settings) == (0, "")
    code, _ = await run(check, settings)
    assert code == 1


async def test_the_image_s_own_settings_ask_for_the_public_url(sandbox: Sandbox, tmp_path: Path) -> None:
    code, said = await run(list(COMMAND), environment(sandbox, tmp_path, **image_environment()))
    problem = "GATEWAY_PUBLIC_URL: is required if the gateway listens at a wildcard address"
    assert (code, said.splitlines()) == (2, [problem])
