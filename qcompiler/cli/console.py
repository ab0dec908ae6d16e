"""What every command prints with: progress to standard error, results to standard output."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import click

__all__ = [
    "emit_json",
    "progress_line",
    "result",
    "some",
    "table",
    "tell_error",
    "told_size",
    "warn",
    "warn_of_plugins",
]


def result(text: str = "") -> None:
    """A line of the result."""
    click.echo(text)


def warn(text: str) -> None:
    """A line that the user should know of."""
    click.echo(click.style("warning: ", fg="yellow", bold=True) + text, err=True, color=_colours())


def warn_of_plugins() -> None:
    """A line for each plug-in that cannot be used."""
    from qcompiler.compiler import plugin_problems

    for name, problem in plugin_problems().items():
        warn(f"plug-in {name} was not loaded: {problem}")


def tell_error(text: str) -> None:
    """The line that an error is."""
    click.echo(f"qcompiler: {' '.join(text.split())}", err=True)


def _colours() -> bool | None:
    """False where the user wants none (https://no-color.org); None: where there is a terminal."""
    return False if os.environ.get("NO_COLOR") else None


def some(names: Sequence[str], most: int = 3) -> str:
    """The first of ``names``, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def told_size(count: int) -> str:
    """Bytes as people say them."""
    from qcompiler.report.units import size

    return size(count)


def emit_json(document: Any) -> None:
    """Exactly one JSON document; what JSON cannot say (infinities, NaN) is null."""
    click.echo(json.dumps(_plain(document), indent=2, allow_nan=False))


def table(rows: Iterable[Sequence[str]], header: Sequence[str] | None = None) -> None:
    """Columns, numbers flush right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    lines = [list(row) for row in rows]
    made = Table(box=box.SIMPLE_HEAD if header else None, show_header=header is not None, pad_edge=False)
    width = len(header) if header else max((len(line) for line in lines), default=0)
    for i in range(width):
        numeric = all(_is_number(line[i]) for line in lines if i < len(line)) and bool(lines)
        made.add_column(header[i] if header else "", justify="right" if numeric else "left", overflow="fold")
    for line in lines:
        made.add_row(*[text.replace("[", "\\[") for text in line])
    Console(highlight=False, soft_wrap=False, width=None if sys.stdout.isatty() else 160).print(made)


@contextlib.contextmanager
def progress_line(quiet: bool, prefix: str = "") -> Iterator[Callable[[str], None]]:
    """A function that shows what is being done: a live line on a terminal, else a line a stage.

    The live line has the time, and of a :class:`qcompiler.progress.Step` how much is done and how long the rest takes.
    """
    from qcompiler.progress import Step

    if quiet:
        yield lambda _: None
        return
    if not sys.stderr.isatty():
        yield lambda text: click.echo(prefix + text, err=True) if not isinstance(text, Step) else None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(20), TextColumn("{task.fields[left]}"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(f"{prefix}starting".replace("[", "\\["), total=None, left="")
        left = _TimeLeft()

        def tell(text: str) -> None:
            done, total = (text.done, text.total) if isinstance(text, Step) else (0, None)
            said = f"{prefix}{text}".replace("[", "\\[")
            shown.update(task, description=said, completed=done, total=total, left=left.after(text))

        yield tell


class _TimeLeft:
    """How long the rest of a counted piece of work takes, if it goes on as it began."""

    def __init__(self) -> None:
        self.kind, self.began, self.first = "", 0.0, 0

    def after(self, text: str) -> str:
        """In words, once ``text``, a step of it, is reached; nothing for what is not counted."""
        from qcompiler.progress import Step

        if not isinstance(text, Step):
            self.kind = ""
            return ""
        kind = text.rstrip("0123456789").rpartition(" of ")[0].rstrip("0123456789")
        if kind != self.kind:
            self.kind, self.began, self.first = kind, time.monotonic(), text.done
        done = text.done - self.first
        if done < 1 or text.done >= text.total:
            return ""
        seconds = (time.monotonic() - self.began) / done * (text.total - text.done)
        return f"{seconds:.0f} s left" if seconds < 100 else f"{seconds / 60:.0f} min left"


def _is_number(text: str) -> bool:
    return bool(text) and (text[0].isdigit() or (text[0] in "-+." and text[1:2].isdigit()))


def _plain(item: Any) -> Any:
    if isinstance(item, dict):
        return {str(key): _plain(value) for key, value in item.items()}
    if isinstance(item, list | tuple):
        return [_plain(value) for value in item]
    if hasattr(item, "item"):
        item = item.item()
    if isinstance(item, float) and not (item == item and abs(item) != float("inf")):
        return None
    return item
