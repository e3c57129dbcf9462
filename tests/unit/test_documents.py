"""The documents say what the program does: names, tables, examples and links in them are held to it."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
import pytest
import yaml
from click.testing import CliRunner

import proxy
from proxy import errors
from proxy.cache.counters import Counter, hit_ratio
from proxy.cli import main
from proxy.links import LinkMinter, LinkPolicy
from proxy.links.claims import CLAIM_NAMES
from proxy.model import MediaRef, Provider
from proxy.settings import CONFIG_VARIABLE, Settings, load
from proxy.settings.catalogue import SPELLINGS
from tests.documents import (
    DOCUMENTS,
    LINKS,
    README,
    ROOT,
    SETTINGS,
    TABLES,
    TELEMETRY,
    WEB,
    Block,
    all_blocks,
    blocks,
    headings,
    links,
    name_of,
    prose,
    rows,
    written_table,
)
from tests.unit.test_words import PHRASES

COMMANDS: Final = frozenset(main.list_commands(click.Context(main)))
VECTORS: Final = json.loads((ROOT / "tests/vectors/links.json").read_text("utf-8"))
KINDS: Final = {"bash", "conf", "js", "json", "python", "text", "toml", "yaml"}
FRAMEWORKS: Final = {"django", "flask", "fastapi"}

(FIVE,) = (block.text for block in blocks("bash", title="Five lines to real use"))

NEVER_ANSWERED: Final = {
    "settings": "stops the start",
    "bad-identifier": "is translated where it is met",
    "link-refused": "is the root of the link's errors",
}

documents = pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)


# --- settings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TABLES)
def test_a_generated_table_is_that_of_the_program(name: str) -> None:
    assert written_table(name) == TABLES[name].made(), "run: .venv/bin/python -m tests.documents"


@documents
def test_every_setting_that_is_named_exists(document: Path) -> None:
    named = set(re.findall(r"\b(?:GATEWAY|TWILIO|SIGNALWIRE)_[A-Z_]*[A-Z]\b", document.read_text("utf-8")))
    assert {name for name in named if name.lower() not in SPELLINGS} <= {CONFIG_VARIABLE}


@pytest.fixture
def started(tmp_path: Path) -> Path:
    """Return the file of settings that the first commands write, as it is before the account is filled in."""
    file = tmp_path / "media-gateway.toml"
    (install,) = (block.text for block in blocks("bash", document=SETTINGS) if "requirements.lock" in block.text)
    assert install.splitlines()[-1] == FIVE.splitlines()[0]
    assert len(FIVE.splitlines()) == 5
    assert re.findall(r"(?m)^media-gateway (\w+)", FIVE) == ["init", "check"]
    assert CliRunner().invoke(main, ["init", str(file)]).exit_code == 0
    return file


def test_five_lines_and_an_account_in_the_file_serve(started: Path) -> None:
    account, _ = blocks("toml", document=SETTINGS, title="The first file")
    started.write_text(started.read_text("utf-8") + account.text, "utf-8")
    settings = load({}, started)
    settings.require_serving()
    assert [account.origin for account in settings.accounts] == ["https://api.twilio.com"]
    assert [client.id for client in settings.clients] == ["backend"]


def test_five_lines_and_an_account_in_variables_serve(started: Path) -> None:
    variables = dict(re.findall(r"\b(TWILIO_\w+)=(\S+)", FIVE))
    settings = load(variables, started)
    settings.require_serving()
    assert [account.origin for account in settings.accounts] == ["https://api.twilio.com"]


def test_the_lines_for_a_signalwire_space_add_a_project(started: Path) -> None:
    accounts = "".join(block.text for block in blocks("toml", document=SETTINGS, title="The first file"))
    started.write_text(started.read_text("utf-8") + accounts, "utf-8")
    origins = [account.origin for account in load({}, started).accounts]
    assert origins == ["https://api.twilio.com", "https://example.signalwire.com"]


@pytest.fixture
def from_toml(tmp_path: Path) -> Settings:
    (block,) = blocks("toml", document=SETTINGS, title="Several accounts and clients")
    keys = tmp_path / "signing-keys"
    keys.write_text(f"k1:{'s' * 32}\n", "utf-8")
    config = tmp_path / "gateway.toml"
    config.write_text(block.text.replace("/run/secrets/signing-keys", str(keys)), "utf-8")
    return load({}, config)


def test_the_file_of_a_folder_is_an_account(tmp_path: Path) -> None:
    (block,) = blocks("toml", document=SETTINGS, title="A folder of accounts")
    secret = tmp_path / "acme"
    secret.write_text("token")
    text = block.text.replace("/run/secrets/acme", str(secret))
    assert text != block.text
    folder = tmp_path / "accounts"
    folder.mkdir()
    (folder / "acme.toml").write_text(text)
    found = load({"GATEWAY_ACCOUNTS_DIR": str(folder)}, None)
    assert found.folder is not None
    assert found.folder.problems == ()
    assert [account.password.get_secret_value() for account in found.accounts] == ["token"]


def test_the_toml_file_is_one_that_serves(from_toml: Settings) -> None:
    from_toml.require_serving()
    assert [account.provider for account in from_toml.accounts] == [Provider.TWILIO, Provider.SIGNALWIRE]
    assert [(client.id, sorted(client.scopes)) for client in from_toml.clients] == [
        ("backend", ["mint"]),
        ("support", ["mint", "observe"]),
    ]


# --- answers --------------------------------------------------------------------------------------------------


def kinds(root: type[errors.GatewayError]) -> dict[str, int]:
    found = {root.kind: root.status}
    for subclass in root.__subclasses__():
        found.update(kinds(subclass))
    return found


def test_the_table_of_statuses_is_that_of_the_errors() -> None:
    raised = {kind: status for kind, status in kinds(errors.GatewayError).items() if kind not in NEVER_ANSWERED}
    written = {kind: int(status) for status, kind, _ in rows(WEB, "What the browser gets", "status")}
    assert written == raised


def test_the_table_of_claims_is_that_of_the_links() -> None:
    written = {row[0].partition(" ")[0] for row in rows(LINKS, "What a link may claim", "claim")}
    assert written == CLAIM_NAMES | {"ttl"}


def test_the_figures_that_are_explained_are_those_of_the_counters() -> None:
    (block,) = blocks("json", document=TELEMETRY, title="Figures")
    figures = json.loads(block.text)
    counts = {Counter(name): count for name, count in figures["requests"].items()}
    assert set(counts) == set(Counter)
    ratio = hit_ratio(counts)
    assert ratio is not None
    assert figures["hit_ratio"] == round(ratio, 4)
    explained = {name for row in rows(TELEMETRY, "Figures", "key") for name in row[0].split(", ")}
    assert explained == {*figures, *figures["requests"]} - {"requests"}


# --- examples -------------------------------------------------------------------------------------------------


def test_every_block_is_of_a_kind_that_is_checked() -> None:
    assert {block.language for block in all_blocks()} <= KINDS


@pytest.mark.parametrize("block", all_blocks("bash"), ids=str)
def test_shell_examples_are_well_formed(block: Block) -> None:
    shell = shutil.which("sh")
    assert shell is not None
    done = subprocess.run([shell, "-n"], input=block.text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("block", all_blocks("bash"), ids=str)
def test_shell_examples_use_targets_commands_and_files_that_exist(block: Block) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"\bmake (\w+)", block.text):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for command in re.findall(r"\bmedia-gateway (\w+)", block.text):
        assert command in COMMANDS, command
    for path in re.findall(r"\b(?:tests/[\w/]+\.py|\w[\w-]*\.lock)\b", block.text):
        assert (ROOT / path).is_file(), path


@documents
def test_prose_names_targets_and_commands_that_exist(document: Path) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    spans = re.findall(r"`([^`\n]+)`", prose(document))
    targets = {match[1] for span in spans if (match := re.match(r"(?:\w+=\w+ )?make (\w+)", span))}
    commands = {match[1] for span in spans if (match := re.match(r"media-gateway (\w+)", span))}
    assert {target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)} == set()
    assert commands - COMMANDS == set()


@pytest.mark.parametrize("block", all_blocks("json"), ids=str)
def test_json_examples_are_json(block: Block) -> None:
    assert isinstance(json.loads(block.text), dict)


@pytest.mark.parametrize("block", all_blocks("toml"), ids=str)
def test_toml_examples_are_toml(block: Block) -> None:
    assert tomllib.loads(block.text)


@pytest.mark.parametrize("block", all_blocks("yaml"), ids=str)
def test_yaml_examples_are_yaml(block: Block) -> None:
    assert isinstance(yaml.safe_load(block.text), dict)


@pytest.mark.parametrize("block", all_blocks("python"), ids=str)
def test_python_examples_import_what_exists(block: Block) -> None:
    for statement in ast.walk(ast.parse(block.text)):
        if isinstance(statement, ast.ImportFrom) and statement.module == "proxy":
            assert {alias.name for alias in statement.names} <= set(proxy.__all__)


def imported(block: Block) -> set[str]:
    found = (node for node in ast.walk(ast.parse(block.text)) if isinstance(node, ast.ImportFrom))
    return {(node.module or "").partition(".")[0] for node in found}


def test_the_frameworks_examples_are_there() -> None:
    assert set().union(*map(imported, blocks("python", document=LINKS, title="Mint in Python"))) >= FRAMEWORKS


def ran(block: Block) -> dict[str, object]:
    names: dict[str, object] = {}
    exec(compile(block.text, str(block), "exec"), names)
    return names


PLAIN: Final = [
    *blocks("python", title="Mint a link"),
    *(block for block in blocks("python", document=LINKS, title="Mint in Python") if not imported(block) & FRAMEWORKS),
]


def test_the_readme_and_the_guide_show_python() -> None:
    assert len(PLAIN) == 2


@pytest.mark.parametrize("plain", PLAIN, ids=str)
def test_the_python_example_mints_a_link_that_opens_its_media(plain: Block) -> None:
    names = ran(plain)
    minter, url = names["minter"], names["url"]
    assert isinstance(minter, LinkMinter)
    assert isinstance(url, str)
    assert proxy.links.verify(
        url.removeprefix("https://media.example.com"),
        keys=minter.keys,
        policy=minter.policy,
        now=datetime.now(UTC).timestamp(),
        client=None,
    ).claims == proxy.Claims(filename="photo.jpg")


RECIPE: Final = blocks("python", document=LINKS, title="Mint in other languages")
SECRETS: Final = {key["kid"]: key["secret"] for key in VECTORS["keys"]}
ORDER: Final = ("not_before", "ip", "filename", "disposition", "scope")


@pytest.mark.parametrize("vector", VECTORS["links"], ids=lambda vector: vector["name"])
def test_the_recipe_gives_the_links_of_the_test_vectors(vector: dict[str, dict[str, str | int]]) -> None:
    (recipe,) = RECIPE
    asked = vector["input"]
    # The recipe takes identifiers and claims in the form that is signed.
    minted = LinkMinter(str(asked["public_url"]), f"k1:{'s' * 32}").mint(
        MediaRef.parse(str(asked["account_sid"]), str(asked["message_sid"]), str(asked["media_sid"]))
    )
    claims = {name: asked[name] for name in ORDER if name in asked and (name, asked[name]) != ("scope", "media")}
    if "ip" in claims:
        claims["ip"] = str(proxy.Claims.parse(ip=str(claims["ip"])).ip)
    mint = ran(recipe)["mint"]
    assert callable(mint)
    url = mint(
        str(asked["public_url"]).rstrip("/"), asked["key"], SECRETS[str(asked["key"])], str(minted.ref), asked["now"],
        asked["ttl"], **claims,
    )  # fmt: skip
    assert url == vector["url"]


def test_the_answer_to_a_mint_is_the_first_test_vector() -> None:
    (block,) = blocks("json", document=WEB, title="Mint by HTTP")
    (link,) = json.loads(block.text)["links"]
    (plain,) = (vector for vector in VECTORS["links"] if vector["name"] == "plain")
    times = (
        datetime.fromtimestamp(plain[name], UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for name in ("expires_at", "refresh_at")
    )
    assert link == {
        "url": plain["url"],
        **dict(zip(("expires_at", "refresh_at"), times, strict=True)),
        **{name: plain["input"][name] for name in ("account_sid", "message_sid", "media_sid")},
        "content_type": "image/jpeg",
    }


def test_the_policy_that_is_named_is_the_default_one() -> None:
    assert "LinkPolicy(300, 86400, 60)" in prose(LINKS)
    assert LinkPolicy(300, 86400, 60) == LinkPolicy()


# --- the front page -------------------------------------------------------------------------------------------


def test_the_readme_can_be_read_in_five_minutes() -> None:
    assert README.stat().st_size <= 12_000


def test_pictures_are_small() -> None:
    pictures = [README.parent / target for target in links(README) if target.endswith((".png", ".svg"))]
    assert len(pictures) == 2
    assert max(picture.stat().st_size for picture in pictures) < 200_000


# --- links ----------------------------------------------------------------------------------------------------


def anchor(title: str) -> str:
    """Return a title's anchor as the usual hosts make it: lower case, spaces to hyphens, other marks dropped."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def leads_somewhere(document: Path, target: str) -> bool:
    """Return whether a relative link of the document names a file, and a section of it if it has an anchor."""
    path, _, wanted = target.partition("#")
    file = document.parent / path if path else document
    return file.exists() and (not wanted or wanted in {anchor(title) for title in headings(file)})


@documents
def test_links_lead_to_files_and_sections_that_exist(document: Path) -> None:
    local = {target for target in links(document) if "://" not in target}
    assert {target for target in local if not leads_somewhere(document, target)} == set()


@pytest.mark.parametrize("target", ["NONE.md", "CHANGELOG.md#none", "#none"])
def test_a_link_to_nothing_is_found(target: str) -> None:
    assert leads_somewhere(README, "CHANGELOG.md#changelog")
    assert not leads_somewhere(README, target)


@pytest.mark.parametrize("document", sorted({*DOCUMENTS} - {README}), ids=name_of)
def test_every_document_is_reached_from_the_readme(document: Path) -> None:
    reached, ahead = set[Path](), [README]
    while ahead:
        reached.add(ahead[-1])
        here = ahead.pop()
        targets = (here.parent / target.partition("#")[0] for target in links(here) if "://" not in target)
        ahead += [path for target in targets if (path := target.resolve()) in DOCUMENTS and path not in reached]
    assert document in reached


def pages(entry: object) -> set[str]:
    """Return the documents in the navigation of the site, whose sections hold further ones."""
    match entry:
        case str():
            return {entry}
        case dict():
            return set().union(*map(pages, entry.values()))
        case list():
            return set().union(*map(pages, entry))
    raise TypeError(entry)


def test_the_site_has_a_page_for_every_document() -> None:
    site = tomllib.loads((ROOT / "deploy/site/zensical.toml").read_text("utf-8"))
    assert pages(site["project"]["nav"]) == {name_of(document) for document in DOCUMENTS}


@documents
def test_documents_hold_to_the_words(document: Path) -> None:
    text = " ".join(prose(document).split())
    assert {name for name, phrase in PHRASES.items() if phrase.search(text)} == set()


@documents
def test_documents_hold_no_address_of_a_person(document: Path) -> None:
    assert not re.search(r"[\w.+-]+@(?:[\w-]+\.)+[A-Za-z]{2,}", document.read_text("utf-8"))
