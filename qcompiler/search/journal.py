"""What was measured, kept on disk as it comes, so that a search that is killed goes on where it stopped."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qcompiler.errors import OutputError
from qcompiler.ir import Model
from qcompiler.lower import Form, Group
from qcompiler.onnx_io import replaced_directory, save

__all__ = ["Journal", "plan_key"]


class Journal:
    """Records by name in ``folder/journal.jsonl``, and in ``folder/best`` the best model so far.

    ``key`` says of what: records of another key are thrown away. Other files in it are left alone. The folder appears
    with the first record. Without a folder everything is forgotten. Raises OutputError when the disk refuses.
    """

    def __init__(self, folder: Path | None = None, key: str = "") -> None:
        self.folder, self.key = folder, key
        self.records: dict[str, Any] = {}
        self.found = 0
        if folder is None or not (folder / "journal.jsonl").is_file():
            return
        lines = (folder / "journal.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
        read = [_parsed(line) for line in lines]
        if read and read[0].get("key") == key:
            self.records = {record["name"]: record["value"] for record in read[1:] if "name" in record}
        self.found = len(self.records)
        # Written anew: a line that was cut off by the kill would swallow the next one, another's key is none of ours.
        self.remove(forget=False)
        for name, value in self.records.items():
            self._write(name, value)

    def get(self, name: str) -> Any:
        """The record called ``name``, or None."""
        return self.records.get(name)

    def put(self, name: str, value: Any) -> None:
        """Remember ``value``, which JSON can say, on disk too."""
        self.records[name] = value
        self._write(name, value)

    def _write(self, name: str, value: Any) -> None:
        if self.folder is None:
            return
        try:
            path = self.folder / "journal.jsonl"
            fresh = not path.exists()
            self.folder.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                if fresh:
                    file.write(json.dumps({"key": self.key}) + "\n")
                file.write(json.dumps({"name": name, "value": value}) + "\n")
        except OSError as error:
            raise OutputError(f"{self.folder} cannot be written: {error.strerror or error}") from None

    def keep(self, model: Model, about: Mapping[str, Any], *, first: bool = False) -> None:
        """Put ``model`` on disk as the best so far, with what is known ``about`` it; whole or not at all.

        With ``first`` only where there is none yet.
        """
        if self.folder is None or (first and (self.folder / "best").exists()):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with replaced_directory(self.folder / "best") as made:
            save(model, made / "model.onnx")
            (made / "about.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")

    def remove(self, *, forget: bool = True) -> None:
        """The work is done: what was written goes, and the folder too when nothing else is in it."""
        if forget:
            self.records.clear()
        if self.folder is None:
            return
        with contextlib.suppress(OSError):
            (self.folder / "journal.jsonl").unlink(missing_ok=True)
            if forget:
                shutil.rmtree(self.folder / "best", ignore_errors=True)
            self.folder.rmdir()


def _parsed(line: str) -> dict[str, Any]:
    """A line as a record; empty for one that is none."""
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def plan_key(plan: Mapping[Group, Form], indices: Sequence[int] = ()) -> str:
    """A name for a plan and the samples on which it was judged; equal plans have equal names in every process."""
    words = sorted(f"{group.name} {group.output.name} {form.kind} {form.weight} {form.portable}"
                   f" {form.integer_products} {form.stored is not None}" for group, form in plan.items())  # fmt: skip
    return hashlib.sha256("\n".join([*words, *map(str, indices)]).encode()).hexdigest()[:24]
