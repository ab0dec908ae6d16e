"""``qcompiler cache``"""

from __future__ import annotations

import click

from qcompiler.cli.console import emit_json, result, told_size

__all__ = ["cache"]


@click.command(
    epilog="\b\nExamples:\n  qcompiler cache\n  qcompiler cache --clear\n"
    "  QCOMPILER_CACHE=off qcompiler compile ...            # or a folder of your own\n"
    "  QCOMPILER_CACHE_LIMIT=2000000000 qcompiler compile ...   # bytes"
)
@click.option("--clear", is_flag=True, help="Remove every result that is not in use.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def cache(clear: bool, as_json: bool) -> None:
    """The results that `compile` keeps, so that the same call is not computed twice: where, how many, how large."""
    from qcompiler.compiler import result_cache

    store = result_cache(True)
    if store is None:
        if as_json:
            emit_json({"folder": None, "results": 0, "bytes": 0, "limit_bytes": 0, "removed": 0})
        else:
            result("the cache is off: QCOMPILER_CACHE says so")
        return
    removed = store.clear()[0] if clear else 0
    count, size = store.statistics()
    if as_json:
        emit_json({
            "folder": str(store.folder), "results": count, "bytes": size, "limit_bytes": store.limit, "removed": removed
        })  # fmt: skip
        return
    if clear:
        result(f"{removed} {'result' if removed == 1 else 'results'} removed")
    result(f"{store.folder}: {count} {'result' if count == 1 else 'results'}, {told_size(size)} of at most "
           f"{told_size(store.limit)}")  # fmt: skip
