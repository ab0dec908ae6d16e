"""Our kernels as plugins of TensorRT, compiled ahead of time. Experimental: no card has run one.

A plugin of that kind is PTX, a grid, and arguments in a fixed order: inputs, int32 scalars, outputs. That is the order
of our kernels, whose scales are tensors; what Triton appends to the arguments has to go. A plugin stands for one call:
its shapes are those of one run, since grids follow from them.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import onnx
import onnx_graphsurgeon as gs

from qcompiler.errors import LoweringError
from qcompiler.ir import Model
from qcompiler.kernels import CARDS, DOMAIN, KERNELS, Given, Held, Kernel, Launch, Made, Operand, Size
from qcompiler.kernels.building import Built, build, specialization
from qcompiler.lower.cuda.partition import program_of
from qcompiler.onnx_io import to_proto
from qcompiler.runtime import Executor, KernelStep

__all__ = ["NAMESPACE", "Plugins", "has_kernels", "stage_plugins", "without_hidden"]

NAMESPACE = "qcompiler"
"""Of the plugins in TensorRT's registry."""


@dataclass(frozen=True)
class Plugins:
    """``proto`` has plugin nodes where ``qcompiler`` nodes were; ``index`` says what each is, ``ptx`` holds the files
    that it names."""

    proto: onnx.ModelProto
    index: tuple[dict[str, Any], ...]
    ptx: Mapping[str, str]

    def write(self, folder: Path) -> list[Path]:
        """Write the model, ``plugins.json``, the PTX and the script that registers them into ``folder``; the files of
        the model."""
        onnx.save(self.proto, folder / "model.onnx")
        (folder / "plugins.json").write_text(json.dumps(self.index, indent=1) + "\n", encoding="utf-8")
        inside = folder / "plugins"
        inside.mkdir()
        for name, text in self.ptx.items():
            (inside / name).write_text(text, encoding="utf-8")
        script = "register_plugins.py"
        shutil.copyfile(Path(__file__).with_name(script), folder / script)
        return [folder / "model.onnx"]


def has_kernels(model: Model) -> bool:
    """True for a model with nodes that our kernels run."""
    return any(node.domain == DOMAIN for node in model.graph)


def stage_plugins(model: Model, feeds: Mapping[str, Any], architectures: Sequence[int]) -> Plugins:
    """The plugins of ``model`` for inputs of the shapes of ``feeds``.

    Raises LoweringError where Triton is not installed, and for a node that no plugin can stand for. One to three
    seconds a kernel and architecture, the first time.
    """
    program = program_of(model)
    calls = Executor(program).operands(feeds)
    index: list[dict[str, Any]] = []
    files: dict[str, str] = {}
    arguments: dict[str, tuple[str, tuple[Any, ...]]] = {}
    for place, operands in calls.items():
        step = program.steps[place]
        assert isinstance(step, KernelStep)
        kernel = KERNELS[step.op]
        try:
            if reason := kernel.refusal(operands, step.attributes):
                raise LoweringError(reason)
            record, launch = _plugin(f"{step.op}_{len(index)}", kernel, operands, step.attributes, architectures, files)
        except LoweringError as error:
            raise LoweringError(f"{step.node} has no plugin: {error.what}", hint=error.hint) from None
        index.append(record)
        arguments[step.node] = (record["name"], launch.arguments)
    return Plugins(_staged(to_proto(model), arguments), tuple(index), files)


def _plugin(
    name: str, kernel: Kernel, operands: Sequence[Operand | None], attributes: Mapping[str, Any],
    architectures: Sequence[int], files: dict[str, str],
) -> tuple[dict[str, Any], Launch]:  # fmt: skip
    """What ``plugins.json`` says of one call, and its launch. The PTX goes into ``files``."""
    results = kernel.results(operands, attributes)
    cards: dict[str, Any] = {}
    launch: Launch | None = None
    for capability in architectures:
        launch = kernel.launch(operands, attributes, CARDS[capability])
        _check_order(launch)
        item = specialization(launch, operands, results)
        (made,) = build([item], capability)
        if not isinstance(made, Built):
            raise LoweringError(made)
        file = f"{item.key}.sm_{capability}.ptx"
        files[file] = without_hidden(made.ptx, made.entry, made.hidden)
        cards[str(capability)] = {
            "ptx": file, "entry": made.entry, "shared": made.shared, "threads": 32 * made.warps,
            "grid": list(launch.grid),
        }  # fmt: skip
    assert launch is not None
    inputs = [_type_of(argument, operands) for argument in launch.arguments if isinstance(argument, Given | Held)]
    sizes = [argument.value for argument in launch.arguments if isinstance(argument, Size)]
    # Two models in one process have plugins of their own; those of one call are told apart by their number.
    own = sha256(json.dumps([cards, inputs, sizes]).encode()).hexdigest()[:8]
    outputs = [{"dtype": dtype, "shape": list(shape)} for dtype, shape in results]
    return {"name": f"{name}_{own}", "inputs": inputs, "sizes": sizes, "outputs": outputs, "cards": cards}, launch


def _check_order(launch: Launch) -> None:
    ranks = [0 if isinstance(item, Given | Held) else 1 if isinstance(item, Size) else 2 for item in launch.arguments]
    made = [item.index for item in launch.arguments if isinstance(item, Made)]
    if ranks != sorted(ranks) or made != sorted(made):
        raise LoweringError("its arguments are not inputs, sizes and outputs in that order")


def _type_of(argument: Given | Held, operands: Sequence[Operand | None]) -> str:
    if isinstance(argument, Held):
        return argument.array.dtype.name
    operand = operands[argument.index]
    assert operand is not None
    return operand.dtype


def without_hidden(ptx: str, entry: str, hidden: int) -> str:
    """``ptx`` without the last ``hidden`` parameters of the kernel ``entry``, pointers that Triton appends.

    Raises LoweringError where the kernel uses them.
    """
    found = re.search(rf"(\.entry\s+{re.escape(entry)}\s*\()(.*?)(\))", ptx, re.DOTALL)
    if found is None:
        raise LoweringError(f"the PTX has no entry '{entry}'")
    parameters = found[2].split(",")
    kept, gone = parameters[: len(parameters) - hidden], parameters[len(parameters) - hidden :]
    for parameter in gone:
        name = parameter.split()[-1]
        if re.search(rf"\b{re.escape(name)}\b", ptx[found.end() :]):
            raise LoweringError("it uses memory that Triton hands over by itself")
    return f"{ptx[: found.start(2)]}{','.join(kept).rstrip()}\n{ptx[found.start(3) :]}"


def _staged(proto: onnx.ModelProto, arguments: Mapping[str, tuple[str, tuple[Any, ...]]]) -> onnx.ModelProto:
    """``proto`` with the nodes in ``arguments``, by name, as plugin nodes that read what their launch does."""
    graph = gs.import_onnx(proto)
    for node in graph.nodes:
        if node.domain != DOMAIN or node.name not in arguments:
            continue
        name, launched = arguments[node.name]
        inputs = []
        for place, argument in enumerate(launched):
            if isinstance(argument, Given):
                inputs.append(node.inputs[argument.index])
            elif isinstance(argument, Held):
                inputs.append(gs.Constant(f"{node.name}/argument_{place}", argument.array))
        node.op, node.domain, node.inputs = name, None, inputs
        node.attrs = {"plugin_namespace": NAMESPACE, "plugin_version": "1", "aot": 1}
    graph.functions = [function for function in graph.functions if function.domain != DOMAIN]
    staged: onnx.ModelProto = gs.export_onnx(graph.cleanup(), do_type_check=False)
    return staged
