"""Compiling launches ahead of time: which specialization a launch asks for, and the child process that builds it.

A specialization is a function, its constants, the types of its tensors and which of its sizes divide by 16. It is built
in a process of its own: Triton may be there to interpret in this one, and a fault of the compiler must not take the
compile with it. What was built is kept in the user's cache folder by everything that it depends on.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qcompiler.caching import cache_folder, keep
from qcompiler.errors import LoweringError
from qcompiler.kernels.registry import Given, Held, Launch, Made, Operand, Size

__all__ = ["Built", "Specialization", "build", "specialization"]

_SOURCES = Path(__file__).parent / "triton"
_POINTERS = {
    "int8": "*i8", "uint8": "*u8", "int32": "*i32", "float32": "*fp32", "float16": "*fp16",
}  # fmt: skip
_WIDE = 16  # bytes that one load takes at most, and what sizes have to divide by for it


@dataclass(frozen=True)
class Specialization:
    """What one cubin is made for. ``types`` are those of the tensors and sizes in the function's order ("i32"),
    ``divisible`` the places of sizes that are multiples of 16. Tensors stand at multiples of 16 bytes."""

    function: str
    types: tuple[str, ...]
    divisible: tuple[int, ...]
    constants: tuple[tuple[str, int], ...]
    warps: int
    stages: int

    def record(self) -> dict[str, Any]:
        """As JSON tells it."""
        return {
            "function": self.function, "types": list(self.types), "divisible": list(self.divisible),
            "constants": dict(self.constants), "warps": self.warps, "stages": self.stages,
        }  # fmt: skip

    @property
    def key(self) -> str:
        """A name for it that is the same in every process."""
        return hashlib.sha256(json.dumps(self.record(), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Built:
    """A cubin for one architecture: the name of its entry, the bytes of shared memory, how many warps, and how many
    pointers Triton appended to the arguments, which are null. ``ptx`` is there for what was built just now."""

    cubin: bytes
    entry: str
    shared: int
    warps: int
    hidden: int
    ptx: str = ""


def specialization(
    launch: Launch, operands: Sequence[Operand | None], results: Sequence[tuple[str, tuple[int, ...]]]
) -> Specialization:
    """What ``launch`` has to be compiled for. Raises LoweringError for sizes beyond 32 bits."""
    types: list[str] = []
    divisible: list[int] = []
    for place, item in enumerate(launch.arguments):
        match item:
            case Given(index):
                operand = operands[index]
                assert operand is not None
                types.append(_POINTERS[operand.dtype])
            case Held(array):
                types.append(_POINTERS[array.dtype.name])
            case Made(index):
                types.append(_POINTERS[results[index][0]])
            case Size(value):
                if value >= 1 << 31:
                    raise LoweringError("its sizes do not fit 32 bits")
                types.append("i32")
                if value % _WIDE == 0:
                    divisible.append(place)
    constants = tuple((name, int(value)) for name, value in launch.constants.items())
    return Specialization(
        launch.function, tuple(types), tuple(divisible), constants, launch.warps, launch.stages
    )  # fmt: skip


def build(wanted: Sequence[Specialization], capability: int, *, workers: int = 2) -> list[Built | str]:
    """Each of ``wanted`` compiled for ``capability``, or why it could not be.

    Raises LoweringError where Triton is not installed. Takes one to three seconds each, once: the results are kept in
    ``qcompiler/cubins`` of the user's cache folder.
    """
    home = cache_folder() / "cubins"
    stamp = _stamp(capability)
    found: list[Built | str | None] = [_read(home / f"{item.key}-{stamp}.json") for item in wanted]
    missing = [index for index, item in enumerate(found) if item is None]
    parts = [missing[start::workers] for start in range(workers) if missing[start::workers]]
    with ThreadPoolExecutor(max(len(parts), 1)) as pool:
        made = pool.map(lambda part: _in_child([wanted[index] for index in part], capability), parts)
        for part, answers in zip(parts, made, strict=True):
            for index, answer in zip(part, answers, strict=True):
                found[index] = answer
                if isinstance(answer, Built):
                    _write(home / f"{wanted[index].key}-{stamp}.json", answer)
    return [item for item in found if item is not None]


def _stamp(capability: int) -> str:
    """What a cubin depends on beside its specialization: the architecture, Triton, and the source of the kernels."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        triton = version("triton")
    except PackageNotFoundError:
        raise LoweringError("kernels are compiled by triton", hint="pip install 'qcompiler[triton]'") from None
    state = hashlib.sha256(f"{capability} {triton}".encode())
    for path in (Path(__file__).with_name("compiling.py"), *sorted(_SOURCES.glob("*.py"))):
        state.update(path.read_bytes())
    return state.hexdigest()[:16]


def _in_child(wanted: Sequence[Specialization], capability: int) -> list[Built | str]:
    """``wanted`` compiled by another process."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_DISABLE_LINE_INFO"] = "1"  # a third of the bytes, and nobody debugs them
    with tempfile.TemporaryDirectory(prefix="qcompiler-") as folder:
        order, answer = Path(folder) / "order.json", Path(folder) / "answer"
        order.write_text(json.dumps({"capability": capability, "wanted": [item.record() for item in wanted]}))
        command = [sys.executable, "-m", "qcompiler.kernels.compiling", str(order), str(answer)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        found: list[Built | str] = []
        for index in range(len(wanted)):
            said = _read(answer / f"{index}.json")
            lines = done.stderr.strip().splitlines() or [f"the compiler ended with {done.returncode}"]
            found.append(said if said is not None else lines[-1])
        return found


def _read(path: Path) -> Built | str | None:
    """What stands in a file of :func:`_write`; None where it cannot be read."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if "problem" in record:
            return str(record["problem"])
        return Built(
            bytes.fromhex(record["cubin"]), record["entry"], record["shared"], record["warps"], record["hidden"],
            record["ptx"],
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, built: Built) -> None:
    """Keep ``built`` as :func:`_read` takes it."""
    record = {
        "cubin": built.cubin.hex(), "entry": built.entry, "shared": built.shared, "warps": built.warps,
        "hidden": built.hidden, "ptx": built.ptx,
    }  # fmt: skip
    keep(path, json.dumps(record))
