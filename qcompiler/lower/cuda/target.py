"""Target ``ort-cuda``: onnxruntime's CUDA provider, and kernels of our own for what it has not in int8."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from qcompiler.dtypes import DType
from qcompiler.errors import LoweringError
from qcompiler.ir import Model, Node, QuantSpec, Value, clone_model
from qcompiler.kernels import ARCHITECTURES, CARDS, Card
from qcompiler.kernels.storing import KernelSet
from qcompiler.lower.cuda.ahead import build_kernels
from qcompiler.lower.cuda.cost import node_seconds
from qcompiler.lower.cuda.emission import emit_kernels, is_kernel
from qcompiler.lower.cuda.legality import find_groups, glue_nodes
from qcompiler.lower.cuda.partition import open_program, placement
from qcompiler.lower.halves import float_values, magnitude, to_halves
from qcompiler.lower.target import DYNAMIC, STATIC, WEIGHTS, Group, Plan, Target
from qcompiler.lower.weight_only import emit_weight_only, needed_opset
from qcompiler.onnx_io import upgrade_opset
from qcompiler.runtime import Runner, no_card

__all__ = ["OrtCuda"]

_OWN = frozenset({"com.microsoft:Gelu", "com.microsoft:FastGelu", "com.microsoft:QuickGelu"})


@dataclass(frozen=True)
class OrtCuda(Target):
    """onnxruntime and our kernels on a card of NVIDIA's.

    ``architectures`` are what kernels are compiled for ahead of time: compute capabilities, 10 * major + minor. Costs
    are estimated for the last of them. ``float16`` lets what stays float run in float16 where it fits.
    """

    architectures: tuple[int, ...] = ARCHITECTURES
    float16: bool = True

    name: ClassVar[str] = "ort-cuda"
    on_card: ClassVar[bool] = True
    description: ClassVar[str] = "onnxruntime, CUDA provider, with Triton kernels in int8 for products and convolutions"

    @property
    def own_operators(self) -> frozenset[str]:
        """GELU and SiLU in one."""
        return _OWN

    @property
    def card(self) -> Card:
        """The card that costs are estimated for."""
        return CARDS[self.architectures[-1] if self.architectures else ARCHITECTURES[-1]]

    @property
    def estimated_for(self) -> str:  # type: ignore[override]
        """Name and architecture of that card."""
        return self.card.label

    def unavailable(self) -> str:
        """Never: without a card the same program runs on the processor."""
        return ""

    def stand_in(self) -> str:
        """The processor: kernels with the same numbers, sessions with onnxruntime's own."""
        reason = no_card()
        return f"by the processor: {reason}" if reason else ""

    def activation_spec(self) -> QuantSpec:
        """Asymmetric int8 per tensor."""
        return QuantSpec(DType.INT8)

    def weight_spec(self, axis: int) -> QuantSpec:
        """Symmetric int8 per output channel."""
        return QuantSpec(DType.INT8, symmetric=True, axis=axis)

    def groups(self, model: Model) -> tuple[list[Group], dict[Node, str]]:
        """Products and convolutions with what a kernel can do behind them; see :mod:`.legality`."""
        return find_groups(model)

    def kinds(self, group: Group) -> frozenset[str]:
        """Tables of rows have only weights; products of two activations have none; clustered weights stay as they are,
        and rows are quantized for them."""
        if group.anchor.is_op("Gather"):
            return frozenset({WEIGHTS})
        if group.weight is None:
            return frozenset({STATIC} if len(group.data) > 1 else {DYNAMIC})
        if group.anchor.is_op("Conv", "ConvTranspose"):
            return frozenset({STATIC, WEIGHTS} if group.anchor.is_op("Conv") else {STATIC})
        return frozenset({STATIC, DYNAMIC, WEIGHTS})

    def observed(self, model: Model, groups: Collection[Group]) -> list[Value]:
        """Everything that is float: what is not quantized may run in float16 where its range is known."""
        return float_values(model, groups)

    def lower(self, model: Model, plan: Plan) -> Model:
        """Kernels for static and dynamic groups, and for what may stay in integers between them."""
        mapping: dict[Value, Value] = {}
        copy = clone_model(model, mapping)
        since = needed_opset({group: form for group, form in plan.items() if not is_kernel(group, form)})
        if copy.opset < since and (reason := upgrade_opset(copy, since)):  # before nodes come that it does not know
            raise LoweringError(f"weights in blocks or less than 8 bits need operator set {since}: {reason}")
        kernels = [group for group, form in plan.items() if is_kernel(group, form)]
        static = [group for group in kernels if plan[group].kind == STATIC]
        glue = glue_nodes(model, static, [group for group in kernels if plan[group].kind != STATIC])
        emit_kernels(copy, mapping, plan, glue)
        rest = {group: form for group, form in plan.items() if not is_kernel(group, form)}
        emit_weight_only(copy, mapping, rest)
        if self.float16:
            values = [*copy.graph.inputs, *(value for node in copy.graph for value in node.outputs)]
            to_halves(copy, {value: magnitude(value.quant) for value in values if value.quant is not None})
        return copy

    def open(self, model: Model, threads: int) -> Runner:
        """The partitioned program; on the processor where there is no card."""
        return open_program(model, threads=threads)

    @property
    def timed_here(self) -> bool:
        """Where there is a card."""
        return not no_card()

    def estimated(self, model: Model) -> Mapping[str, float] | None:
        """Seconds of each node by the roofline of the card."""
        return node_seconds(model, self.card)

    def artifacts(
        self, model: Model, samples: Iterable[Mapping[str, Any]], progress: Callable[[str], None]
    ) -> KernelSet | None:
        """The cubins that a run on the first of ``samples`` launches, for each architecture."""
        try:
            return build_kernels(model, next(iter(samples)), self.architectures, progress)
        except LoweringError as error:
            raise LoweringError(f"no kernels were compiled: {error.what}", hint=error.hint) from None

    def safer(self) -> Target | None:
        """Without float16."""
        return replace(self, float16=False) if self.float16 else None

    def runs_on(self, model: Model) -> list[dict[str, Any]]:
        """For each node of the main graph a kernel of ours or onnxruntime, and why."""
        return placement(model)
