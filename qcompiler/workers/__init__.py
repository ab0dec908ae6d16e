"""Work that is done elsewhere: by processes of this machine, or by a Dask cluster."""

from qcompiler.workers.connect import check_executor, connected
from qcompiler.workers.pool import Pool, Shared

__all__ = ["Pool", "Shared", "check_executor", "connected"]
