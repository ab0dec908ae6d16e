"""Passes that take out what a model can do without."""

from qcompiler.passes.prune.blocks import PruneBlocks
from qcompiler.passes.prune.channels import PruneChannels
from qcompiler.passes.prune.curve import apart, judged
from qcompiler.passes.prune.groups import ChannelGroup, Channels, channel_groups
from qcompiler.passes.prune.shrink import masked, removed_indices, shrink
from qcompiler.passes.prune.weights import PruneWeights

PRUNE = (PruneBlocks, PruneChannels, PruneWeights)
"""In the order in which a recipe uses them."""

__all__ = [
    "PRUNE",
    "ChannelGroup",
    "Channels",
    "PruneBlocks",
    "PruneChannels",
    "PruneWeights",
    "apart",
    "channel_groups",
    "judged",
    "masked",
    "removed_indices",
    "shrink",
]
