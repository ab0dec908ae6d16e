"""Applies rules until none fires. Rules are indexed by the operator at which they start; a change puts only those
nodes back on the list whose match it may have opened. Time grows linearly with the graph."""

from __future__ import annotations

import gc
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from qcompiler.errors import PassError
from qcompiler.ir import Model, Node, Value, dependencies
from qcompiler.rewrite.edit import can_replace, erase_dead, replace_value
from qcompiler.rewrite.matcher import Match, Refusal, match
from qcompiler.rewrite.pattern import may_match
from qcompiler.rewrite.rule import Rewriter, Rule
from qcompiler.rewrite.trace import Rewrite, Trace, label

__all__ = ["RuleError", "apply_rules", "without_collector"]

_MANY = 64  # of the users of one value, a pattern of several outputs may have to look at each for each
_FEW = 8  # a value with more uses than this cannot be the inner value of a pattern, so losing one opens no match
Needs = tuple[frozenset[str], ...]
Permit = Callable[[str, Node], bool]


class RuleError(PassError):
    """A rule raised, looped or built something impossible. ``rule`` names it; the graph is as before the rewrite."""

    def __init__(self, what: str, rule: str, hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.rule = rule


def apply_rules(
    model: Model,
    rules: Sequence[Rule],
    *,
    trace: Trace | None = None,
    permit: Permit | None = None,
    budget: int | None = None,
    since: int | None = None,
) -> int:
    """Rewrite ``model`` in place with ``rules``, earlier ones first at each node; how many rewrites were made.

    ``permit(rule, root)`` is asked before each rewrite and may say no. ``budget`` bounds the rewrites that do not
    make the graph smaller, default 4 a node and 1,000. ``since`` is a time of :class:`Clock` at which none of the rules
    had anything to do: only matches near nodes that were touched later are looked for.
    Raises RuleError naming the rule that raised, or those that undo each other.
    """
    driver = _Driver(model, rules, trace if trace is not None else Trace(), permit, budget)
    with without_collector():
        return driver.run(since)


@contextmanager
def without_collector() -> Iterator[None]:
    """Let the garbage collector rest.

    Reference counting frees nearly all that a rewrite drops; walking a large graph again and again for the few cycles
    would make the time grow faster than the graph. Afterwards what was made counts as old, unless somebody has frozen
    objects of their own: the next collection of young ones would look at all of it.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            if not gc.get_freeze_count():
                gc.freeze()
                gc.unfreeze()
            gc.enable()


class _Driver:
    def __init__(
        self, model: Model, rules: Sequence[Rule], trace: Trace, permit: Permit | None, budget: int | None
    ) -> None:
        self.model = model
        self.trace = trace
        self.permit = permit
        self.index: dict[tuple[str, str], list[tuple[Rule, list[Needs]]]] = {}
        self.required = {rule: rule.required() for rule in rules}
        self.reach = max((rule.depth() for rule in rules), default=1)
        self.paired = any(len(rule.outputs) > 1 for rule in rules)
        self.few = None if any(rule.shares() for rule in rules) else _FEW
        for rule in rules:
            for root, ways in rule.starts().items():
                # What a way needs is asked first, because it is cheap; a near miss has to be looked at, though.
                self.index.setdefault(root, []).append((rule, [()] if self.trace.explain else ways))
        self.population = Counter((node.domain, node.op_type) for node in model.nodes())
        self.budget = 4 * self.population.total() + 1000 if budget is None else budget
        self.recent: deque[str] = deque(maxlen=64)
        self.queue: deque[Node] = deque()
        self.queued: set[Node] = set()

    def run(self, since: int | None) -> int:
        count = 0
        if any(all(self.population[kind] for kind in kinds) for kinds in self.required.values()):
            if since is None:
                self._enqueue(self.model.nodes())
            else:
                self._requeue([node for node in self.model.nodes() if node.touched > since])
        while self.queue:
            node = self.queue.popleft()
            self.queued.discard(node)
            if node.graph is None:
                continue
            for rule, ways in self.index[node.domain, node.op_type]:
                if not any(may_match(needs, node) for needs in ways):
                    continue
                if all(self.population[kind] for kind in self.required[rule]) and self._try(rule, node):
                    count += 1
                    break
        return count

    def _enqueue(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            if (node.domain, node.op_type) in self.index and node not in self.queued and node.graph is not None:
                self.queue.append(node)
                self.queued.add(node)

    def _try(self, rule: Rule, root: Node) -> bool:
        """Match and rewrite; True when the graph changed."""
        missed: list[tuple[int, str]] | None = [] if self.trace.explain else None
        try:
            found = match(rule.outputs, root, missed)
        except Exception as error:  # a predicate is the rule's own code
            raise _raised(rule, root, error) from error
        if found is None:
            for depth, reason in missed or ():
                self.trace.missed(rule.name, root, reason, depth)
            return False
        olds = found.outputs(rule.outputs)
        if not any(value.uses for value in olds):
            return False
        anchor = root
        for value in olds:
            if value.producer is not None and value.producer.before(anchor):
                anchor = value.producer
        rewriter = Rewriter(anchor)
        try:
            result = rule.rewrite(rewriter, found)
            news: tuple[Any, ...] = result if isinstance(result, tuple) else (result,)
            objection = self._objection(rule, rewriter, news, olds, root)
        except Exception as error:
            rewriter.undo()
            raise _raised(rule, root, error) from error
        if objection is not None:
            rewriter.undo()
            self.trace.missed(rule.name, root, objection, len(found.nodes), refused=True)
            return False
        self._apply(rule, rewriter, found, olds, news)
        return True

    def _objection(
        self, rule: Rule, rewriter: Rewriter, news: tuple[Any, ...], olds: tuple[Value, ...], root: Node
    ) -> str | None:
        """Why ``news``, the result of the rule, cannot be used, or None."""
        if news == (None,):
            return "the rule made nothing"
        if isinstance(news[0] if news else None, Refusal):
            return str(news[0].reason)
        if len(news) != len(olds) or not all(isinstance(value, Value) for value in news):
            raise TypeError(f"it returned {len(news)} results for a pattern of {len(olds)} outputs")
        for old, new in zip(olds, news, strict=True):
            if old is new:
                return "nothing would change"
            if old.dtype is not None and new.dtype is not None and old.dtype is not new.dtype:
                raise TypeError(f"{old!r} is {old.dtype.name} and its replacement {new.dtype.name}")
            if root.is_op("Identity") and not can_replace(old, new):
                return "an output of the graph must keep its name"
        late = _late_value(rewriter, news)
        if late is not None:
            return f"{late!r} is computed after {rewriter.anchor!r}"
        if self.permit is not None and not self.permit(rule.name, root):
            return "held back"
        return None

    def _apply(
        self, rule: Rule, rewriter: Rewriter, found: Match, olds: tuple[Value, ...], news: tuple[Value, ...]
    ) -> None:
        nodes_in = tuple(label(node) for node in found.nodes)
        created = list(rewriter.created)
        stem = found.root.name or found.root.output.name
        for i, node in enumerate(created):
            if not node.name:
                node.name = stem if i == len(created) - 1 else f"{stem}/{node.op_type}_{i}"
        changed: dict[Node, None] = {}
        for old, new in zip(olds, news, strict=True):
            changed.update(dict.fromkeys(old.users()))
            holder = replace_value(old, new)
            if holder is not None:
                created.append(holder)
        matched = {*found.nodes, *created}
        removed: list[Node] = []
        for value in erase_dead([*found.nodes, *created], removed, matched):
            if len(value.uses) <= _FEW:
                changed.update(dict.fromkeys(value.users()))
        for value in rewriter.constants:
            if not value.uses:
                rewriter.graph.remove_constant(value)
        for node in _with_inner(created):
            self.population[node.domain, node.op_type] += 1
        for node in _with_inner(removed):
            self.population[node.domain, node.op_type] -= 1
        self.trace.rewrites.append(Rewrite(rule.name, nodes_in, tuple(label(node) for node in created if node.graph)))
        self._spend(rule, found.root, len(created) - len(removed))
        self._enqueue(_with_inner(created))
        self._requeue([*changed, *(node for node in created if node.graph is not None)])

    def _requeue(self, level: list[Node]) -> None:
        """The nodes of ``level`` changed: those at which a pattern that reaches them may start go back on the list."""
        for step in range(self.reach):
            if self.paired:  # a pattern of several outputs starts at one user of a value and goes on at another
                inputs = dict.fromkeys(value for node in level for value in node.inputs if value is not None)
                siblings = (user for value in inputs if len(value.uses) <= _MANY for user in value.users())
                level = list(dict.fromkeys((*level, *siblings)))
            self._enqueue(level)
            if step + 1 < self.reach:
                level = self._following(level)

    def _following(self, level: list[Node]) -> list[Node]:
        """The nodes that take what ``level`` gives."""
        found: dict[Node, None] = {}
        for node in level:
            for value in node.outputs:
                if self.few is None or len(value.uses) <= self.few:
                    for user, _ in value.uses:
                        if isinstance(user, Node):
                            found[user] = None
        return list(found)

    def _spend(self, rule: Rule, root: Node, growth: int) -> None:
        self.recent.append(rule.name)
        if growth < 0:
            return
        self.budget -= 1
        if self.budget < 0:
            names = list(dict.fromkeys(reversed(self.recent)))[:3]
            raise RuleError(
                f"the rules {', '.join(names)} keep undoing each other near {root!r}",
                rule.name,
                hint=f"leave out '{rule.name}'",
            )


def _raised(rule: Rule, root: Node, error: Exception) -> RuleError:
    return RuleError(f"rule '{rule.name}' raised {type(error).__name__} at {root!r}: {error}", rule.name)


def _late_value(rewriter: Rewriter, news: tuple[Value, ...]) -> Value | None:
    """A value that the new nodes take, or that the rule gives, although it is computed only behind the anchor."""
    anchor, made = rewriter.anchor, set(rewriter.created)
    taken = [value for node in rewriter.created for value in dependencies(node)]
    for value in (*taken, *(value for value in news if value.producer is not anchor)):
        maker = value.producer
        if maker is not None and maker.graph is anchor.graph and maker not in made and not maker.before(anchor):
            return value
    return None


def _with_inner(nodes: Iterable[Node]) -> Iterator[Node]:
    for node in nodes:
        yield node
        if node.attrs:
            for graph in node.subgraphs():
                yield from graph.all_nodes()
