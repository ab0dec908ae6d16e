"""Target ``tensorrt``: explicit quantization by Q/DQ, strongly typed, and engines where TensorRT is installed."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from qcompiler.dtypes import DType
from qcompiler.errors import LoweringError, UsageError
from qcompiler.ir import Model, Node, QuantSpec, Value, clone_model, integer_range
from qcompiler.kernels import CARDS, Card
from qcompiler.lower.cuda.emission import emit_kernels
from qcompiler.lower.cuda.legality import group_around
from qcompiler.lower.cuda.partition import open_program
from qcompiler.lower.halves import CUDA_HALVES, float_values, magnitude, to_halves
from qcompiler.lower.rounding import in_float32
from qcompiler.lower.target import DYNAMIC, HALVES, STATIC, WEIGHTS, Group, Plan, Target
from qcompiler.lower.tensorrt.cost import node_seconds, runs_as
from qcompiler.lower.tensorrt.deployment import Deployment, KeptFolder, build_settings, write_settings
from qcompiler.lower.tensorrt.emission import emit_pairs, emit_weights
from qcompiler.lower.tensorrt.engine import build_engines, package, planned_8_bits, refusal
from qcompiler.lower.tensorrt.legality import find_groups
from qcompiler.lower.tensorrt.placement import place
from qcompiler.lower.tensorrt.plugins import Plugins, has_kernels, stage_plugins
from qcompiler.lower.tensorrt.profiles import dynamic_inputs, parse_profile, profile_of_samples
from qcompiler.lower.weight_only import emit_weight_only, needed_opset
from qcompiler.onnx_io import open_session, save, upgrade_opset
from qcompiler.runtime import Runner

__all__ = ["TensorRt"]

_FLOATS = {"float16": DType.FLOAT16, "bfloat16": DType.BFLOAT16, "float32": None}
_WEIGHTS = ("int8", "float")
_HALVES_SINCE = {"float16": 19, "bfloat16": 22, "float32": 0}  # operator sets in which Q, DQ and products know them
_BFLOAT16_OPS = frozenset(item for item in CUDA_HALVES if ":" not in item) - {"ConvTranspose", "HardSwish"} | {
    "DequantizeLinear", "GroupNormalization", "InstanceNormalization", "QuantizeLinear", "ReduceMean", "Resize",
}  # fmt: skip
_OPERATORS = {DType.BFLOAT16: _BFLOAT16_OPS, DType.FLOAT16: _BFLOAT16_OPS | {"ConvTranspose", "HardSwish", "Mish"}}
"""Operators that TensorRT has in each type and whose result does not hang on more digits."""
_ARCHITECTURES = (86, 89, 120)
_ELSEWHERE = "--set tensorrt.engine=false leaves engines to onnxruntime's TensorRT provider, which runs it elsewhere"
_PRODUCTS = {"int8": DType.INT8, "float8": DType.FLOAT8E4M3FN}
_FLOAT8_SINCE = 89  # compute capability of the first cards that multiply in 8-bit floats


@dataclass(frozen=True)
class TensorRt(Target):
    """TensorRT on a card of NVIDIA's.

    ``architectures`` are what engines are built for where the package can build for cards that are not here (TensorRT
    for RTX; None: sm_86, sm_89 and sm_120); costs are estimated for the first of them. Options, ``--set
    tensorrt.OPTION=VALUE``: ``products`` is what is multiplied, int8 or float8 (E4M3, from sm_89 on); ``floats`` what
    stays float, float16, bfloat16 or float32; ``weights`` how int8 weights are stored, int8 or float (behind a
    QuantizeLinear, for readers that know no other form); ``transposed`` quantizes transposed convolutions too;
    ``profile`` is INPUT:MIN,OPT,MAX for inputs with dynamic axes; ``refit`` builds engines whose weights can be
    replaced; ``engine`` false leaves building to others; ``plugins``, an experiment, offers matrix products whose rows
    are quantized in every run, by kernels that become plugins.
    """

    architectures: tuple[int, ...] | None = None
    products: str = "int8"
    floats: str = "float16"
    weights: str = "int8"
    transposed: bool = False
    profile: str = ""
    refit: bool = False
    engine: bool = True
    plugins: bool = False

    name: ClassVar[str] = "tensorrt"
    on_card: ClassVar[bool] = True
    description: ClassVar[str] = "TensorRT: int8 around zero by Q/DQ, float16 for the rest, and engines"
    options: ClassVar[tuple[str, ...]] = (
        "products",
        "floats",
        "weights",
        "transposed",
        "profile",
        "refit",
        "engine",
        "plugins",
    )

    def __post_init__(self) -> None:
        if self.products not in _PRODUCTS:
            raise ValueError(f"products cannot be '{self.products}'; they are one of {', '.join(_PRODUCTS)}")
        oldest = min(self.cards, default=_FLOAT8_SINCE)
        if self.products == "float8" and oldest < _FLOAT8_SINCE:
            raise ValueError(f"sm_{oldest} has no 8-bit floats; cards from sm_{_FLOAT8_SINCE} on have")
        if self.floats not in _FLOATS:
            raise ValueError(f"floats cannot be '{self.floats}'; it is one of {', '.join(_FLOATS)}")
        if self.plugins and (self.products != "int8" or self.floats == "bfloat16"):
            raise ValueError("plugins multiply int8, and read and give float16 or float32")
        if self.weights not in _WEIGHTS:
            raise ValueError(f"weights cannot be '{self.weights}'; it is one of {', '.join(_WEIGHTS)}")

    @property
    def cards(self) -> tuple[int, ...]:
        """The architectures that engines are built for: those that were asked for, else the usual ones that have what
        is multiplied."""
        return self._usual if self.architectures is None else self.architectures

    @property
    def _usual(self) -> tuple[int, ...]:
        return tuple(item for item in _ARCHITECTURES if self.products == "int8" or item >= _FLOAT8_SINCE)

    @property
    def card(self) -> Card:
        """The card that costs are estimated for."""
        return CARDS[(self.cards or self._usual)[0]]

    @property
    def estimated_for(self) -> str:  # type: ignore[override]
        """Name and architecture of that card."""
        return self.card.label

    def unavailable(self) -> str:
        """Never: the model is made and checked without TensorRT."""
        return ""

    def stand_in(self) -> str:
        """onnxruntime on the processor, which computes what the graph says; engines are built and not run here."""
        builds = f"engines by {package()}" if package() else "no engines: pip install 'qcompiler[tensorrt-rtx]'"
        return f"numbers by onnxruntime's CPU provider; {builds}"

    @property
    def timed_here(self) -> bool:
        """Never: how long an engine takes is for trtexec to say, on the card that it is built for."""
        return False

    def estimated(self, model: Model) -> Mapping[str, float] | None:
        """Seconds of each node by the roofline of the card."""
        return node_seconds(model, self.card)

    def runs_as(self, node: Node) -> str:
        """Products of two DequantizeLinear run in 8 bits."""
        return runs_as(node)

    def refuses(self, spec: QuantSpec) -> str:
        """Everything but 8 bits around zero, and 4 for weights."""
        if spec.dtype in HALVES:
            return ""
        if not spec.symmetric:
            return "TensorRT takes integers around zero alone"
        weights = spec.axis is not None and spec.dtype in (DType.INT4, DType.INT8)
        if spec.dtype is not _PRODUCTS[self.products] and not weights:
            beside = f" beside products in {self.products}" if spec.dtype in _PRODUCTS.values() else ""
            return f"TensorRT has no {spec.dtype.name.lower()} there{beside}"
        return "" if spec.dtype is DType.INT4 or not spec.block else "TensorRT has blocks of 4 bits alone"

    def activation_spec(self) -> QuantSpec:
        """Symmetric per tensor."""
        return QuantSpec(_PRODUCTS[self.products], symmetric=True)

    def weight_spec(self, axis: int) -> QuantSpec:
        """Symmetric per output channel."""
        return QuantSpec(_PRODUCTS[self.products], symmetric=True, axis=axis)

    def groups(self, model: Model) -> tuple[list[Group], dict[Node, str]]:
        """Convolutions and matrix products, those of two activations too; see :mod:`.legality`."""
        return find_groups(model, self.transposed)

    def kinds(self, group: Group) -> frozenset[str]:
        """TensorRT finds no ranges by itself, so only plugins are dynamic; products of two activations have no
        weights."""
        if group.weight is None:
            return frozenset({STATIC})
        own = self.plugins and group.anchor.is_op("MatMul", "Gemm")
        return frozenset({STATIC, DYNAMIC, WEIGHTS} if own else {STATIC, WEIGHTS})

    def observed(self, model: Model, groups: Collection[Group]) -> list[Value]:
        """Everything that is float: what is not quantized may run in float16 where its range is known."""
        return float_values(model, groups)

    def lower(self, model: Model, plan: Plan) -> Model:
        """Pairs around static groups, weights behind a DequantizeLinear, and halves for the rest."""
        mapping: dict[Value, Value] = {}
        copy = clone_model(model, mapping)
        half = _FLOATS[self.floats]
        since = max(_HALVES_SINCE[self.floats], _HALVES_SINCE["float16"] if self.products == "float8" else 0)
        since = max(since, needed_opset(_portable(plan)))
        if copy.opset < since and (reason := upgrade_opset(copy, since)):
            raise LoweringError(f"Q/DQ in {self.products} and {self.floats} need operator set {since}: {reason}")
        static = [group for group, form in plan.items() if form.kind == STATIC]
        kernels = {group_around(group.anchor): form for group, form in plan.items() if form.kind == DYNAMIC}
        taken = {node for group in kernels for node in group.nodes}
        grid = None if half is None else half.numpy
        emit_pairs(copy, mapping, place(model.graph, static, taken), grid)
        emit_weights(copy, mapping, plan, static, self.weights == "float", grid)
        emit_weight_only(copy, mapping, _portable(plan))
        if kernels:
            emit_kernels(copy, mapping, kernels, ())
        if half is not None:
            to_halves(copy, _magnitudes(copy), operators=_OPERATORS[half], dtype=half)
        return copy

    def _plugins(
        self, model: Model, feeds: Mapping[str, Any], shapes: Mapping[str, tuple[tuple[int, ...], ...]]
    ) -> tuple[Plugins | None, str]:
        """The plugins of ``model``, or why there are none."""
        varied = next((name for name, sizes in shapes.items() if len(set(sizes)) > 1), None)
        if varied is not None:
            return None, f"a plugin stands for one shape, and the profile of input '{varied}' has several"
        usual = {name: np.zeros(sizes[1], array.dtype) if sizes else array
                 for name, array in feeds.items() for sizes in [shapes.get(name)]}  # fmt: skip
        try:
            return stage_plugins(model, usual, self.cards), ""
        except LoweringError as error:
            return None, error.what

    def safer(self) -> Target | None:
        """With float32 for what is not quantized."""
        return replace(self, floats="float32") if self.floats != "float32" else None

    def open(self, model: Model, threads: int) -> Runner:
        """onnxruntime on the processor, which does what the graph says, halves rounded; nothing is fused. Kernels run
        by their references."""
        if has_kernels(model):
            return open_program(model, threads=threads, device="cpu")
        if any(value.dtype in HALVES for node in model.graph for value in node.outputs):
            model = clone_model(model)
            in_float32(model.graph)
        return open_session(model, threads=threads, optimize=False)

    def check(self, model: Model, has_data: bool) -> None:
        """Dynamic inputs need a profile, or data whose shapes make one. Raises UsageError."""
        dynamic = dynamic_inputs(model)
        if self.profile:
            parse_profile(self.profile, model)
        elif dynamic and not has_data:
            name, shape = next(iter(dynamic.items()))
            axes = "x".join("?" if size is None else str(size) for size in shape)
            raise UsageError(
                f"input '{name}' [{axes}] has dynamic axes and no profile says which sizes an engine has to take",
                hint=f"give --data, or --set 'tensorrt.profile={name}:MIN,OPT,MAX' with shapes like 1x3x640x640",
            )

    def accepts(self, model: Model) -> None:
        """Raises LoweringError for the first node that TensorRT's parser refuses, where it is installed."""
        if self.engine and package():
            with tempfile.TemporaryDirectory(prefix="qcompiler-") as name:
                save(model, Path(name) / "model.onnx")
                write_settings(Path(name), build_settings({}, (), False, "model.onnx"))
                refused = refusal(Path(name))
            if refused:
                raise LoweringError(refused, hint=_ELSEWHERE)

    def artifacts(
        self, model: Model, samples: Iterable[Mapping[str, Any]], progress: Callable[[str], None]
    ) -> Deployment:
        """Scripts and settings, and where TensorRT is installed the engines with what is in them; ``problems`` say
        what could not be built."""
        samples = iter(samples)
        first = next(samples)
        seen = itertools.chain([first], samples)
        shapes = parse_profile(self.profile, model) if self.profile else profile_of_samples(model, seen)
        problems = [
            f"input '{name}' has dynamic axes: engines take {_said(low, high)}, as the data has it"
            f" (`--set tensorrt.profile={name}:MIN,OPT,MAX` for other sizes)"
            for name, (low, _, high) in shapes.items()
            if not self.profile
        ]
        if self.floats != "float32" and not any(value.dtype in HALVES for value in _values(model)):
            problems.append(
                "nothing in the model is in halves, and cards are slower in float32: recipes that calibrate, such as"
                " int8, find out what fits"
            )
        plugins, stuck = None, ""
        if has_kernels(model) and self.cards:
            progress("compiling plugins")
            plugins, stuck = self._plugins(model, first, shapes)
        made = Deployment(
            build_settings(shapes, self.cards, self.refit, "model.onnx" if plugins else "../model.onnx", bool(plugins)),
            tuple(planned_8_bits(model)),
            plugins,
        )
        if plugins is not None:
            problems.append("plugins are an experiment that no card has run")
        if stuck:
            problems.append(f"TensorRT cannot take the model: {stuck}")
        if not self.engine or not self.cards or stuck:
            return replace(made, problems=tuple(problems))
        if not package():
            problems.append(
                f"no engine was built, since TensorRT is not here: run tensorrt/build.sh where it is ({made.command}),"
                " or pip install 'qcompiler[tensorrt]' (with a card) or 'qcompiler[tensorrt-rtx]' (without one)"
            )
            return replace(made, problems=tuple(problems))
        progress("building engines")
        held = KeptFolder()
        folder = held.folder
        written = save(model, folder / "model.onnx") if plugins is None else plugins.write(folder)
        write_settings(folder, made.settings | {"model": "model.onnx"})
        built = build_engines(folder)
        for path in written:
            path.unlink(missing_ok=True)
        return replace(
            made, package=built.package, engines=built.engines, problems=(*problems, *built.problems), held=held
        )


def _portable(plan: Plan) -> Plan:
    """The weight-only forms of ``plan`` in operators of the standard. Raises LoweringError for what is none."""
    for group, form in plan.items():
        held = None if group.weight is None else group.weight.constant
        if form.kind == WEIGHTS and form.weight.dtype.bits == 4 and held is not None and held.size % 2:
            raise LoweringError(f"weights of '{group.name}' are odd in number, and TensorRT takes 4 bits in twos")
    return {group: replace(form, portable=True) for group, form in plan.items() if form.kind == WEIGHTS}


def _values(model: Model) -> list[Value]:
    return [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]


def _magnitudes(copy: Model) -> dict[Value, float]:
    """The largest that calibration has seen of values; of what a DequantizeLinear gives, the largest that it can."""
    found: dict[Value, float] = {}
    for value in _values(copy):
        if value.quant is not None:
            found[value] = magnitude(value.quant)
    for node in copy.graph:
        if node.is_op("DequantizeLinear") and node.output not in found:
            scale, read = node.inputs[1], node.inputs[0]
            if scale is not None and scale.constant is not None and read is not None and read.dtype is not None:
                top = integer_range(QuantSpec(read.dtype))[1]
                # Small weights lose nothing: where they are part of a product, integers are multiplied.
                found[node.output] = max(1.0, top * float(np.max(scale.constant.numpy())))
    return found


def _said(low: tuple[int, ...], high: tuple[int, ...]) -> str:
    one, two = ("x".join(map(str, shape)) for shape in (low, high))
    return one if one == two else f"{one} to {two}"
