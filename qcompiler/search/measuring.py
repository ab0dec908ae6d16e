"""Measuring one plan: a lowering, a session, some samples, a clock. What is found out goes into a journal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from typing import Any

from qcompiler.data import Dataset
from qcompiler.errors import OutputError, QCompilerError
from qcompiler.ir import Model
from qcompiler.lower import Form, Group, Target
from qcompiler.onnx_io import needs_external_data
from qcompiler.runtime import Runner, interleaved
from qcompiler.search.candidate import Candidate
from qcompiler.search.elsewhere import Judges, Verdict
from qcompiler.search.journal import Journal, plan_key
from qcompiler.search.profile import GroupTimes, estimated, group_times
from qcompiler.search.quality import OutputQuality, Quality

__all__ = ["Bench"]

_KEPT_OUTPUTS = 256 << 20  # bytes of the float model's outputs that are kept rather than computed again

Plan = Mapping[Group, Form]


class Bench:
    """The float model on ``samples``, and any plan beside it."""

    def __init__(
        self,
        model: Model,
        target: Target,
        samples: Dataset,
        threads: int,
        journal: Journal,
        executor: Executor | None = None,
    ) -> None:
        self.model, self.target, self.samples, self.threads, self.journal = model, target, samples, threads, journal
        self.source: Runner = target.open(model, threads)
        self.first = next(iter(samples))
        self._expected: list[Mapping[str, Any]] | None = None
        self._judges: Judges | None = None
        if executor is not None and not needs_external_data(model):  # more than fits into one message
            self._judges = Judges(executor, model, target, threads, samples)
        else:
            self._expected = _remembered(self.source, samples)

    def decibels(self, plan: Plan, indices: Sequence[int]) -> tuple[float, str]:
        """The worst output's with ``plan`` over some samples, or -inf and why it does not run."""
        name = f"decibels {plan_key(plan, indices)}"
        if (known := self.journal.get(name)) is not None:
            return float(known[0]), str(known[1])
        try:
            lowered = self.target.lower(self.model, plan)
            verdict = self._verdict(lowered, None, indices)
        except OutputError:
            raise
        except QCompilerError as error:
            verdict = error.what
        return self._noted(name, verdict)

    def decibels_of_each(self, plans: Sequence[Plan], indices: Sequence[int]) -> Iterator[tuple[float, str]]:
        """:meth:`decibels` of each of ``plans``, in their order, one at a time or by as many as there are workers."""
        if self._judges is None:
            yield from (self.decibels(plan, indices) for plan in plans)
            return
        names = [f"decibels {plan_key(plan, indices)}" for plan in plans]
        unknown = [plan for plan, name in zip(plans, names, strict=True) if self.journal.get(name) is None]
        verdicts = self._judges.each(map(self._lowered, unknown), indices)
        for name in names:
            known = self.journal.get(name)
            yield self._noted(name, next(verdicts)) if known is None else (float(known[0]), str(known[1]))

    def _lowered(self, plan: Plan) -> Model | str:
        """The model with ``plan``, or why there is none."""
        try:
            return self.target.lower(self.model, plan)
        except OutputError:
            raise
        except QCompilerError as error:
            return error.what

    def _noted(self, name: str, verdict: Verdict) -> tuple[float, str]:
        found, problem = (-math.inf, verdict) if isinstance(verdict, str) else (_sum(verdict).sqnr_db, "")
        self.journal.put(name, [str(found), problem])
        return found, problem

    def candidate(self, name: str, plan: dict[Group, Form]) -> Candidate:
        """The whole model with ``plan``, judged on all samples and timed beside the float one.

        One that cannot be lowered, loaded or run has no outputs, the float model for its own, and says ``why``.
        """
        record = f"whole {plan_key(plan)}"
        known = self.journal.get(record)
        if known is not None and "problem" in known:
            return Candidate(name, plan, self.model, Quality(), math.nan, known["problem"])
        try:
            lowered = self.target.lower(self.model, plan)
            if known is not None:
                return Candidate(name, plan, lowered, _quality_of(known["quality"]), known["speedup"])
            session = self.target.open(lowered, self.threads)
            verdict = self._verdict(lowered, session, range(len(self.samples)))
        except OutputError:
            raise
        except QCompilerError as error:
            self.journal.put(record, {"problem": error.what})
            return Candidate(name, plan, self.model, Quality(), math.nan, error.what)
        if isinstance(verdict, str):
            self.journal.put(record, {"problem": verdict})
            return Candidate(name, plan, self.model, Quality(), math.nan, verdict)
        quality = _sum(verdict)
        speedup = self._speedup(lowered, session)
        self.journal.put(record, {"quality": asdict(quality), "speedup": speedup})
        return Candidate(name, plan, lowered, quality, speedup)

    def _speedup(self, lowered: Model, session: Runner) -> float:
        """Of ``lowered`` over the float model: measured, or by the target's estimate."""
        seconds = estimated(self.target, self.model, lowered)
        if seconds is not None:
            return seconds[0] / seconds[1]
        source, compiled = interleaved([self.source, session], self.first, seconds=1.5)
        return source.least / compiled.least

    def float_times(self, groups: Sequence[Group]) -> GroupTimes:
        """Microseconds of each group in the float model."""
        return self._times("float", self.model, groups)

    def quantized_times(self, candidate: Candidate, groups: Sequence[Group]) -> GroupTimes:
        """Microseconds of each of ``groups`` in a candidate."""
        return self._times(plan_key(candidate.plan), candidate.model, groups)

    def _times(self, name: str, model: Model, groups: Sequence[Group]) -> GroupTimes:
        names = {group: f"{group.name} {group.output.name}" for group in groups}
        known: dict[str, Any] = self.journal.get(f"times {name}") or {}
        if not known.keys() >= set(names.values()):
            found = group_times(self.target, model, groups, self.first, runs=20, threads=self.threads)
            known = known | {label: found.get(group) for group, label in names.items()}
            self.journal.put(f"times {name}", known)
        return {group: (known[label][0], known[label][1]) for group, label in names.items() if known[label] is not None}

    def _verdict(self, lowered: Model, session: Runner | None, indices: Sequence[int]) -> Verdict:
        """The quality of each sample; ``session`` is that of ``lowered``, if there is one already."""
        if self._judges is not None:
            return self._judges.whole(lowered, indices)
        session = session or self.target.open(lowered, self.threads)
        found = []
        for index, sample in zip(indices, self.samples.walk(indices), strict=True):
            expected = self._expected[index] if self._expected is not None else self.source.run(sample)
            quality = Quality()
            quality.add(expected, session.run(sample))
            found.append(quality)
        return found


def _sum(qualities: Iterable[Quality]) -> Quality:
    total = Quality()
    for quality in qualities:
        total.merge(quality)
    return total


def _quality_of(record: Mapping[str, Any]) -> Quality:
    outputs = {name: OutputQuality(**item) for name, item in record["outputs"].items()}
    return Quality(**{**record, "outputs": outputs})


def _remembered(session: Runner, samples: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]] | None:
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
