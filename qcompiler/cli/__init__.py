"""The command line: one module a command, nothing but arguments and printing."""

from qcompiler.cli.main import main

__all__ = ["main"]
