"""Custom ops: their numpy reference, which is the truth, and their Triton form."""

if __name__ != "qcompiler.kernels":
    raise ImportError(f"{__name__!r} is not importable by this name; write 'import qcompiler.kernels'", name=__name__)
