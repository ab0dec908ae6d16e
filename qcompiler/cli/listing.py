"""``qcompiler passes``, ``targets`` and ``recipes``"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from qcompiler.cli.console import emit_json, table, warn_of_plugins

__all__ = ["passes", "recipes", "targets"]

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command(epilog="\b\nExample:\n  qcompiler passes")
@_JSON
def passes(as_json: bool) -> None:
    """The passes that there are, with their options; plug-ins included."""
    from qcompiler.compiler import passes as known

    found: list[dict[str, Any]] = [
        {
            "name": name,
            "lossless": kind.lossless,
            "options": kind.configured({}).options(),
            "rules": [rule.name for rule in kind.rules],
            "description": _first_line(kind),
        }
        for name, kind in known().items()
    ]
    rows = [
        (
            item["name"],
            "lossless" if item["lossless"] else "lossy",
            ", ".join(f"{key}={value}" for key, value in item["options"].items()),
            item["description"],
        )
        for item in found
    ]
    _show(found, rows, ("pass", "kind", "options", "what it does"), as_json)


@click.command(epilog="\b\nExample:\n  qcompiler targets")
@_JSON
def targets(as_json: bool) -> None:
    """The targets that there are, and what this machine can run."""
    from qcompiler.compiler import targets as known

    found: list[dict[str, Any]] = [
        {
            "name": name,
            "description": item.description,
            "available": not item.unavailable(),
            "reason": item.unavailable(),
            "stand_in": item.stand_in(),
        }
        for name, item in known().items()
    ]
    rows = [
        (item["name"], (item["stand_in"] or "yes") if item["available"] else item["reason"], item["description"])
        for item in found
    ]
    _show(found, rows, ("target", "runs here", "what it is"), as_json)


@click.command(epilog="\b\nExample:\n  qcompiler recipes")
@_JSON
def recipes(as_json: bool) -> None:
    """The recipes that there are: ordered passes with options and limits."""
    from qcompiler.compiler import recipes as known

    found: list[dict[str, Any]] = [
        {
            "name": name,
            "description": item.description,
            "needs_data": item.needs_data,
            "gates": dict(item.gates),
            "passes": [{"name": each.name, "options": each.options()} for each in item.passes],
        }
        for name, item in known().items()
    ]
    rows = [
        (
            item["name"],
            "yes" if item["needs_data"] else "no",
            ", ".join(f"{key} {value:g}" for key, value in item["gates"].items()),
            item["description"],
        )
        for item in found
    ]
    _show(found, rows, ("recipe", "needs data", "gates", "what it does"), as_json)


def _show(found: list[dict[str, Any]], rows: Sequence[tuple[str, ...]], header: tuple[str, ...], as_json: bool) -> None:
    warn_of_plugins()
    if as_json:
        emit_json(found)
    else:
        table(rows, header)


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]
