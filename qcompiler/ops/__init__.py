"""What is known of operators: roles, effects, costs, and how channels run through them."""

from qcompiler.ops.channels import Link, Links, links
from qcompiler.ops.table import OpInfo, Role, info, is_pure, known_ops, macs, total_macs, weight_macs

__all__ = [
    "Link",
    "Links",
    "OpInfo",
    "Role",
    "info",
    "is_pure",
    "known_ops",
    "links",
    "macs",
    "total_macs",
    "weight_macs",
]
