"""The command ``qcompiler``: dispatch, error messages and exit status."""

from __future__ import annotations

import importlib
import signal
import sys
import traceback
from typing import Any

import click

from qcompiler.errors import QCompilerError

__all__ = ["main"]

_COMMANDS = (
    "compile", "inspect", "explain", "compare", "diff", "bench", "sensitivity", "distill", "run", "pack", "unpack",
    "passes", "targets", "recipes", "cache", "completion",
)  # fmt: skip
_INTERRUPTED = 130  # what shells report for Ctrl-C


class _Lazy(click.Group):
    """Imports a command's module when the command is called, so that ``--help`` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        home = "listing" if cmd_name in ("passes", "targets", "recipes") else f"{cmd_name}_command"
        module = importlib.import_module(f"qcompiler.cli.{home}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from difflib import get_close_matches

        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            near = get_close_matches(args[0], _COMMANDS, n=1)
            there = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(_COMMANDS)}"
            raise click.UsageError(f"there is no command '{args[0]}'; {there}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExample:\n  qcompiler compile model.onnx --data calib.npz -o build",
)
@click.version_option(package_name="qcompiler", prog_name="qcompiler")
def cli() -> None:
    """Rewrite ONNX models for a target, and prove what was gained and lost."""


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong usage, 3 unusable input, 4 a gate was not met."""
    signal.signal(signal.SIGTERM, _terminated)
    arguments = sys.argv[1:] if argv is None else argv
    verbose = arguments.count("-v") + 2 * arguments.count("-vv") + arguments.count("--verbose")
    try:
        status = cli.main(args=arguments, prog_name="qcompiler", standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except click.ClickException as error:
        _tell(error.format_message())
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        _tell("interrupted; the result was not written")
        sys.exit(_INTERRUPTED)
    except QCompilerError as error:
        _tell(str(error))
        if verbose >= 2:
            traceback.print_exc()
        sys.exit(error.exit_status)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away: nobody is left to be told
        sys.exit(1)
    except Exception as error:  # a defect of ours; the user still gets one line
        _tell(f"internal error: {type(error).__name__}: {' '.join(str(error).split())}; please report it with -v -v")
        if verbose >= 2:
            traceback.print_exc()
        sys.exit(1)


def _tell(message: str) -> None:
    from qcompiler.cli.console import tell_error

    tell_error(message)


def _terminated(*_: Any) -> None:
    """A kill is handled like Ctrl-C: what was half-written is removed on the way out."""
    raise KeyboardInterrupt
