"""Which groups are quantized, and in which form. Every candidate is the whole model, measured.

Everything in its first form comes first. Where that is too inexact, each group is judged alone; then, if size is the
goal, the worst go back to float, else groups join in the order of time gained for noise made. Errors do not add, so
that the order only proposes: what joins has been measured together with all that joined before it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor

from qcompiler.data import Dataset
from qcompiler.ir import Model
from qcompiler.lower import INTEGER_OPS, WEIGHTS, Form, Group, Target
from qcompiler.progress import Step
from qcompiler.search.candidate import Candidate, Choice, Limits
from qcompiler.search.journal import Journal
from qcompiler.search.measuring import Bench
from qcompiler.search.profile import GroupTimes

__all__ = ["choose", "sensitivities"]

_PROBES = 8  # samples on which single groups are judged
_TRIALS = 64  # samples on which it is judged whether more groups may join
_ROUNDS = 3  # of sending back what does not pay
_NOISE = 1.01  # a gain below this may be the clock's
_FOR_SIZE = 1.03  # of the time may go for weights of a quarter of the bytes
_PAYS = 0.9  # an integer op has to be at least this much faster by itself, since its borders cost too
_SHARES = (0.75, 0.5, 0.33, 0.2, 0.1)  # of the groups that may be quantized: the ones that gain most

Plan = dict[Group, Form]


def choose(
    model: Model,
    forms: Mapping[Group, Sequence[Form]],
    target: Target,
    probes: Dataset,
    limits: Limits,
    *,
    threads: int = 1,
    budget: float = math.inf,
    journal: Journal | None = None,
    executor: Executor | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Choice:
    """The fastest form of ``model`` that keeps ``limits``, judged on ``probes``; with ``min_speedup`` 0 the smallest.

    ``forms`` are those of each group, the preferred one first. After ``budget`` seconds nothing new is tried and the
    best so far is taken. ``executor`` judges candidates elsewhere; all are timed here. What ``journal`` knows already
    is not measured again. Time: one lowering, loading and run over some samples for each candidate: one a group if the
    first is not accurate enough, then about two for each group that cannot join and log(groups) for those that can.
    """
    bench = Bench(model, target, probes, threads, journal or Journal(), executor)
    return _Chooser(bench, forms, limits, time.perf_counter() + budget, progress).run()


def sensitivities(
    model: Model,
    forms: Mapping[Group, Sequence[Form]],
    target: Target,
    probes: Dataset,
    *,
    threads: int = 1,
    executor: Executor | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Choice:
    """A choice of nothing: its ``sensitivity`` is each group's over ``probes``, its ``reasons`` where one fails."""
    bench = Bench(model, target, probes, threads, Journal(), executor)
    chooser = _Chooser(bench, forms, Limits(-math.inf, 0.0), math.inf, progress)
    chooser.sensitivity_probes = len(probes)
    chooser.judge_alone()
    return chooser.choice


class _Chooser:
    def __init__(
        self,
        bench: Bench,
        forms: Mapping[Group, Sequence[Form]],
        limits: Limits,
        deadline: float,
        progress: Callable[[str], None],
    ) -> None:
        self.bench, self.forms, self.limits = bench, forms, limits
        self.deadline, self.progress = deadline, progress
        self.count = len(bench.samples)
        trials = min(_TRIALS, self.count)
        self.trials = [index * self.count // trials for index in range(trials)]
        self.choice = Choice(None, "")
        self.sensitivity_probes = _PROBES
        self.standing: Candidate | None = None  # the best so far

    def run(self) -> Choice:
        if not self.forms:
            self.choice.reason = "nothing in it can be quantized on this target"
            return self.choice
        everything = self._measure("all groups", {group: forms[0] for group, forms in self.forms.items()})
        if self.limits.min_speedup <= 0:
            best = everything if self._good(everything) else self._smallest()
        else:
            best = self._fastest(everything)
        if best is None:
            self.choice.reason = f"no choice of quantized groups keeps {self.limits.min_sqnr:g} dB"
        elif best.speedup < self.limits.min_speedup:
            wanted = f"below {self.limits.min_speedup:g}"
            self.choice.reason = f"the quantized model runs at {best.speedup:.2f} x the float model's speed, {wanted}"
        else:
            self.choice.best = best
            best.kept = True
            of = f"{len(best.plan)} of {len(self.forms)}"
            self.choice.reason = f"{of} groups are quantized, {best.speedup:.2f} x the float model's speed"
        return self.choice

    # Size is the goal

    def _smallest(self) -> Candidate | None:
        """The candidate with the most groups that keeps the accuracy: without the most sensitive, as few as can be."""
        order = sorted(self.forms, key=self.judge_alone().__getitem__)
        size, last_bad, best = 1, 0, None
        while best is None and size < len(order) and not self._late():
            candidate = self._without(order, size)
            if self._good(candidate):
                best = candidate
            else:
                last_bad, size = size, size * 2 if size * 2 < len(order) or size == len(order) - 1 else len(order) - 1
        if best is None:
            return None
        good = size
        while good - last_bad > max(1, good // 8) and not self._late():
            middle = (good + last_bad) // 2
            candidate = self._without(order, middle)
            if candidate is not None and self._good(candidate):
                best, good = candidate, middle
            else:
                last_bad = middle
        for group in order[:good]:
            alone = f"too sensitive: alone it leaves {self.choice.sensitivity[group]:.1f} dB"
            self.choice.reasons[group] = self.choice.reasons.get(group) or alone
        return best

    def _without(self, order: Sequence[Group], count: int) -> Candidate | None:
        """The candidate without the ``count`` most sensitive groups."""
        plan = {group: self.forms[group][0] for group in self.forms if group not in set(order[:count])}
        return self._measure(f"without the {count} most sensitive", plan)

    # Time is the goal

    def _fastest(self, everything: Candidate | None) -> Candidate | None:
        """The fastest candidate that keeps the accuracy, among those that the estimates propose."""
        floats = self.bench.float_times(list(self.forms))
        gains = self._gains(everything, floats)
        best = everything if self._good(everything) else self._joined(gains)
        if best is None:
            return None
        best = self._most_gaining(best, gains)
        return self._smaller(self._paying(best, floats))

    def _gains(self, everything: Candidate | None, floats: GroupTimes) -> dict[Group, float]:
        """Microseconds that each group gains in the place where it stands when all are quantized."""
        if everything is None:
            return {group: floats.get(group, ("", 1.0))[1] for group in self.forms}
        groups = list(self.forms)
        integers = self.bench.quantized_times(everything, groups)
        gains = {}
        for group in groups:
            both = group in floats and group in integers
            gains[group] = floats[group][1] - integers[group][1] if both else 1.0
        return gains

    def _joined(self, gains: Mapping[Group, float]) -> Candidate | None:
        """Groups join, many at once where all fit, as long as the whole keeps the accuracy."""
        sensitivity = self.judge_alone()
        noise = {
            group: 10 ** (-decibels / 10) if decibels < math.inf else 1e-30 for group, decibels in sensitivity.items()
        }
        able = [group for group in self.forms if gains[group] > 0 and sensitivity[group] > -math.inf]
        for group in self.forms:
            if gains[group] <= 0:
                slower = f"does not pay: {-gains[group]:.0f} us more in integers than in float"
                self.choice.reasons.setdefault(group, slower)
        order = sorted(able, key=lambda group: -gains[group] / noise[group])
        # Where not every sample is looked at, one that is not may lie a little lower.
        bar = self.limits.min_sqnr + (0.2 if len(self.trials) < self.count else 0.0)
        plan: Plan = {}
        # Where there are other forms, weights alone gain no time; they get their turn when time has decided.
        other = any(form.kind != WEIGHTS for forms in self.forms.values() for form in forms)
        for rank in range(max(len(forms) for forms in self.forms.values())):
            wanted = [
                (group, self.forms[group][rank])
                for group in order
                if group not in plan and rank < len(self.forms[group])
                if not other or self.forms[group][rank].kind != WEIGHTS
            ]
            self._join(plan, wanted, bar)
        while plan:
            candidate = self._measure(f"{len(plan)} that fit together", dict(plan))
            if self._good(candidate):
                return candidate
            for group in list(plan)[-max(1, len(plan) // 16) :]:  # the worst of those that joined
                del plan[group]
                self.choice.reasons[group] = f"on all samples the model falls below {self.limits.min_sqnr:g} dB with it"
        return None

    def _join(self, plan: Plan, wanted: Sequence[tuple[Group, Form]], bar: float) -> None:
        """Add those of ``wanted`` to ``plan`` with which the model stays at ``bar``; halves of what does not fit."""
        size = max(1, len(wanted) // 4)
        waiting = [wanted[start : start + size] for start in range(0, len(wanted), size)][::-1]
        while waiting and not self._late():
            part = waiting.pop()
            self.progress(f"{len(plan)} groups fit together, {sum(map(len, waiting)) + len(part)} to try")
            decibels, problem = self.bench.decibels(plan | dict(part), self.trials)
            if decibels >= bar:
                plan.update(part)
            elif len(part) > 1:
                half = len(part) // 2
                waiting += [part[half:], part[:half]]
            else:
                said = f"with it the model falls to {decibels:.1f} dB, below {bar:g}"
                self.choice.reasons[part[0][0]] = problem or said

    def _most_gaining(self, best: Candidate, gains: Mapping[Group, float]) -> Candidate:
        """``best``, or the fastest model with only those of its groups that gain most: others may cost at borders."""
        order = sorted(best.plan, key=lambda group: -gains[group])
        for count in dict.fromkeys(round(len(order) * share) for share in _SHARES):
            if not 0 < count < len(order) or self._late():
                continue
            candidate = self._measure(
                f"the {count} that gain most", {group: best.plan[group] for group in order[:count]}
            )
            if candidate is not None and self._good(candidate) and candidate.speedup > best.speedup * _NOISE:
                for group in order[count:]:
                    self.choice.reasons[group] = "does not pay: with it the model is slower than without"
                best = candidate
        return best

    def _paying(self, best: Candidate, floats: GroupTimes) -> Candidate:
        """``best`` without the groups whose integer form is slower than their float form, as long as that helps."""
        for _ in range(_ROUNDS):
            if self._late():
                break
            self.progress("timing single operators")
            integers = self.bench.quantized_times(best, list(best.plan))
            slow = [group for group in best.plan if _costs(group, floats, integers)]
            if not slow or len(slow) == len(best.plan):
                break
            rest = {group: form for group, form in best.plan.items() if group not in slow}
            candidate = self._measure(f"without {len(slow)} that do not pay", rest)
            if candidate is None or not self._good(candidate) or candidate.speedup < best.speedup * _NOISE:
                break
            for group in slow:
                self.choice.reasons[group] = _costs(group, floats, integers)
            best = candidate
        return best

    def _smaller(self, best: Candidate) -> Candidate:
        """``best`` with the weights of float groups stored in fewer bits, where that costs next to no time."""
        floats = {group: forms for group, forms in self.forms.items() if group not in best.plan}
        stored = {group: form for group, forms in floats.items() for form in forms if form.kind == WEIGHTS}
        tables = {group: form for group, form in stored.items() if not group.data}
        for plan in (stored, tables) if len(tables) < len(stored) else (stored,):
            if not plan or self._late():
                continue
            candidate = self._measure(f"and the weights of {len(plan)} others stored in fewer bits", best.plan | plan)
            if candidate is None or not self._good(candidate) or candidate.speedup < self.limits.min_speedup:
                continue
            if candidate.speedup * _FOR_SIZE > best.speedup:
                self._stands(candidate)
                return candidate
        return best

    # Measuring

    def judge_alone(self) -> dict[Group, float]:
        """The decibels that each group leaves at the outputs when it alone is quantized; -inf where it does not run."""
        found = self.choice.sensitivity
        few = self.trials[:: max(1, len(self.trials) // self.sensitivity_probes)]
        waiting = [group for group in self.forms if group not in found]
        verdicts = self.bench.decibels_of_each([{group: self.forms[group][0]} for group in waiting], few)
        for i, group in enumerate(waiting):
            self.progress(Step(f"sensitivity of group {i + 1} of {len(waiting)}", i, len(waiting)))
            late = -math.inf, "not tried: the budget was spent"
            found[group], problem = late if self._late() else next(verdicts)
            if problem:
                self.choice.reasons[group] = problem
        return found

    def _measure(self, name: str, plan: Plan) -> Candidate | None:
        """The whole model with ``plan``, measured; None where there is no such model."""
        if not plan:
            return None
        self.progress(f"measuring the model: {name}")
        candidate = self.bench.candidate(name, plan)
        self.choice.tried.append(candidate)
        if candidate.why:
            return None
        if not self._good(candidate):
            candidate.why = f"{candidate.quality.sqnr_db:.1f} dB is below {self.limits.min_sqnr:g}"
        elif candidate.speedup >= self.limits.min_speedup and self._is_better(candidate):
            self._stands(candidate)
        return candidate

    def _is_better(self, candidate: Candidate) -> bool:
        if self.standing is None:
            return True
        if self.limits.min_speedup <= 0:
            return len(candidate.plan) > len(self.standing.plan)
        return candidate.speedup > self.standing.speedup * _NOISE

    def _stands(self, candidate: Candidate) -> None:
        """Should the search be killed now, this is what is left of it."""
        self.standing = candidate
        about = {"sqnr_db": candidate.quality.sqnr_db, "speedup": candidate.speedup, "groups": len(candidate.plan)}
        self.bench.journal.keep(candidate.model, about)

    def _good(self, candidate: Candidate | None) -> bool:
        if candidate is None:
            return False
        worst = candidate.quality.sqnr_db
        return worst >= self.limits.min_sqnr and worst > -math.inf

    def _late(self) -> bool:
        return time.perf_counter() >= self.deadline


def _costs(group: Group, floats: GroupTimes, integers: GroupTimes) -> str:
    """Why the integer form of ``group`` does not pay by itself; empty when it does or cannot be told."""
    if group not in integers or group not in floats:
        return ""
    (kind, ours), (_, theirs) = integers[group], floats[group]
    if kind not in INTEGER_OPS:
        return f"it runs as {kind} all the same"
    return f"does not pay: {ours:.0f} us in integers, {theirs:.0f} us in float" if ours > theirs * _PAYS else ""
