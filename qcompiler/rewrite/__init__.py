"""Pattern-driven rewriting: patterns, the matcher, the driver and its trace."""

from qcompiler.rewrite.driver import RuleError, apply_rules, without_collector
from qcompiler.rewrite.edit import can_replace, drop_constant_if_unused, erase_dead, replace_value
from qcompiler.rewrite.matcher import Match, Refusal, match
from qcompiler.rewrite.pattern import any_of, const, maybe, op, rest, skip
from qcompiler.rewrite.rule import Rewriter, Rule, rule
from qcompiler.rewrite.trace import NearMiss, Rewrite, Trace, label

__all__ = [
    "Match",
    "NearMiss",
    "Refusal",
    "Rewrite",
    "Rewriter",
    "Rule",
    "RuleError",
    "Trace",
    "any_of",
    "apply_rules",
    "can_replace",
    "const",
    "drop_constant_if_unused",
    "erase_dead",
    "label",
    "match",
    "maybe",
    "op",
    "replace_value",
    "rest",
    "rule",
    "skip",
    "without_collector",
]
