"""Custom ops: their numpy reference, which is the truth, and their Triton form.

Triton itself is loaded by :mod:`qcompiler.kernels.triton` alone, which is imported in functions.
"""

if __name__ != "qcompiler.kernels":
    raise ImportError(f"{__name__!r} is not importable by this name; write 'import qcompiler.kernels'", name=__name__)

from qcompiler.kernels.arithmetic import ACTIVATIONS, LONGEST_SUM
from qcompiler.kernels.cards import ARCHITECTURES, CARDS, Card, card_for
from qcompiler.kernels.catalog import KERNELS
from qcompiler.kernels.elementwise import table_of
from qcompiler.kernels.movement import MOST_PARTS
from qcompiler.kernels.packed import BLOCKS, pack_fields, unpack_fields
from qcompiler.kernels.registry import DOMAIN, Given, Held, Kernel, Launch, Made, Operand, Port, Size

__all__ = [
    "ACTIVATIONS",
    "ARCHITECTURES",
    "BLOCKS",
    "CARDS",
    "DOMAIN",
    "KERNELS",
    "LONGEST_SUM",
    "MOST_PARTS",
    "Card",
    "Given",
    "Held",
    "Kernel",
    "Launch",
    "Made",
    "Operand",
    "Port",
    "Size",
    "card_for",
    "pack_fields",
    "table_of",
    "unpack_fields",
]
