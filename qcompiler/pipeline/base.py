"""What a pass is, and what it is given to work with."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, get_type_hints

from qcompiler.data import Dataset
from qcompiler.errors import UsageError
from qcompiler.ir import Clock, Model, Node
from qcompiler.progress import Step
from qcompiler.rewrite import Rule, Trace, apply_rules, label

__all__ = ["Pass", "PassContext", "convert_option"]


@dataclass
class PassContext:
    """What a pass may use beside the model.

    ``data`` calibrates, ``held_out`` are samples that no pass may fit anything to: they judge what one has learned.
    ``samples`` are the few runs on which lossless passes are checked. ``facts`` carry what one pass found out for later
    ones, by name. ``target`` is the lowering's target, if there is one. ``seed`` starts whatever is drawn, ``threads``
    are those of a run. ``watch_fusions`` has the target's own fusions counted around each lossless pass.
    What a running pass puts into ``details`` stands beside it in the report; what into ``resolved`` takes the place
    of its options in the resolved recipe, so that it decides the same again. ``executor`` takes work that can be
    split, None: here and now. ``source`` is the model as it was given, from which a changed one may learn; ``tell``
    takes a line on how far it has come, ``unfinished`` is a folder in which it may keep what a kill would lose.
    ``min_sqnr`` is the limit in decibels that the result has to keep, None where it has none. ``warnings`` are told to
    the user, ``faults`` are the rules and passes that were rolled back, and why. ``trace`` keeps every rewrite,
    ``spent`` those that the pass ``running`` was permitted, of which ``allowance`` limits the number and ``disabled``
    rules are left out: so a fault is found by halving. ``untyped`` counts the values that had no
    type after the last inference.
    """

    data: Dataset | None = None
    samples: Sequence[dict[str, Any]] = ()
    target: Any = None
    seed: int = 0
    threads: int = 1
    facts: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    trace: Trace = field(default_factory=Trace)
    disabled: set[str] = field(default_factory=set)
    allowance: int | None = None
    spent: list[tuple[str, str, str]] = field(default_factory=list)
    running: str = ""
    untyped: int = 0
    watch_fusions: bool = False
    faults: list[str] = field(default_factory=list)
    executor: Executor | None = None
    min_sqnr: float | None = None
    source: Model | None = None
    held_out: Dataset | None = None
    tell: Callable[[str], None] = lambda _: None
    unfinished: Path | None = None
    details: dict[str, Any] = field(default_factory=dict)
    resolved: dict[str, Any] = field(default_factory=dict)

    def permit(self, rule: str, node: Node) -> bool:
        """Asked before every change: False when ``rule`` was rolled back, or when a bisection stops here."""
        if rule in self.disabled or (self.allowance is not None and len(self.spent) >= self.allowance):
            return False
        self.spent.append((self.running, rule, label(node)))  # the rewrite may take the node's name away
        return True

    def counting(self, what: str, total: int) -> Callable[[int], None]:
        """A function of how many are done: it tells how far the running pass has come among ``total`` of ``what``."""
        return lambda done: self.tell(Step(f"{self.running}: {what} {done} of {total}", done, total))

    @property
    def per_sample(self) -> Callable[[int], None]:
        """:meth:`counting` of the samples of ``data``."""
        return self.counting("sample", 0 if self.data is None else len(self.data))

    def warn(self, text: str) -> None:
        """Tell the user, once."""
        if text not in self.warnings:
            self.warnings.append(text)


@dataclass(frozen=True)
class Pass:
    """One rewrite of the whole model. Subclasses are frozen dataclasses; their fields are the options.

    ``name`` is the class's with hyphens where a subclass sets none. A pass of rules only lists them in ``rules``; any
    other overrides :meth:`run`. ``lossless`` promises the same numbers but for the order of additions: it is checked,
    and what breaks them is rolled back. ``needs`` and ``gives`` are names of facts:
    an order in which something is needed before it is given is refused before anything runs. ``keeps_types`` says
    that types known before are as sharp as they can be after it, so that they need not be inferred again.
    ``changes_numbers`` says that a lossy pass changes what the model computes at once, so that the result is judged
    before anything else is done with it. Of those ``takes_integers`` says that the pass also works on the model that
    was chosen of quantized ones: it may stand behind the passes that quantize.
    ``looks_far`` says that rules ask about nodes beyond those that they match, so that any change may be one for them.
    ``cost`` says in a sentence how the pass's time grows.
    """

    rules: ClassVar[tuple[Rule, ...]] = ()
    lossless: ClassVar[bool] = False
    keeps_types: ClassVar[bool] = False
    looks_far: ClassVar[bool] = False
    changes_numbers: ClassVar[bool] = False
    takes_integers: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset()
    cost: ClassVar[str] = (
        "Linear in the nodes: a rule is tried where its last operator stands, and again where something near it"
        " changed."
    )
    name: ClassVar[str] = "pass"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" not in cls.__dict__:
            cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", cls.__name__).lower()

    def run(self, model: Model, context: PassContext) -> int:
        """Change ``model`` in place; how many changes were made. Every change asks ``context.permit`` first.

        May raise UsageError for what is missing (data, a target) and any other QCompilerError.
        """
        return self.apply(model, context, self.rules)

    def apply(self, model: Model, context: PassContext, rules: Sequence[Rule]) -> int:
        """Apply those of ``rules`` that were not rolled back until none fires; how many rewrites were made.

        Where the pass has done so before, only what changed since is looked at. What ``rules`` are may depend on
        nothing but the pass's options, the target and the model's operator sets.
        """
        wanted = [rule for rule in rules if rule.name not in context.disabled]
        since = None if self.looks_far else model.settled.get(self)
        count = apply_rules(model, wanted, trace=context.trace, permit=context.permit, since=since)
        model.settled[self] = Clock.now
        Clock.now += 1
        return count

    @property
    def aims(self) -> bool:
        """Whether it goes as far as ``context.min_sqnr`` lets it, so that a higher one makes it go less far."""
        return False

    def options(self) -> dict[str, Any]:
        """The options by name, as a recipe writes them."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def expression(self, option: str) -> re.Pattern[str] | None:
        """The option that is a regular expression, ready to search with; None when it is empty. Raises UsageError."""
        text = getattr(self, option)
        try:
            return re.compile(text) if text else None
        except re.error as error:
            raise UsageError(f"{self.name}.{option} is no regular expression: {error}") from None

    @classmethod
    def configured(cls, options: dict[str, Any]) -> Pass:
        """The pass with ``options``, text from the command line converted to the field's type.

        Raises UsageError for an option that the pass does not have or a value that does not fit.
        """
        known = {item.name: item for item in fields(cls)}
        hints = get_type_hints(cls)
        given: dict[str, Any] = {}
        for key, value in options.items():
            key = key.replace("-", "_")
            if key not in known:
                names = ", ".join(sorted(known)) or "none"
                raise UsageError(f"pass '{cls.name}' has no option '{key}'", hint=f"it has: {names}")
            given[key] = convert_option(value, hints[key], f"{cls.name}.{key}")
        try:
            return cls(**given)
        except ValueError as error:
            raise UsageError(f"pass '{cls.name}': {error}") from None


def convert_option(value: Any, kind: Any, where: str) -> Any:
    """``value``, perhaps text, as ``kind``. Raises UsageError."""
    kinds = (
        getattr(kind, "__args__", (kind,)) if type(kind).__name__ in ("UnionType", "_UnionGenericAlias") else (kind,)
    )
    if type(None) in kinds and (value is None or value == "none"):
        return None
    wanted = next(each for each in kinds if each is not type(None))
    if getattr(wanted, "__origin__", None) is tuple:
        items = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
        return tuple(convert_option(item, wanted.__args__[0], where) for item in items if item != "")
    try:
        if wanted is bool:
            if isinstance(value, bool):
                return value
            return {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}[str(value).lower()]
        if wanted is int and isinstance(value, float):
            raise ValueError("not a whole number")
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(f"no {wanted.__name__}")
        return wanted(value)
    except (KeyError, ValueError):
        raise UsageError(f"{where} cannot be {value!r}", hint=f"it takes a {wanted.__name__}") from None
