"""What turns a graph into a better one: the passes that come with qcompiler."""

if __name__ != "qcompiler.passes":
    raise ImportError(f"{__name__!r} is not importable by this name; write 'import qcompiler.passes'", name=__name__)
