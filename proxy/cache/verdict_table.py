"""Verdicts in RAM, bounded: those of a process that has no folder, and what a worker knows of its folder's."""

from __future__ import annotations

from proxy.cache.verdict_log import KEPT, KINDS, Verdict, Verdicts
from proxy.erasure import Standing, prefixes
from proxy.errors import StoreError


class VerdictTable:
    """At most `KEPT` verdicts of each kind, the oldest first. Times are Unix seconds."""

    def __init__(self) -> None:
        self._until: dict[Standing, dict[str, float]] = {kind: {} for kind in KINDS}

    def standing(self, key: str, now: float) -> Standing:
        """What holds of a key."""
        standing = Standing.OPEN
        for kind, held in self._until.items():
            if held and any(held.get(prefix, 0.0) > now for prefix in prefixes(key)):
                standing |= kind
        return standing

    def held_until(self, kind: Standing, prefix: str) -> float | None:
        """Return until when a verdict was given on exactly that prefix, which may be past; None where there is none."""
        return self._until[kind].get(prefix)

    def judge(self, verdict: Verdict, now: float) -> None:
        """Let a verdict hold; one that holds already is prolonged, and never shortened.

        Raises `StoreError` where there are too many revocations.
        """
        held = self._until[verdict.kind]
        before = held.get(verdict.prefix)
        if verdict.kind is Standing.REVOKED and before is None:
            self._forget_ended(verdict.kind, now, room=1)
            if len(held) >= KEPT:
                raise StoreError(note=f"{KEPT} revocations hold, and no more are taken")
        until = verdict.until if before is None else max(before, verdict.until)
        self._put(Verdict(verdict.kind, verdict.prefix, until), now)

    def lift(self, kind: Standing, prefix: str, until: float | None = None) -> None:
        """End the verdicts of that kind on every key that begins with `prefix`; with `until` those that end by then."""
        held = self._until[kind]
        for covered, end in list(held.items()):
            if covered.startswith(prefix) and (until is None or end <= until):
                del held[covered]

    def follow(self, verdicts: Verdicts, now: float) -> None:
        """Take over what is new elsewhere, and what has ended there."""
        if verdicts.whole:
            self._until = {kind: {} for kind in KINDS}
        for verdict in verdicts.found:
            self._put(verdict, now)

    def verdicts(self) -> tuple[Verdict, ...]:
        """All that are held."""
        return tuple(Verdict(kind, prefix, until) for kind in KINDS for prefix, until in self._until[kind].items())

    def _put(self, verdict: Verdict, now: float) -> None:
        held = self._until[verdict.kind]
        held.pop(verdict.prefix, None)
        if verdict.until <= now:
            return
        self._forget_ended(verdict.kind, now, room=1)
        if len(held) >= KEPT:
            del held[next(iter(held))]
        held[verdict.prefix] = verdict.until

    def _forget_ended(self, kind: Standing, now: float, *, room: int) -> None:
        """Where there is no room for so many more."""
        held = self._until[kind]
        if len(held) + room > KEPT:
            for prefix in [prefix for prefix, until in held.items() if until <= now]:
                del held[prefix]
