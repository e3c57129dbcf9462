"""`purge` and `stats`: what is stored in the cache folder, whether a gateway runs on it or not."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import click

from proxy.cache.counters import Counter, Statistics, hit_ratio
from proxy.cache.disk.index_file import has_index
from proxy.cache.disk.responses_table import Usage
from proxy.cache.disk.visitor import visiting
from proxy.cli.configuration import config_option, load_settings
from proxy.cli.failures import fail, plain_errors
from proxy.erasure import Reach
from proxy.errors import IdentifierError, SettingsError, StoreError
from proxy.model import AccountSid, MediaRef, MediaSid, MessageRef, MessageSid
from proxy.settings import Settings, problem_of

Sid = TypeVar("Sid", AccountSid, MessageSid, MediaSid)

_MEANINGS: Final = {
    Counter.RAM_HITS: "hits from RAM",
    Counter.DISK_HITS: "hits from disk",
    Counter.SHARED_HITS: "hits from the shared tier",
    Counter.STALE: "served stale",
    Counter.VALIDATED: "validated (304)",
    Counter.MISSES: "fetched (200)",
    Counter.COLLAPSED: "shared a fetch",
    Counter.NEGATIVE_HITS: "remembered 404s",
    Counter.NOT_FOUND: "not found",
    Counter.ERRORS: "errors",
}


@click.command("purge")
@config_option
@click.option(
    "--account", metavar="SID", help="Erase all media of this account, or only those that the next two options name."
)
@click.option("--message", metavar="SID", help="Erase all media of this message; needs --account.")
@click.option("--media", metavar="SID", help="Erase this media; needs --account and --message.")
@click.option("--all", "everything", is_flag=True, help="Erase everything that is stored.")
@click.option("--dry-run", is_flag=True, help="Say how many responses would be erased, and change nothing.")
@plain_errors
def purge_command(
    config: Path | None,
    account: str | None,
    message: str | None,
    media: str | None,
    everything: bool,  # noqa: FBT001 - click passes a flag by name
    dry_run: bool,  # noqa: FBT001
) -> None:
    """Erase stored responses from every tier, also in gateways that run on the cache folder or share a tier.

    Nothing else is removed, whatever the value of GATEWAY_CACHE_BYTES is here.
    """
    erased = _erased(account, message, media, everything=everything)
    settings = load_settings(config)
    folder, shared = settings.cache_dir, settings.shared_cache
    problem = problem_of(shared)
    if problem is not None:
        raise SettingsError([problem])
    stores = has_index(folder)
    if not stores and shared is None:
        fail(f"{folder}, which GATEWAY_CACHE_DIR names, is not a cache folder")
    places: list[str] = []
    try:
        for place, count in _erase(settings, Reach.of(erased), stores=stores, dry_run=dry_run):
            places.insert(0, f"{place} ({count} stored response{'' if count == 1 else 's'})")
    except StoreError as error:
        alone = f"erased from {places[0]} alone" if places and not dry_run else "nothing was erased"
        fail(f"{alone}: {error.note}")
    click.echo(f"{'Would erase' if dry_run else 'Erased'} {_named(erased)} from {' and '.join(places)}")


def _erased(
    account: str | None, message: str | None, media: str | None, *, everything: bool
) -> AccountSid | MessageRef | MediaRef | None:
    """Return what the options name, None for everything. Raises `click.UsageError`."""
    if everything == (account is not None):
        raise click.UsageError("Give either --account or --all.")
    if everything and (message is not None or media is not None):
        raise click.UsageError("--all stands alone.")
    if account is None:
        return None
    if media is not None and message is None:
        raise click.UsageError("--media needs --message.")
    owner = _parsed("--account", AccountSid, account)
    if message is None:
        return owner
    sent = _parsed("--message", MessageSid, message)
    sid = None if media is None else _parsed("--media", MediaSid, media)
    try:
        return MessageRef(owner, sent) if sid is None else MediaRef(owner, sent, sid)
    except IdentifierError as error:
        raise click.UsageError(f"The reference {error.detail}.") from error


def _parsed(option: str, kind: type[Sid], text: str) -> Sid:
    try:
        return kind.parse(text)
    except IdentifierError as error:
        raise click.UsageError(f"{option} {error.detail}.") from error


def _named(erased: AccountSid | MessageRef | MediaRef | None) -> str:
    match erased:
        case None:
            return "everything"
        case AccountSid():
            return f"all media of account {erased}"
        case MessageRef():
            return f"all media of message {erased}"
        case MediaRef():
            return f"media {erased}"


def _erase(settings: Settings, reach: Reach, *, stores: bool, dry_run: bool) -> Iterator[tuple[str, int]]:
    """Erase, or with `dry_run` count, first in the shared tier and then, if it `stores`, in the cache folder.

    Yields each place with the number of its stored responses.
    """
    server = settings.shared_server
    if settings.shared_cache is not None and server is not None:
        from proxy.cache.redis.store import count_shared, erase_shared

        work, seconds = count_shared if dry_run else erase_shared, settings.limits.shared_seconds
        yield settings.shared_cache.place, asyncio.run(work(server, reach.prefix, time.time, seconds=seconds))
    if stores:
        with visiting(settings.cache_dir, time.time) as folder:
            yield str(settings.cache_dir), folder.count(reach.prefix) if dry_run else folder.erase(reach.prefix)


@dataclass(frozen=True, slots=True)
class _Report:
    """Figures of what is stored; the folder may take `bound` bytes, and the RAM of a worker `ram_bound`."""

    bound: int
    ram_bound: int
    usage: Usage
    statistics: Statistics


@click.command("stats")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of a table.")
@plain_errors
def stats_command(config: Path | None, as_json: bool) -> None:  # noqa: FBT001 - click passes a flag by name
    """Print what is stored, per tier, and how requests for media have ended since the cache folder was made."""
    settings = load_settings(config)
    try:
        report = _read(settings)
    except StoreError as error:
        fail(f"the cache folder cannot be read: {error.note}")
    click.echo(json.dumps(_document(report), indent=2) if as_json else "\n".join(_lines(report)))


def _read(settings: Settings) -> _Report:
    """Read the index of the folder; nothing is stored if there is none. Raises `StoreError`."""
    bound, ram_bound = settings.cache_bytes, settings.memory_bytes
    if not has_index(settings.cache_dir):
        return _Report(bound, ram_bound, Usage(0, 0), Statistics({}, {}))
    with visiting(settings.cache_dir, time.time) as folder:
        return _Report(folder.bound() or bound, ram_bound, folder.usage(), folder.statistics())


def _document(report: _Report) -> dict[str, object]:
    statistics, ram = report.statistics, report.statistics.ram
    return {
        "disk": {
            "entries": report.usage.entries,
            "bytes": report.usage.footprint,
            "max_bytes": report.bound,
        },
        "ram": {
            "entries": ram.entries,
            "bytes": ram.bytes,
            "max_bytes": report.ram_bound,
            "workers": [
                {"worker": run, "entries": usage.entries, "bytes": usage.bytes}
                for run, usage in statistics.workers.items()
            ],
        },
        "requests": {counter.value: statistics.counts.get(counter, 0) for counter in Counter},
        "hit_ratio": hit_ratio(statistics.counts),
    }


def _lines(report: _Report) -> list[str]:
    statistics = report.statistics
    tiers = [
        ("tier", "entries", "bytes", "at most"),
        ("disk", f"{report.usage.entries:,}", f"{report.usage.footprint:,}", f"{report.bound:,}"),
        *(
            (f"RAM {run}", f"{usage.entries:,}", f"{usage.bytes:,}", f"{report.ram_bound:,}")
            for run, usage in statistics.workers.items()
        ),
    ]
    ratio = hit_ratio(statistics.counts)
    requests = [
        ("requests", ""),
        *((_MEANINGS[counter], f"{statistics.counts.get(counter, 0):,}") for counter in Counter),
        ("hit ratio", "-" if ratio is None else f"{ratio:.1%}"),
    ]
    return [*_aligned(tiers), "", *_aligned(requests)]


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Align the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in rows
    ]
