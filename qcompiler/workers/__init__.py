"""Work that is done elsewhere: by processes of this machine, or by a Dask cluster."""

from qcompiler.workers.connect import connected
from qcompiler.workers.pool import Pool, Shared

__all__ = ["Pool", "Shared", "connected"]
