"""What a shell may complete beside commands and options."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import CompletionItem

__all__ = ["recipe_names", "target_names"]


def recipe_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Recipes by name, and files and folders."""
    from qcompiler.compiler import recipes

    names = [CompletionItem(name, help=item.description) for name, item in recipes().items()]
    return [*(item for item in names if item.value.startswith(incomplete)), CompletionItem(incomplete, type="file")]


def target_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Targets by name."""
    from qcompiler.compiler import targets

    names = [CompletionItem(name, help=item.description) for name, item in targets().items()]
    return [item for item in names if item.value.startswith(incomplete)]
