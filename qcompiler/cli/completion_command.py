"""``qcompiler completion``"""

from __future__ import annotations

import click

from qcompiler.cli.console import emit_json, result

__all__ = ["completion"]

_SHELLS = ("bash", "fish", "zsh")


@click.command(
    epilog='\b\nExamples:\n  eval "$(qcompiler completion bash)"     # in ~/.bashrc\n'
    '  eval "$(qcompiler completion zsh)"      # in ~/.zshrc\n'
    "  qcompiler completion fish > ~/.config/fish/completions/qcompiler.fish"
)
@click.argument("shell", metavar="SHELL", type=click.Choice(_SHELLS))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def completion(shell: str, as_json: bool) -> None:
    """Print what makes SHELL complete commands, options, and names of recipes and targets."""
    from click.shell_completion import get_completion_class

    from qcompiler.cli.main import cli

    kind = get_completion_class(shell)
    assert kind is not None
    if shell == "bash":  # click's own looks for the version of the bash that is installed, and fails without one
        kind = type("Bash", (kind,), {"_check_version": staticmethod(lambda: None)})
    script = kind(cli, {}, "qcompiler", "_QCOMPILER_COMPLETE").source()
    if as_json:
        emit_json({"shell": shell, "script": script})
    else:
        result(script)
