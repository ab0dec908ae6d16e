"""What JSON can hold: text, numbers, truth values, null, lists and objects."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Set
from numbers import Integral, Real
from typing import Any

__all__ = ["plain"]


def plain(value: object, path: tuple[str | int, ...] = ()) -> Any:
    """``value`` in dicts, lists, str, int, float, bool and None.

    NaN and the infinities become None, scalars and arrays of numpy what they hold, paths their text, a set a sorted
    list. Text keeps no lone surrogate, so all of it can be written as UTF-8. Raises TypeError for anything else, naming
    ``path``, the keys that lead to it.
    """
    match value:
        case None | bool():
            return value
        case str():
            return value.encode("utf-8", "backslashreplace").decode("utf-8")
        case int() | Integral():
            return int(value)
        case float() | Real():
            return float(value) if math.isfinite(value) else None
        case dict() | Mapping():
            return {plain(str(key)): plain(item, (*path, str(key))) for key, item in value.items()}
        case list() | tuple():
            return [plain(item, (*path, index)) for index, item in enumerate(value)]
        case os.PathLike():
            return plain(os.fspath(value), path)
        case Set():
            return sorted((plain(item, path) for item in value), key=repr)
    held = value.tolist() if hasattr(value, "tolist") else value  # numpy's bool and arrays are none of the above
    if isinstance(held, bool | int | float | str | list):
        return plain(held, path)
    where = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")
    raise TypeError(f"{where or 'the report'} is of type {type(value).__name__}, which a report cannot hold")
