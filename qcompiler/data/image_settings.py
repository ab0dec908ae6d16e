"""The ``[images]`` table of a TOML file: a folder of images and how they become what the model takes.

    [images]
    folder = "photos"            # relative to this file; every jpg and png below it
    input = "data_0"             # the model's input; may be left out if it has only one
    labels = "none"              # see image_labels
    resize_shorter = 256         # or resize = [h, w]; without either images keep their size
    crop = [224, 224]            # [h, w] of the centre
    color = "RGB"                # or "BGR"
    layout = "NCHW"              # or "NHWC"
    scale = 1.0                  # x * scale, then (x - mean) / std, per channel in the order of color
    mean = [0.0, 0.0, 0.0]
    std = [1.0, 1.0, 1.0]

Only ``folder`` is needed; the values of color and below are those that hold without them.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from qcompiler.data.fit import listing
from qcompiler.errors import DataError

__all__ = ["ImageSettings", "read_image_settings"]

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class ImageSettings:
    """The table, checked. ``file`` is where it stands, for messages and relative paths; sizes are (height, width)."""

    file: Path
    folder: Path
    input: str | None = None
    labels: str = "none"
    resize_shorter: int | None = None
    resize: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    color: str = "RGB"
    layout: str = "NCHW"
    scale: float = 1.0
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)


def read_image_settings(path: Path) -> ImageSettings:
    """The settings in ``path``. DataError, naming file and key, for anything in it that is not as described above."""
    try:
        content = tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist", hint="check the path") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}", hint="give a TOML file in UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise DataError(
            f"{path} is not valid TOML: {error}", hint="mend it; a path in quotes needs / or \\\\"
        ) from error
    _refuse_unknown(path, content, ["images"], "table")
    table = content.get("images")
    if not isinstance(table, dict):
        raise DataError(f"{path} has no table [images]", hint='write [images] and below it folder = "..."')
    _refuse_unknown(path, table, list(_CHECKS), "key")
    if "folder" not in table:
        raise DataError(f"{path}: [images] has no folder", hint='add folder = "...", relative to this file')
    values: dict[str, Any] = {}
    for key, value in table.items():
        check, wanted = _CHECKS[key]
        values[key] = check(value)
        if values[key] is None:
            raise DataError(f"{path}: {key} = {value!r} is not {wanted}", hint=f"give {key} {wanted}")
    if "resize" in values and "resize_shorter" in values:
        raise DataError(f"{path}: resize and resize_shorter exclude each other", hint="keep one of them")
    values["folder"] = path.parent / values["folder"]
    if not values["folder"].is_dir():
        raise DataError(f"{path}: folder {values['folder']} does not exist", hint="it is relative to the TOML file")
    return ImageSettings(file=path, **values)


def _refuse_unknown(path: Path, found: Mapping[str, object], known: list[str], what: str) -> None:
    for key in found:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            raise DataError(
                f"{path}: unknown {what} '{key}'; known are {listing(known)}",
                hint=f"did you mean '{close[0]}'?" if close else "remove it",
            )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _one_of(*choices: str) -> Callable[[object], str | None]:
    return lambda value: value if isinstance(value, str) and value in choices else None


def _size(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _height_width(value: object) -> tuple[int, int] | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    height, width = map(_size, value)
    return None if height is None or width is None else (height, width)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e30 else None  # neither NaN nor what float32 cannot compute with


def _per_channel(value: object) -> Triple | None:
    if not isinstance(value, list) or len(value) != 3:
        return None
    first, second, third = map(_number, value)
    return None if first is None or second is None or third is None else (first, second, third)


def _divisors(value: object) -> Triple | None:
    numbers = _per_channel(value)
    return None if numbers is None or 0.0 in numbers else numbers


_CHECKS: dict[str, tuple[Callable[[object], object | None], str]] = {
    "folder": (_text, "a path"),
    "input": (_text, "the name of an input"),
    "labels": (_text, 'one of "none", "folder", "name:REGEX" or the path of a CSV file'),
    "resize_shorter": (_size, "a positive whole number of pixels"),
    "resize": (_height_width, "[height, width] in pixels"),
    "crop": (_height_width, "[height, width] in pixels"),
    "color": (_one_of("RGB", "BGR"), '"RGB" or "BGR"'),
    "layout": (_one_of("NCHW", "NHWC"), '"NCHW" or "NHWC"'),
    "scale": (_number, "a number of sensible size"),
    "mean": (_per_channel, "three numbers of sensible size"),
    "std": (_divisors, "three numbers of sensible size, none of them 0"),
}
"""Key -> (a function that gives the checked value, or None if it is wrong; what the value must be)."""

assert _CHECKS.keys() | {"file"} == {field.name for field in fields(ImageSettings)}
