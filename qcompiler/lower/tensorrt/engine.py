"""Engines, built in a process of their own: a builder that crashes takes nothing with it."""

from __future__ import annotations

import functools
import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from qcompiler.errors import LoweringError
from qcompiler.ir import Model
from qcompiler.lower.tensorrt.cost import eight_bits
from qcompiler.lower.tensorrt.plan import Layer, layers_of_inspector, layers_of_plan

__all__ = ["Built", "Engine", "build_engines", "engine_record", "package", "planned_8_bits", "refusal"]

_PACKAGES = ("tensorrt", "tensorrt_rtx")
_LONGEST = 3600.0  # seconds that a build may take: TensorRT measures every kernel that it could use


@dataclass(frozen=True)
class Engine:
    """A built engine and its layers; ``path`` is where it lies."""

    architecture: str
    path: Path
    seconds: float
    layers: tuple[Layer, ...]


@functools.cache
def package() -> str:
    """Name and version of the package that builds engines here; empty without one."""
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:  # a folder of that name is no package
            try:
                return f"{name} {version(name)}"
            except PackageNotFoundError:
                return name
    return ""


def planned_8_bits(model: Model) -> list[str]:
    """Names of the products of the main graph that are written to run in 8 bits."""
    return [node.name for node in model.graph if eight_bits(node)]


def refusal(folder: Path) -> str:
    """What TensorRT's parser says of the first node that it refuses, with the node; empty where it takes all of them,
    and where it cannot be asked. ``folder`` holds ``build.json``."""
    said, _ = _run(folder, ["--check"])
    return next((_refused(item["refused"]) for item in said if "refused" in item), "")


@dataclass(frozen=True)
class Built:
    """``engines`` of one build, by which package, and what could not be built, in words."""

    package: str
    engines: tuple[Engine, ...]
    problems: tuple[str, ...]


def build_engines(folder: Path) -> Built:
    """The engines that ``folder/build.json`` asks for; they and files about them are left in ``folder``."""
    said, failure = _run(folder, [])
    engines: list[Engine] = []
    problems: list[str] = []
    builder = ""
    for item in said:
        if "package" in item:
            builder = f"{item['package']} {item['version']}"
        elif "refused" in item:
            problems.append(f"no engine could be built: {_refused(item['refused'])}")
            failure = ""
        elif "problem" in item:
            problems.append(f"no engine for {item['arch']}: {item['problem']}")
        elif "file" in item:
            path = folder / item["file"]
            try:
                layers = _layers(path)
            except LoweringError as error:
                layers = []
                problems.append(f"the layers of {item['file']} are not known: {error.what}")
            engines.append(Engine(item["arch"], path, item["seconds"], tuple(layers)))
    if failure and not problems:
        problems.append(f"no engine could be built: {failure}")
    return Built(builder, tuple(engines), tuple(problems))


def _layers(path: Path) -> list[Layer]:
    said = path.with_name(path.name.replace("model.", "layers.").replace(".engine", ".json"))
    if said.is_file():
        return layers_of_inspector(said.read_text(encoding="utf-8"))
    return layers_of_plan(path.read_bytes())


def engine_record(engine: Engine, planned: Sequence[str]) -> dict[str, Any]:
    """What the report says of ``engine``: of the nodes ``planned`` in 8 bits those found so, and the rest by name.
    Where its layers are not known nothing was found, and nothing is missed."""
    known = bool(engine.layers)
    found = {node for layer in engine.layers if layer.in_8_bits for node in layer.nodes}
    return {
        "architecture": engine.architecture,
        "file": f"tensorrt/{engine.path.name}",
        "bytes": engine.path.stat().st_size,
        "seconds": engine.seconds,
        "layers": len(engine.layers),
        "products": sum(layer.multiplies for layer in engine.layers),
        "int8": sum(layer.in_8_bits for layer in engine.layers),
        "reformats": sum(layer.moves for layer in engine.layers),
        "planned": len(planned),
        "found": sum(name in found for name in planned) if known else None,
        "left_float": [name for name in planned if name not in found] if known else [],
    }


def _run(folder: Path, options: Sequence[str]) -> tuple[list[dict[str, Any]], str]:
    """The lines that the build script says, and why it failed; empty where it did not."""
    script = Path(__file__).with_name("build_engine.py")
    command = [sys.executable, str(script), "--settings", str(folder / "build.json"), *options]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST, check=False)
    except subprocess.TimeoutExpired:
        return [], f"it took more than {_LONGEST / 60:g} minutes"
    said = [record for line in ended.stdout.splitlines() if (record := _record(line)) is not None]
    if not ended.returncode:
        return said, ""
    words = ended.stderr.strip().splitlines()
    return said, words[-1] if words else f"the builder ended with status {ended.returncode}"


def _record(line: str) -> dict[str, Any] | None:
    """A line that the script itself says; libraries may say others."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _refused(item: dict[str, str]) -> str:
    where = f"node '{item['node']}' ({item['op']})" if item["op"] else "the model"
    return f"TensorRT's parser refuses {where}: {' '.join(item['words'].split())}"
