"""What turns a graph into a better one: the passes that come with qcompiler."""

if __name__ != "qcompiler.passes":
    raise ImportError(f"{__name__!r} is not importable by this name; write 'import qcompiler.passes'", name=__name__)

from qcompiler.passes.cluster import CLUSTER
from qcompiler.passes.lossless import LOSSLESS
from qcompiler.passes.prune import PRUNE
from qcompiler.passes.quantize import QUANTIZE
from qcompiler.passes.recover import RECOVER
from qcompiler.pipeline import Pass

__all__ = ["builtin_passes"]

_ALL: tuple[type[Pass], ...] = (*LOSSLESS, *PRUNE, *QUANTIZE, *CLUSTER, *RECOVER)


def builtin_passes() -> dict[str, type[Pass]]:
    """Every pass that comes with qcompiler, by name, in the order in which the default recipe first uses it."""
    return {item.name: item for item in _ALL}
