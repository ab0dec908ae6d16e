"""What JSON can hold: text, numbers, truth values, null, lists and objects."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence, Set
from numbers import Integral, Real
from typing import Any

__all__ = ["plain", "plain_report"]


def plain(value: object, where: str = "report") -> Any:
    """``value`` in dicts, lists, str, int, float, bool and None.

    NaN and the infinities become None, scalars and arrays of numpy what they hold, paths their text, a set a sorted
    list. Text keeps no lone surrogate, so all of it can be written as UTF-8. Raises TypeError for anything else, naming
    ``where``.
    """
    match value:
        case None | bool():
            return value
        case str():
            return value.encode("utf-8", "backslashreplace").decode("utf-8")
        case Integral():
            return int(value)
        case Real():
            return float(value) if math.isfinite(value) else None
        case Mapping():
            return {plain(str(key)): plain(item, f"{where}.{key}") for key, item in value.items()}
        case os.PathLike():
            return plain(os.fspath(value), where)
        case Set():
            return sorted((plain(item, where) for item in value), key=repr)
        case Sequence() if not isinstance(value, bytes | bytearray | memoryview):
            return [plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    held = value.tolist() if hasattr(value, "tolist") else value  # numpy's bool and arrays are none of the above
    if isinstance(held, bool | int | float | str | list):
        return plain(held, where)
    raise TypeError(f"{where} is of type {type(value).__name__}, which a report cannot hold")


def plain_report(report: Mapping[str, Any]) -> dict[str, Any]:
    """The whole ``report`` as :func:`plain` makes it: a new dict, the same one that ``report.json`` gives when read."""
    return {key: plain(value, key) for key, value in report.items()}
