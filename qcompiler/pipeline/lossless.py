"""A run of lossless passes, checked on samples against the model before it. What broke the numbers is found by
bisection over single rewrites, named, and left out; the rest stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qcompiler.errors import QCompilerError, VerifyError
from qcompiler.ir import Model, clone_model, verify
from qcompiler.pipeline.base import Pass, PassContext
from qcompiler.pipeline.check import Reference
from qcompiler.pipeline.fusions import FusionWatch
from qcompiler.pipeline.record import PassRecord, count_unclear, run_one, sharpen_types
from qcompiler.rewrite import RuleError, without_collector

__all__ = ["run_lossless"]

_ROUNDS = 8  # of all passes; real models need one or two, and two passes that undo each other must end


def run_lossless(
    model: Model, passes: Sequence[Pass], context: PassContext, progress: Callable[[str], None]
) -> tuple[Model, list[PassRecord]]:
    """The model after ``passes``, all lossless, and a record of each. Never raises what a pass raises."""
    with without_collector():
        return _Run(model, passes, context, progress).run()


class _Run:
    """Runs the passes again and again, each time without what was found guilty. ``blamed`` maps (pass, rule) to why;
    ``left_out`` are passes that are not run at all."""

    def __init__(
        self, model: Model, passes: Sequence[Pass], context: PassContext, progress: Callable[[str], None]
    ) -> None:
        self.source = clone_model(model)
        self.model = model
        self.passes = passes
        self.context = context
        self.progress = progress
        self.reference = _reference(model, context)
        self.blamed: dict[tuple[str, str], str] = {}
        self.left_out: dict[Pass, str] = {}
        self.watch: FusionWatch | None = None
        self.careful = False  # verifying after each pass costs as much as a pass; it is done to find who broke what

    def run(self) -> tuple[Model, list[PassRecord]]:
        while True:
            records = self._attempt()
            if records is not None:
                self.progress("checking the numbers")
                broken = _broken(self.model)
                if broken and not self.careful:
                    self.careful, self.model = True, clone_model(self.source)
                    continue
                wrong = broken or self._difference()
                if not wrong:
                    break
                if len(self.left_out) == len(set(self.passes)):
                    self.context.warn(f"the model does not repeat its own numbers: {wrong}")
                    break
                self._blame(wrong)
            self.model = clone_model(self.source)
        for record in records:
            self._tell(record)
        for text in self.watch.warnings if self.watch is not None else ():
            self.context.warn(text)
        return self.model, records

    def _difference(self) -> str:
        """What is wrong with the numbers of the model as it stands, in words; empty when nothing is."""
        return self.reference.difference(self.model) if self.reference is not None else ""

    def _attempt(self) -> list[PassRecord] | None:
        """One run of all passes that are not left out; None when one of them failed and was found guilty."""
        self.context.allowance, self.context.spent = None, []
        self.context.untyped, _ = count_unclear(self.model)
        records: list[PassRecord] = []
        self.watch = watch = FusionWatch(self.model, self.context)

        def run(item: Pass, again: bool) -> int:
            self.progress(item.name)
            try:
                if item in self.left_out:
                    record = self._left_out(item)
                else:
                    record = run_one(item, self.model, self.context, check=self.careful)
            except Exception as error:  # other people's code: whatever it raises must not end the compile
                if self.careful:  # before, what it met may have been broken by another
                    self._condemn(item, error)
                self.careful = True
                raise _Failed from None
            if record.changed:
                watch.note(record, self.model)
            if record.changed or not again:
                records.append(record)
            return record.changed

        try:
            _until_quiet(self.passes, run)
        except _Failed:
            return None
        return records

    def _condemn(self, item: Pass, error: Exception) -> None:
        """Leave out what failed: the rule that is known to have raised, else the pass."""
        if isinstance(error, RuleError):
            if (item.name, error.rule) in self.blamed:  # it applies rules in its own way: then the pass goes
                self.left_out[item] = error.what
            self.blamed[item.name, error.rule] = error.what
            self.context.disabled.add(error.rule)
        elif isinstance(error, QCompilerError):
            self.left_out[item] = str(error)
        else:
            self.left_out[item] = f"it raised {type(error).__name__}: {error}"

    def _left_out(self, item: Pass) -> PassRecord:
        count = self.model.count_nodes()
        why = self.left_out[item]
        return PassRecord(item.name, item.options(), 0.0, 0, count, count, status="rolled-back", reason=why)

    def _blame(self, wrong: str) -> None:
        """Find what made the numbers wrong, by halving the rewrites that are permitted, and leave it out."""
        active = [item for item in self.passes if item not in self.left_out]
        total = len(self.context.spent)
        if self._wrong(active, 0):
            # Some pass changes the graph without asking: the first one with which it goes wrong is left out whole.
            guilty = next((n for n in range(1, len(active) + 1) if self._wrong(active[:n], 0)), len(active))
            self.left_out[active[guilty - 1]] = wrong
            return
        good, bad = 0, total
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (good, middle) if self._wrong(active, middle) else (middle, bad)
        if not self._wrong(active, bad) or not self.context.spent:
            self.left_out.update(dict.fromkeys(active, f"rolled back with the passes around it: {wrong}"))
            return
        name, rule, where = self.context.spent[-1]
        self.blamed[name, rule] = f"{wrong}, first after '{rule}' at {where}"
        self.context.disabled.add(rule)

    def _wrong(self, passes: Sequence[Pass], allowance: int) -> bool:
        """Are the numbers wrong after the first ``allowance`` rewrites of ``passes``?"""
        model = clone_model(self.source)
        self.context.allowance, self.context.spent = allowance, []
        self.context.untyped, _ = count_unclear(model)
        try:
            _until_quiet(passes, lambda item, _: self._bare(item, model))
            verify(model)
        except Exception:  # held back half-way, a pass may fail as it never would by itself
            return True
        return bool(self.reference is not None and self.reference.difference(model))

    def _bare(self, item: Pass, model: Model) -> int:
        """Run a pass of a bisection, with the types that it would have found in the real run."""
        self.context.running = item.name
        changed = item.run(model, self.context)
        if changed:
            sharpen_types(item, model, self.context)
        return changed

    def _tell(self, record: PassRecord) -> None:
        """Write into ``record``, and tell the user, what of the pass was left out and why."""
        for (name, rule), why in self.blamed.items():
            if name == record.name and record.status != "rolled-back":
                record.status = record.status if record.changed else "rolled-back"
                record.reason = f"rule '{rule}' was rolled back: {why}"
                self._fault(f"pass '{record.name}': {record.reason}")
                return
        if record.status == "rolled-back":
            self._fault(f"pass '{record.name}' was left out: {record.reason}")

    def _fault(self, text: str) -> None:
        self.context.warn(text)
        self.context.faults.append(text)


def _broken(model: Model) -> str:
    """Which invariant of the IR does not hold, in words; empty when all do."""
    try:
        verify(model)
    except VerifyError as error:
        return error.what
    return ""


class _Failed(Exception):
    """A pass failed and was found guilty: the attempt is over."""


def _until_quiet(passes: Sequence[Pass], run: Callable[[Pass, bool], int]) -> None:
    """``run(pass, again)`` for each pass in order, and again from the first until all in a row change nothing.

    What a late pass leaves may be work for an early one: a value that turns out to have a known shape makes a
    constant, and that a Reshape that changes nothing. Every pass runs once; at most ``_ROUNDS`` times.
    """
    quiet = 0
    for step in range(_ROUNDS * len(passes)):
        quiet = 0 if run(passes[step % len(passes)], step >= len(passes)) else quiet + 1
        if quiet >= len(passes):
            return


def _reference(model: Model, context: PassContext) -> Reference | None:
    """The source's outputs on the samples; None, with a warning, when there are none or it does not run on them."""
    if not context.samples:
        context.warn("the rewrites were not checked on samples, because there are none")
        return None
    try:
        return Reference(model, context.samples, context.threads)
    except QCompilerError as error:
        context.warn(f"the rewrites were not checked: the source model itself does not run: {error.what}")
        return None
