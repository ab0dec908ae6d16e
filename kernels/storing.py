"""Cubins in a folder: ``index.json`` says what each is for, ``sm_90/KEY.cubin`` and the like hold them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qcompiler.errors import ImportFailure
from qcompiler.kernels.building import Built, Specialization

__all__ = ["KernelSet", "read_kernels", "write_kernels"]

_SCHEMA = 1


@dataclass(frozen=True, eq=False)
class KernelSet:
    """Cubins by specialization and architecture; ``problems`` are those that could not be compiled, in words."""

    architectures: tuple[int, ...]
    built: Mapping[Specialization, Mapping[int, Built]]
    problems: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """The report's ``kernels``."""
        return {"kernels": self._counts()}

    def write(self, folder: Path) -> None:
        """Write the folder ``kernels`` into ``folder``."""
        write_kernels(folder / "kernels", self)

    def _counts(self) -> dict[str, Any]:
        size = sum(len(made.cubin) for by_card in self.built.values() for made in by_card.values())
        names = [f"sm_{capability}" for capability in self.architectures]
        return {"architectures": names, "built": len(self.built), "bytes": size, "problems": list(self.problems)}


def write_kernels(folder: Path, kernels: KernelSet) -> None:
    """Write cubins by architecture and what is needed to launch them."""
    records = []
    for item, built in kernels.built.items():
        cubins = {}
        for capability, made in sorted(built.items()):
            path = folder / f"sm_{capability}" / f"{item.key}.cubin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(made.cubin)
            cubins[str(capability)] = {
                "file": f"sm_{capability}/{path.name}", "entry": made.entry, "shared": made.shared,
                "warps": made.warps, "hidden": made.hidden,
            }  # fmt: skip
        records.append({"key": item.key, **item.record(), "cubins": cubins})
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"schema": _SCHEMA, "kernels": records}, indent=1)
    (folder / "index.json").write_text(text + "\n", encoding="utf-8")


def read_kernels(folder: Path, capability: int) -> tuple[int, dict[str, Built]]:
    """The newest architecture of which a device of ``capability`` can run cubins, and these by key; 0 and none where
    there are none or no folder.

    Raises ImportFailure for an index that cannot be read or a file that is missing.
    """
    index = folder / "index.json"
    if not index.is_file():
        return 0, {}
    found: dict[str, Built] = {}
    try:
        record = json.loads(index.read_text(encoding="utf-8"))
        if record["schema"] != _SCHEMA:
            raise ImportFailure(f"{index} is of schema {record['schema']}", hint="use a newer qcompiler")
        there = {int(each) for item in record["kernels"] for each in item["cubins"]}
        fitting = [each for each in there if each // 10 == capability // 10 and each <= capability]
        made_for = max(fitting, default=0)
        for item in record["kernels"]:
            one = item["cubins"].get(str(made_for))
            if one is not None:
                cubin = (folder / one["file"]).read_bytes()
                found[item["key"]] = Built(cubin, one["entry"], one["shared"], one["warps"], one["hidden"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ImportFailure(f"{index} cannot be read: {error}", hint="compile again") from None
    return made_for, found
