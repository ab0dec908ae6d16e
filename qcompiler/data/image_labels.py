r"""Labels of images: from the folders they lie in, from a CSV file, or from their names.

"none"               no labels
"folder"             the images of each class lie in a folder of their own; classes are numbered from 0 in the order
                     of the names of these folders
"name:REGEX"         group 1 of the regular expression, found in the file name, is the number of the class:
                     "name:_(\d+)"
anything else        a CSV file, relative to the TOML file, with lines of name,label; the name is the path below the
                     folder of images or, where no two images share it, the file name; a first line that says
                     name,label is a header
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qcompiler.data.dataset import Array
from qcompiler.data.image_settings import ImageSettings
from qcompiler.errors import DataError

__all__ = ["read_labels"]


def read_labels(paths: Sequence[Path], settings: ImageSettings) -> Array | None:
    """The labels of the images at ``paths``, int64 [len(paths)], or None. DataError where one cannot be told."""
    if settings.labels == "none":
        return None
    if settings.labels == "folder":
        labels = _from_folders(paths, settings)
    elif settings.labels.startswith("name:"):
        labels = _from_names(paths, settings)
    else:
        labels = _from_csv(paths, settings)
    return np.array(labels, dtype=np.int64)


def _from_folders(paths: Sequence[Path], settings: ImageSettings) -> list[int]:
    for path in paths:
        if path.parent == settings.folder:
            raise DataError(
                f'{settings.file}: labels = "folder", and {path} lies in no folder of its class',
                hint=f"move it into a folder below {settings.folder}, or take labels from elsewhere",
            )
    classes = {name: index for index, name in enumerate(sorted({path.parent.name for path in paths}))}
    return [classes[path.parent.name] for path in paths]


def _from_names(paths: Sequence[Path], settings: ImageSettings) -> list[int]:
    try:
        pattern = re.compile(settings.labels.removeprefix("name:"))
    except re.error as error:
        raise DataError(
            f"{settings.file}: labels = {settings.labels!r} is not a regular expression: {error}", hint="mend it"
        ) from error
    if not pattern.groups:
        raise DataError(
            f"{settings.file}: labels = {settings.labels!r} has no group",
            hint=r'write the label in brackets, "name:(\\d+)"',
        )
    labels = []
    for path in paths:
        match = pattern.search(path.name)
        label = _whole_number(match[1]) if match else None
        if label is None:
            raise DataError(
                f"{settings.file}: labels = {settings.labels!r} finds no number in the name of {path}",
                hint="rename the image or mend the expression",
            )
        labels.append(label)
    return labels


def _from_csv(paths: Sequence[Path], settings: ImageSettings) -> list[int]:
    table = settings.file.parent / settings.labels
    given = _read_csv(table, settings)
    shared = Counter(path.name for path in paths)
    labels = []
    for path in paths:
        below = path.relative_to(settings.folder).as_posix()
        label = given.get(below)
        if label is None and path.name in given:
            if shared[path.name] > 1:
                raise DataError(
                    f"{table}: '{path.name}' is the name of {shared[path.name]} images",
                    hint=f"write the path below the folder, '{below}'",
                )
            label = given[path.name]
        if label is None:
            raise DataError(f"{table} has no label for {path}", hint=f"add the line {below},LABEL")
        labels.append(label)
    return labels


def _read_csv(table: Path, settings: ImageSettings) -> dict[str, int]:
    """Name -> label. Lines about images that are not there are fine: the folder may be a part of a larger set."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            rows = [[cell.strip() for cell in row] for row in csv.reader(stream)]
    except FileNotFoundError as error:
        raise DataError(
            f"{settings.file}: labels = {settings.labels!r}: {table} does not exist",
            hint='write "none", "folder", "name:REGEX" or the path of a CSV file',
        ) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read: {error}", hint="give a CSV file in UTF-8") from error
    given: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        if not any(row) or (number == 1 and [cell.lower() for cell in row] == ["name", "label"]):
            continue
        label = _whole_number(row[1]) if len(row) == 2 else None
        if label is None:
            raise DataError(
                f"{table}, line {number}: {','.join(row)!r} is not name,label", hint="the label is a whole number"
            )
        if given.setdefault(row[0], label) != label:
            raise DataError(f"{table}, line {number}: '{row[0]}' has another label above", hint="keep one of them")
    return given


def _whole_number(text: str | None) -> int | None:
    """None for anything but a decimal number that fits int64."""
    return int(text) if text is not None and re.fullmatch(r"[+-]?[0-9]{1,18}", text) else None
