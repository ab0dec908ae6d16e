"""The report as a file: ``report.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qcompiler.errors import DataError, UsageError
from qcompiler.report.plain import plain
from qcompiler.report.schema import SCHEMA, check, ordered

__all__ = ["read", "to_json"]

_AGAIN = "compile the model again"


def to_json(report: Mapping[str, Any]) -> str:
    """The text of ``report.json``: keys in the order of the schema, two spaces of indent, a line end at the end.

    NaN and the infinities are written as null. Raises TypeError for a value that JSON has no form for.
    """
    return json.dumps(ordered(plain(report)), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read(path: str | Path) -> dict[str, Any]:
    """The report in the file ``path``, or in ``report.json`` in the folder ``path``.

    Raises DataError when there is none or it is damaged, UsageError when it is of another schema.
    """
    path = Path(path)
    path = path / "report.json" if path.is_dir() else path
    try:
        report = json.loads(path.read_bytes(), parse_constant=lambda _: None)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"there is no file {path}", hint="give a folder that `qcompiler compile` made") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", hint=_AGAIN) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not a report: {error}", hint=_AGAIN) from None
    if not isinstance(report, dict) or "schema" not in report:
        raise DataError(f"{path} is not a report: it names no schema", hint=_AGAIN)
    if report["schema"] != SCHEMA or isinstance(report["schema"], bool):
        found = ascii(report["schema"])[:40]
        raise UsageError(
            f"{path} is a report of schema {found}, and this qcompiler reads schema {SCHEMA}",
            hint="use the qcompiler that wrote it, or compile the model again",
        )
    held: dict[str, Any] = plain(report)
    try:
        check(held)
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}", hint=_AGAIN) from None
    return held
