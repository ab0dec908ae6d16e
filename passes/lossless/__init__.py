"""Passes that leave the model's numbers as they are."""

from qcompiler.passes.lossless.cse import MergeCommonSubexpressions
from qcompiler.passes.lossless.dead_code import RemoveDeadCode
from qcompiler.passes.lossless.fold_constants import FoldConstants
from qcompiler.passes.lossless.freeze_initializers import FreezeInitializers
from qcompiler.passes.lossless.fuse_conv_affine import FuseConvAffine
from qcompiler.passes.lossless.fuse_conv_batchnorm import FuseConvBatchNorm
from qcompiler.passes.lossless.fuse_matmul_add import FuseMatMulAdd
from qcompiler.passes.lossless.fuse_pad import FusePad
from qcompiler.passes.lossless.share_weights import ShareEqualWeights
from qcompiler.passes.lossless.simplify import Simplify
from qcompiler.pipeline import Pass

__all__ = [
    "LOSSLESS",
    "FoldConstants",
    "FreezeInitializers",
    "FuseConvAffine",
    "FuseConvBatchNorm",
    "FuseMatMulAdd",
    "FusePad",
    "MergeCommonSubexpressions",
    "RemoveDeadCode",
    "ShareEqualWeights",
    "Simplify",
]

LOSSLESS: tuple[type[Pass], ...] = (
    # Fewer nodes and constants first: everything behind is cheaper, and what is shared is folded once.
    FreezeInitializers,
    RemoveDeadCode,
    ShareEqualWeights,
    Simplify,
    MergeCommonSubexpressions,
    FoldConstants,
    # Shapes are known now, and nothing is left between the operators that belong together.
    Simplify,
    FusePad,
    FuseConvBatchNorm,
    FuseConvAffine,
    FuseMatMulAdd,
    # Folding and fusing made constants, some of them equal, and with them more nodes are.
    ShareEqualWeights,
    MergeCommonSubexpressions,
    Simplify,
    RemoveDeadCode,
)
"""The passes in an order that needs no second round on real models; recipes follow it."""
