"""Which groups run in integers: everything that may, then back to float with what costs too much accuracy, then with
what does not pay. Every candidate is the whole model, measured; the first one is the float model itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qcompiler.data import Dataset
from qcompiler.errors import QCompilerError
from qcompiler.ir import Model
from qcompiler.lower import INTEGER_OPS, Group, Target
from qcompiler.onnx_io import open_session
from qcompiler.runtime import Session
from qcompiler.search.latency import interleaved
from qcompiler.search.profile import GroupTimes, profile_groups
from qcompiler.search.quality import Quality

__all__ = ["Candidate", "Choice", "Limits", "choose"]

_KEPT_OUTPUTS = 256 << 20  # bytes of the float model's outputs that are kept rather than computed again
_PROBES = 8  # samples on which single groups are judged
_ROUNDS = 3  # of sending back what does not pay
_NOISE = 1.01  # a gain below this may be the clock's
_PAYS = 0.9  # an integer op has to be at least this much faster by itself, since its borders cost too


@dataclass(frozen=True)
class Limits:
    """What the result has to keep: decibels of the worst output, and time of the source over its own.

    With ``min_speedup`` 0 size is the goal: no group goes back to float for its time.
    """

    min_sqnr: float
    min_speedup: float


@dataclass
class Candidate:
    """One choice of groups, lowered and measured. ``speedup`` is against the model without any of them."""

    name: str
    groups: list[Group]
    model: Model
    quality: Quality
    speedup: float
    why: str = ""
    kept: bool = False


@dataclass
class Choice:
    """The best candidate; None when the float model is. ``reasons`` tell why a group is float, by its anchor's name."""

    best: Candidate | None
    reason: str
    tried: list[Candidate] = field(default_factory=list)
    reasons: dict[Group, str] = field(default_factory=dict)
    sensitivity: dict[Group, float] = field(default_factory=dict)


def choose(
    model: Model,
    groups: Sequence[Group],
    target: Target,
    probes: Dataset,
    limits: Limits,
    *,
    threads: int = 1,
    progress: Callable[[str], None] = lambda _: None,
) -> Choice:
    """The fastest form of ``model`` that keeps ``limits``, judged on ``probes``; with ``min_speedup`` 0 the smallest.

    Time: one lowering, loading and run over the samples for each candidate, of which there are about 2 log(groups),
    and one over a few samples for each group if the first candidate is not accurate enough.
    """
    return _Chooser(model, list(groups), target, probes, limits, threads, progress).run()


class _Chooser:
    def __init__(
        self,
        model: Model,
        groups: list[Group],
        target: Target,
        probes: Dataset,
        limits: Limits,
        threads: int,
        progress: Callable[[str], None],
    ) -> None:
        self.model, self.groups, self.target, self.limits = model, groups, target, limits
        self.threads, self.progress = threads, progress
        self.samples = probes
        self.source = open_session(model, threads=threads)
        self.kept: list[Mapping[str, Any]] | None = _remembered(self.source, probes)
        self.first = next(iter(probes))
        self.choice = Choice(None, "")

    def run(self) -> Choice:
        if not self.groups:
            self.choice.reason = "nothing in it can run in integers on this target"
            return self.choice
        best = self._accurate()
        if best is not None and self.limits.min_speedup > 0:
            best = self._paying(best)
        if best is None:
            self.choice.reason = f"no choice of integer groups keeps {self.limits.min_sqnr:g} dB"
        elif best.speedup < self.limits.min_speedup:
            wanted = f"below {self.limits.min_speedup:g}"
            self.choice.reason = f"the integer model runs at {best.speedup:.2f} x the float model's speed, {wanted}"
        else:
            self.choice.best = best
            best.kept = True
            count = len(best.groups)
            self.choice.reason = f"{count} of {len(self.groups)} groups run in integers, {best.speedup:.2f} x faster"
        return self.choice

    def _accurate(self) -> Candidate | None:
        """The candidate with the most integer groups that keeps the accuracy."""
        everything = self._measure("all groups", self.groups)
        if everything is not None and self._good(everything):
            return everything
        order = self._by_sensitivity()
        size, last_bad, best = 1, 0, None
        while best is None and size < len(order):
            candidate = self._without(order, size)
            if candidate is not None and self._good(candidate):
                best = candidate
            else:
                last_bad, size = size, size * 2 if size * 2 < len(order) or size == len(order) - 1 else len(order) - 1
        if best is None:
            return None
        good = size
        while good - last_bad > max(1, good // 8):
            middle = (good + last_bad) // 2
            candidate = self._without(order, middle)
            if candidate is not None and self._good(candidate):
                best, good = candidate, middle
            else:
                last_bad = middle
        for group in order[:good]:
            self.choice.reasons.setdefault(group, "")
            self.choice.reasons[group] = (
                self.choice.reasons[group] or f"too sensitive: alone it leaves {self.choice.sensitivity[group]:.1f} dB"
            )
        return best

    def _paying(self, best: Candidate) -> Candidate:
        """``best`` without the groups whose integer form is slower than their float form, as long as that helps."""
        runs = 20
        floats, _ = profile_groups(self.model, self.groups, self.first, runs=runs, threads=self.threads)
        for _ in range(_ROUNDS):
            self.progress("timing single operators")
            integers, _ = profile_groups(best.model, best.groups, self.first, runs=runs, threads=self.threads)
            slow = [group for group in best.groups if _costs(group, floats, integers)]
            if not slow or len(slow) == len(best.groups):
                break
            rest = [group for group in best.groups if group not in slow]
            candidate = self._measure(f"without {len(slow)} that do not pay", rest)
            if candidate is None or not self._good(candidate) or candidate.speedup < best.speedup * _NOISE:
                break
            for group in slow:
                self.choice.reasons[group] = _costs(group, floats, integers)
            best = candidate
        return best

    def _without(self, order: list[Group], count: int) -> Candidate | None:
        """The candidate without the ``count`` most sensitive groups."""
        dropped = set(order[:count])
        kept = [group for group in self.groups if group not in dropped]
        return self._measure(f"without the {count} most sensitive", kept) if kept else None

    def _by_sensitivity(self) -> list[Group]:
        """Groups in order of the error that each makes alone at the outputs, worst first."""
        samples = self.samples.subset(range(min(_PROBES, len(self.samples))))
        for i, group in enumerate(self.groups):
            self.progress(f"sensitivity of group {i + 1} of {len(self.groups)}")
            try:
                session = open_session(self.target.lower(self.model, [group]), threads=self.threads)
                self.choice.sensitivity[group] = self._quality(session, samples).sqnr_db
            except QCompilerError as error:
                self.choice.sensitivity[group] = -math.inf
                self.choice.reasons[group] = error.what
        return sorted(self.groups, key=lambda group: self.choice.sensitivity[group])

    def _measure(self, name: str, groups: list[Group]) -> Candidate | None:
        self.progress(f"measuring the model: {name}")
        try:
            lowered = self.target.lower(self.model, groups)
            session = open_session(lowered, threads=self.threads)
            quality = self._quality(session, self.samples)
        except QCompilerError as error:
            self.choice.tried.append(Candidate(name, groups, self.model, Quality(), math.nan, error.what))
            return None
        source, compiled = interleaved([self.source, session], self.first, seconds=1.5)
        candidate = Candidate(name, groups, lowered, quality, source.least / compiled.least)
        if not self._good(candidate):
            candidate.why = f"{quality.sqnr_db:.1f} dB is below {self.limits.min_sqnr:g}"
        self.choice.tried.append(candidate)
        return candidate

    def _quality(self, session: Session, samples: Dataset) -> Quality:
        quality = Quality()
        for index, sample in enumerate(samples):
            expected = self.kept[index] if self.kept is not None else self.source.run(sample)
            quality.add(expected, session.run(sample))
        return quality

    def _good(self, candidate: Candidate) -> bool:
        worst = candidate.quality.sqnr_db
        return worst >= self.limits.min_sqnr and worst > -math.inf


def _costs(group: Group, floats: GroupTimes, integers: GroupTimes) -> str:
    """Why the integer form of ``group`` does not pay by itself; empty when it does or cannot be told."""
    if group not in integers or group not in floats:
        return ""
    (kind, ours), (_, theirs) = integers[group], floats[group]
    if kind not in INTEGER_OPS:
        return f"onnxruntime runs it as {kind} all the same"
    return f"does not pay: {ours:.0f} us in integers, {theirs:.0f} us in float" if ours > theirs * _PAYS else ""


def _remembered(session: Session, samples: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]] | None:
    """The outputs on every sample, or None when they are too large to keep."""
    kept: list[Mapping[str, Any]] = []
    size = 0
    for sample in samples:
        outputs = session.run(sample)
        size += sum(getattr(array, "nbytes", 0) for array in outputs.values())
        if size > _KEPT_OUTPUTS:
            return None
        kept.append(outputs)
    return kept
