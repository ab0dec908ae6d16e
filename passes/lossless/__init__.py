"""Passes that leave the model's numbers as they are."""

from qcompiler.passes.lossless.avoid_slow_fusions import AvoidSlowFusions
from qcompiler.passes.lossless.canonical import Canonicalize
from qcompiler.passes.lossless.cse import MergeCommonSubexpressions
from qcompiler.passes.lossless.dead_code import RemoveDeadCode
from qcompiler.passes.lossless.fold_constants import FoldConstants
from qcompiler.passes.lossless.freeze_initializers import FreezeInitializers
from qcompiler.passes.lossless.fuse_activations import FuseActivations
from qcompiler.passes.lossless.fuse_affine_conv import FuseAffineConv
from qcompiler.passes.lossless.fuse_attention import FuseAttention
from qcompiler.passes.lossless.fuse_conv_affine import FuseConvAffine
from qcompiler.passes.lossless.fuse_conv_batchnorm import FuseConvBatchNorm
from qcompiler.passes.lossless.fuse_einsum import FuseEinsum
from qcompiler.passes.lossless.fuse_focus import FuseFocus
from qcompiler.passes.lossless.fuse_gelu import FuseGelu
from qcompiler.passes.lossless.fuse_group_norm import FuseGroupNorm
from qcompiler.passes.lossless.fuse_instance_norm import FuseInstanceNorm
from qcompiler.passes.lossless.fuse_layer_norm import FuseLayerNorm
from qcompiler.passes.lossless.fuse_matmul_add import FuseMatMulAdd
from qcompiler.passes.lossless.fuse_pad import FusePad
from qcompiler.passes.lossless.fuse_pooling import FusePooling
from qcompiler.passes.lossless.fuse_rms_norm import FuseRMSNorm
from qcompiler.passes.lossless.fuse_rotary import FuseRotary
from qcompiler.passes.lossless.fuse_softmax import FuseSoftmax
from qcompiler.passes.lossless.inline_branches import InlineConstantBranches
from qcompiler.passes.lossless.inline_functions import InlineFunctions
from qcompiler.passes.lossless.share_weights import ShareEqualWeights
from qcompiler.passes.lossless.simplify import Simplify
from qcompiler.passes.lossless.simplify_branches import SimplifyBranches
from qcompiler.passes.lossless.sizes import SimplifySizes
from qcompiler.pipeline import Pass

__all__ = [
    "LOSSLESS",
    "AvoidSlowFusions",
    "Canonicalize",
    "FoldConstants",
    "FreezeInitializers",
    "FuseActivations",
    "FuseAffineConv",
    "FuseAttention",
    "FuseConvAffine",
    "FuseConvBatchNorm",
    "FuseEinsum",
    "FuseFocus",
    "FuseGelu",
    "FuseGroupNorm",
    "FuseInstanceNorm",
    "FuseLayerNorm",
    "FuseMatMulAdd",
    "FusePad",
    "FusePooling",
    "FuseRMSNorm",
    "FuseRotary",
    "FuseSoftmax",
    "InlineConstantBranches",
    "InlineFunctions",
    "MergeCommonSubexpressions",
    "RemoveDeadCode",
    "ShareEqualWeights",
    "Simplify",
    "SimplifyBranches",
    "SimplifySizes",
]

LOSSLESS: tuple[type[Pass], ...] = (
    # Fewer nodes and constants first: everything behind is cheaper, and what is shared is folded once.
    FreezeInitializers,
    InlineFunctions,
    RemoveDeadCode,
    ShareEqualWeights,
    Canonicalize,
    Simplify,
    MergeCommonSubexpressions,
    FoldConstants,
    InlineConstantBranches,
    SimplifyBranches,
    # Shapes are known now, and nothing is left between the operators that belong together.
    Simplify,
    SimplifySizes,
    FuseEinsum,
    FusePad,
    FuseFocus,
    FuseConvBatchNorm,
    FuseConvAffine,
    FuseMatMulAdd,
    FuseSoftmax,
    FuseLayerNorm,
    FuseInstanceNorm,
    FuseGroupNorm,
    FuseRMSNorm,
    FuseActivations,
    FuseAffineConv,  # a factor behind an activation may be a part of it
    FusePooling,
    # Folding and fusing made constants, some of them equal, and with them more nodes are.
    ShareEqualWeights,
    MergeCommonSubexpressions,
    Simplify,
    # What only this target has, and what it had better not fuse: nothing behind has to know these forms.
    FuseGelu,
    FuseRotary,
    FuseAttention,
    AvoidSlowFusions,
    RemoveDeadCode,
)
"""The passes in an order that needs no second round on real models; recipes follow it."""
