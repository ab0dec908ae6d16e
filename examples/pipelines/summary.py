"""python summary.py FOLDER SUMMARY OUTPUT: what a compile gained and lost, for a job and for the steps behind."""

from __future__ import annotations

import sys
from pathlib import Path

from qcompiler.report import read, summary_lines


def main(folder: str, summary: str, output: str) -> None:
    """Append a table to SUMMARY, and speedup, ratio and gates to OUTPUT."""
    report = read(folder)
    rows = [f"| {label} | {text} |" for label, text in summary_lines(report)]
    lines = ["### qcompiler", "", "| | |", "|---|---|", *rows]
    lines += ["", *(f"> {text}" for text in report["warnings"])]
    with Path(summary).open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    passed = all(gate["passed"] for gate in report["gates"])
    found = {"speedup": report["latency"]["speedup"], "ratio": report["size"]["ratio"]}
    with Path(output).open("a", encoding="utf-8") as file:
        file.writelines(f"{name}={value:.4g}\n" for name, value in found.items() if value is not None)
        file.write(f"gates={'passed' if passed else 'failed'}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
