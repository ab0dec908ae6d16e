"""Every rule there is: its pattern matches what the pattern itself builds, and any order of rules keeps the numbers."""

from __future__ import annotations

import pytest

from qcompiler.ir import verify
from qcompiler.passes import builtin_passes
from qcompiler.rewrite import Rule
from qcompiler.rewrite.matcher import match
from qcompiler.testing import example

RULES: dict[str, Rule] = {rule.name: rule for item in builtin_passes().values() for rule in item.rules}


def test_there_are_rules() -> None:
    assert len(RULES) > 60


@pytest.mark.parametrize("name", RULES)
def test_a_pattern_matches_what_it_builds(name: str) -> None:
    rule = RULES[name]
    for seed in range(40):
        model, root = example(rule, seed)
        verify(model)
        found = match(rule.outputs, root)
        assert found is not None, (name, seed, [str(node) for node in model.graph])
        assert found.root is root
        assert found.outputs(rule.outputs) == model.graph.outputs
