"""Registers the plugins beside this file with TensorRT: ``import register_plugins; register_plugins.register()``.

Needs the Python package of TensorRT 10.9 or later, whose plugins can be compiled ahead of time, before the model is
parsed. Engines hold what they need and are run without it. Experimental: no card has run one of these plugins.
"""

from __future__ import annotations

import ctypes
import importlib
import inspect
import json
from pathlib import Path
from typing import Any

__all__ = ["capability_here", "register"]

_FOLDER = Path(__file__).resolve().parent
_TYPES = {"float32": "FP32", "float16": "FP16", "int8": "INT8", "int32": "INT32"}


def capability_here() -> int:
    """Compute capability of the first card, 10 * major + minor. Raises OSError without a driver."""
    driver = ctypes.CDLL("libcuda.so.1")
    device, numbers = ctypes.c_int(), (ctypes.c_int(), ctypes.c_int())
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
        raise OSError("there is no card that the driver knows")
    for place, number in enumerate(numbers):
        driver.cuDeviceGetAttribute(ctypes.byref(number), 75 + place, device)
    return 10 * numbers[0].value + numbers[1].value


def register(capability: int | None = None) -> list[str]:
    """Register every plugin for cards of ``capability``, that of the card here by default; their names.

    Raises LookupError where nothing was compiled for such a card, ImportError for a TensorRT without such plugins.
    """
    api = importlib.import_module("tensorrt.plugin")
    trt = importlib.import_module("tensorrt")
    if not hasattr(api, "aot_impl") or not hasattr(api, "KernelLaunchParams"):
        raise ImportError(f"TensorRT {trt.__version__} has no plugins that are compiled ahead of time")
    wanted = capability_here() if capability is None else capability
    names = []
    for item in json.loads((_FOLDER / "plugins.json").read_text()):
        fitting = [int(key) for key in item["cards"] if _runs(int(key), wanted)]
        if not fitting:
            raise LookupError(f"plugin {item['name']} was compiled for {', '.join(item['cards'])}, not for {wanted}")
        _define(trt, api, item, item["cards"][str(max(fitting))])
        names.append(item["name"])
    return names


def _runs(made_for: int, here: int) -> bool:
    """True when PTX for ``made_for`` loads on a card ``here``: from Hopper on it is for that architecture alone."""
    return made_for == here or (made_for < min(here, 90) and made_for // 10 == here // 10)


def _define(trt: Any, api: Any, item: dict[str, Any], card: dict[str, Any]) -> None:
    plugin = f"qcompiler::{item['name']}"
    inputs = [f"in{place}" for place in range(len(item["inputs"]))]
    outputs = item["outputs"]

    def describe(*_: Any) -> Any:
        made = [api.from_shape_expr(tuple(one["shape"]), getattr(trt, one["dtype"])) for one in outputs]
        return tuple(made) if len(made) > 1 else made[0]

    def implement(*_: Any) -> Any:
        launch = api.KernelLaunchParams()
        launch.grid_x, launch.grid_y, launch.grid_z = card["grid"]
        launch.block_x, launch.shared_mem = card["threads"], card["shared"]
        sizes = api.SymIntExprs(len(item["sizes"]))
        for place, size in enumerate(item["sizes"]):
            sizes[place] = api.SymInt32(size)
        return card["entry"], (_FOLDER / "plugins" / card["ptx"]).read_text(), launch, sizes

    def combine(*_: Any) -> Any:
        kinds = [_TYPES[kind] for kind in (*item["inputs"], *(one["dtype"] for one in outputs))]
        return [api.AutoTuneCombination(", ".join(kinds), "LINEAR")]

    desc, many = api.TensorDesc, tuple[(api.TensorDesc,) * len(outputs)]  # type: ignore[misc]
    answer = tuple[str, str, api.KernelLaunchParams, api.SymIntExprs]
    _sign(describe, dict.fromkeys(inputs, desc), many if len(outputs) > 1 else desc)
    _sign(implement, {**dict.fromkeys(inputs, desc), "outputs": many, "tactic": int}, answer)
    _sign(combine, {**dict.fromkeys(inputs, desc), "outputs": many}, list[api.AutoTuneCombination])
    api.register(plugin)(describe)
    api.aot_impl(plugin)(implement)
    api.autotune(plugin)(combine)


def _sign(function: Any, parameters: dict[str, Any], answer: Any) -> None:
    """TensorRT reads what a function takes from its signature."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    made = [inspect.Parameter(name, kind, annotation=annotation) for name, annotation in parameters.items()]
    function.__signature__ = inspect.Signature(made, return_annotation=answer)
