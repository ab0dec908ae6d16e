"""What lies beside a model for TensorRT: how to build its engine, the engines, and settings for onnxruntime."""

from __future__ import annotations

import json
import shlex
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qcompiler.lower.tensorrt.engine import Engine, engine_record
from qcompiler.lower.tensorrt.plugins import Plugins
from qcompiler.lower.tensorrt.profiles import Shapes

__all__ = ["FOLDER", "Deployment", "KeptFolder", "build_settings", "trtexec_command", "write_settings"]

FOLDER = "tensorrt"
"""The folder of all this beside ``model.onnx``."""


class KeptFolder:
    """A folder that goes when nobody has this any more."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="qcompiler-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)


@dataclass(frozen=True, eq=False)
class Deployment:
    """``settings`` are what ``build.json`` holds, ``planned`` the names of int8 nodes, ``package`` what built engines,
    empty where nothing did. ``held`` is a folder with the files of ``engines``, which goes with the last of those that
    have it."""

    settings: dict[str, Any]
    planned: tuple[str, ...]
    plugins: Plugins | None = None
    package: str = ""
    engines: tuple[Engine, ...] = ()
    problems: tuple[str, ...] = ()
    held: KeptFolder | None = None

    @property
    def command(self) -> str:
        """The command line that builds the engine in the folder; trtexec cannot register plugins."""
        return trtexec_command(self.settings) if self.plugins is None else "python3 build_engine.py"

    def record(self) -> dict[str, Any]:
        """The report's ``tensorrt``, and its ``fused`` by what was found in the engines."""
        engines = [engine_record(engine, self.planned) for engine in self.engines]
        known = [item for item in engines if item["layers"]]
        left = sorted({name for item in known for name in item["left_float"]})
        fused = {"planned": len(self.planned), "found": len(self.planned) - len(left), "left_float": left}
        return {
            "tensorrt": {
                "package": self.package or None,
                "command": self.command,
                "profile": self.settings["profile"],
                "engines": engines,
            },
            "fused": fused if known else None,
        }  # fmt: skip

    def write(self, folder: Path) -> None:
        """Write the folder ``tensorrt`` into ``folder``."""
        inside = folder / FOLDER
        inside.mkdir()
        write_settings(inside, self.settings)
        if self.plugins is not None:
            self.plugins.write(inside)
        shutil.copyfile(Path(__file__).with_name("build_engine.py"), inside / "build_engine.py")
        script = inside / "build.sh"
        script.write_text(_SHELL.format(command=self.command), encoding="utf-8")
        script.chmod(0o755)
        (inside / "onnxruntime.json").write_text(_json(_providers(self.settings["profile"])), encoding="utf-8")
        if self.held is not None:
            for path in sorted(self.held.folder.glob("*")):
                if path.suffix in (".engine", ".cache") or path.name.startswith("layers."):
                    shutil.copyfile(path, inside / path.name)


_SHELL = """#!/bin/sh
# Builds the engine for the card that is here. For TensorRT for RTX: build_engine.py
cd "$(dirname "$0")" || exit 1
{command} "$@"
"""


def build_settings(
    profile: Shapes, architectures: Sequence[int], refit: bool, model: str = "../model.onnx", plugins: bool = False
) -> dict[str, Any]:
    """What ``build.json`` holds: the model's path from there, the profile, cards and options."""
    return {
        "model": model,
        "profile": {name: [list(shape) for shape in shapes] for name, shapes in profile.items()},
        "architectures": [f"sm_{capability}" for capability in architectures],
        "refit": refit,
        "plugins": "register_plugins.py" if plugins else None,
    }


def write_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Write ``build.json`` into ``folder``."""
    (folder / "build.json").write_text(_json(settings), encoding="utf-8")


def trtexec_command(settings: dict[str, Any]) -> str:
    """The command line that builds the engine from the folder of ``build.json``."""
    words = ["trtexec", f"--onnx={settings['model']}", "--saveEngine=model.engine", "--stronglyTyped"]
    words += ["--timingCacheFile=timing.cache", "--profilingVerbosity=detailed", "--exportLayerInfo=layers.json"]
    for place, option in enumerate(("min", "opt", "max")):
        if settings["profile"]:
            words.append(f"--{option}Shapes={_shapes(settings['profile'], place)}")
    if settings["refit"]:
        words.append("--refit")
    return shlex.join(words)


def _shapes(profile: Any, place: int) -> str:
    return ",".join(f"{name}:{'x'.join(map(str, shapes[place]))}" for name, shapes in profile.items())


def _providers(profile: Any) -> dict[str, Any]:
    """Session options and providers for onnxruntime: TensorRT's, then CUDA's for what TensorRT does not take.

    Optimizations are off: they would fold and move the pairs that TensorRT wants to see.
    """
    tensorrt = {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": "engine_cache",
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": "engine_cache",
    }
    rtx = {"nv_runtime_cache_path": "engine_cache"}
    for place, option in enumerate(("min", "opt", "max")):
        if profile:
            tensorrt[f"trt_profile_{option}_shapes"] = _shapes(profile, place)
            rtx[f"nv_profile_{option}_shapes"] = _shapes(profile, place)
    behind: list[list[Any]] = [["CUDAExecutionProvider", {}], ["CPUExecutionProvider", {}]]
    return {
        "session_options": {"graph_optimization_level": "ORT_DISABLE_ALL"},
        "providers": [["TensorrtExecutionProvider", tensorrt], *behind],
        "providers_for_rtx": [["NvTensorRTRTXExecutionProvider", rtx], *behind],
    }


def _json(record: Any) -> str:
    return json.dumps(record, indent=1) + "\n"
