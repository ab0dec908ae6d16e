"""Options in Python, in a recipe and on the command line are one thing."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from qcompiler.errors import UsageError
from qcompiler.pipeline import Pass, Recipe, parse_recipe, with_settings


@dataclass(frozen=True)
class Sample(Pass):
    """A pass with an option of each kind."""

    count: int = 3
    ratio: float = 0.5
    on: bool = True
    label: str = "x"
    limit: int | None = None
    names: tuple[str, ...] = ()


KNOWN = {"sample": Sample}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"count": "7"}, Sample(count=7)),
        ({"ratio": "1e-3"}, Sample(ratio=1e-3)),
        ({"ratio": 2}, Sample(ratio=2.0)),
        ({"on": "false"}, Sample(on=False)),
        ({"on": False}, Sample(on=False)),
        ({"limit": "none"}, Sample()),
        ({"limit": "4"}, Sample(limit=4)),
        ({"names": "a,b"}, Sample(names=("a", "b"))),
        ({"names": ["a", "b"]}, Sample(names=("a", "b"))),
    ],
)
def test_text_and_values_mean_the_same(given: dict[str, object], expected: Sample) -> None:
    assert Sample.configured(given) == expected


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"cuont": 1}, "it has: count, label, limit, names, on, ratio"),
        ({"count": "many"}, "sample.count cannot be 'many'"),
        ({"count": 1.5}, "sample.count cannot be 1.5"),
        ({"count": True}, "sample.count cannot be True"),
        ({"on": "perhaps"}, "sample.on cannot be 'perhaps'"),
        ({"label": ["a"]}, "sample.label cannot be"),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, object], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        Sample.configured(given)


def test_a_recipe_survives_its_own_text() -> None:
    recipe = Recipe("mine", (Sample(count=9, names=("a",)), Sample()), "what for", True, {"min_sqnr": 12.5})
    assert parse_recipe(recipe.to_toml({"target": "ort-cpu", "data": None}), "again", KNOWN) == recipe


def test_settings_reach_every_pass_of_the_name() -> None:
    recipe = Recipe("mine", (Sample(), Sample(label="y")))
    changed = with_settings(recipe, ["sample.count=5", "sample.ratio=0.25"], KNOWN)
    assert changed.passes == (Sample(count=5, ratio=0.25), Sample(count=5, ratio=0.25, label="y"))
    assert recipe.passes[0] == Sample()


def test_a_setting_for_a_pass_that_the_recipe_lacks() -> None:
    with pytest.raises(UsageError, match="recipe 'empty' has no pass 'sample'"):
        with_settings(Recipe("empty", ()), ["sample.count=5"], KNOWN)
