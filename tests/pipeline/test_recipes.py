"""The recipes that come along."""

from __future__ import annotations

from qcompiler.compiler import find_recipe, recipes
from qcompiler.passes.lossless import LOSSLESS


def test_recipes_begin_with_the_lossless_passes_in_their_order() -> None:
    for recipe in recipes().values():
        assert tuple(type(item) for item in recipe.passes[: len(LOSSLESS)]) == LOSSLESS


def test_what_is_lossless_needs_no_data() -> None:
    assert all(item.lossless for item in find_recipe("lossless").passes)
    assert not find_recipe("lossless").needs_data
    assert find_recipe("int8").needs_data
