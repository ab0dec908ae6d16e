"""What compile() and distill() give back, and how it is written into a folder."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from qcompiler.compiler.document import digest, fill_sizes, trace_of
from qcompiler.compiler.kept import Entry
from qcompiler.ir import Model
from qcompiler.lower import Artifacts, OrtCpu, Target
from qcompiler.onnx_io import check_replaceable, load, replaced_directory, save
from qcompiler.pipeline import PassRecord
from qcompiler.report import render_html, to_json
from qcompiler.runtime import Runner
from qcompiler.storage import pack

__all__ = ["Result", "from_entry"]

_OWN = frozenset({"recipe.toml", "report.html", "report.json"})  # what says how this call was made


@dataclass
class Result:
    """A compiled model, the report about it, and the recipe that makes it again, as the text of a TOML file.

    ``records`` hold every rewrite and near miss; a result that was made before (``is_cached``) has none. ``report`` is
    what ``report.json`` holds. ``packed`` has :meth:`save` leave a container beside the model. ``artifacts`` are what
    the target needs beside it, ``faults`` what rules did wrong, and was undone; ``entry`` are its files in the cache.
    """

    model: Model
    report: dict[str, Any]
    recipe: str
    records: list[PassRecord]
    threads: int = 1
    packed: bool = False
    target: Target = field(default_factory=OrtCpu, repr=False)
    artifacts: Artifacts | None = field(default=None, repr=False)
    entry: Entry | None = field(default=None, repr=False)
    faults: list[str] = field(default_factory=list, repr=False)
    is_cached: bool = False
    _session: Runner | None = field(default=None, repr=False)

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs by name for inputs by name: arrays, or what ``numpy.asarray`` makes one of, of the inputs' element
        types and shapes, batch axis included. Runs on the target, or on what stands in for it here.

        Raises LoweringError when onnxruntime refuses the feeds.
        """
        if self._session is None:
            self._session = self.target.open(self.model, self.threads)
        return self._session.run({name: np.asarray(array) for name, array in feeds.items()})

    def save(
        self,
        folder: str | Path,
        *,
        force: bool = False,
        external_data: bool | None = None,
        also: Sequence[Callable[[Path], None]] = (),
    ) -> Path:
        """Write ``model.onnx``, the reports and the recipe into ``folder``, which appears whole or not at all.

        A recipe that packs leaves ``model.qcz`` there too: the same model, coded by entropy. ``external_data`` puts
        weights into ``model.onnx.data``; None: where the model is over 2 GB. ``also`` are called with the folder
        before it appears, and may write more into it.

        A result that stands there is replaced with ``force``, anything else never: UsageError. Raises OutputError
        when the disk refuses.
        """
        target = Path(folder)
        check_replaceable(target, force)
        with replaced_directory(target) as made:
            self.write(made, external_data=external_data)
            for each in also:
                each(made)
        return target

    def write(self, made: Path, *, external_data: bool | None = None) -> None:
        """The files of :meth:`save`, into the empty folder ``made``."""
        if self.entry is not None and external_data is None:
            self.entry.copy(made, leave=_OWN)
        else:
            self._write_model(made, external_data)
        (made / "recipe.toml").write_text(self.recipe, encoding="utf-8")
        (made / "report.json").write_text(to_json(self.report), encoding="utf-8")
        (made / "report.html").write_text(render_html(self.report), encoding="utf-8")

    def _write_model(self, made: Path, external_data: bool | None) -> None:
        written = save(self.model, made / "model.onnx", external_data=external_data)
        self.report["compiled"]["path"] = "model.onnx"
        self.report["compiled"]["bytes"] = sum(path.stat().st_size for path in written)
        self.report["compiled"]["sha256"] = digest(made / "model.onnx")
        fill_sizes(self.report)
        if self.packed:
            found = pack(made / "model.onnx", made / "model.qcz")
            self.report["size"] |= {"packed_bytes": found.packed_bytes}
            self.report["size"]["packed_ratio"] = self.report["size"]["source_bytes"] / found.packed_bytes
        if self.artifacts is not None:
            self.artifacts.write(made)
        elif self.entry is not None:
            held = {"model.onnx", "model.onnx.data", "model.qcz", "trace.json"} & self.entry.files.keys()
            self.entry.copy(made, leave=_OWN | held)
        trace = self.entry.text("trace.json") if self.entry is not None else _trace(self.records)
        (made / "trace.json").write_text(trace, encoding="utf-8")


def from_entry(
    entry: Entry, source: Any, said: Mapping[str, Any], target: Target, threads: int, packed: bool
) -> Result:
    """The result that was made before, as if this call had made it: ``source`` and ``said`` are this call's."""
    report = json.loads(entry.text("report.json"))
    report["source"]["path"] = str(source) if isinstance(source, str | Path) else None
    report.pop("command", None)
    report.pop("data", None)
    own = {key: said.get(key) for key in ("data", "score")}
    report |= {"data": own["data"]} if own["data"] is not None else {}
    document = tomllib.loads(entry.text("recipe.toml"))
    document = {key: value for key, value in (document | own).items() if value is not None}
    model = load(entry.folder / "model.onnx")
    return Result(model, report, tomli_w.dumps(document), [], threads, packed, target, entry=entry, is_cached=True)


def _trace(records: list[PassRecord]) -> str:
    return json.dumps(trace_of(records), indent=1) + "\n"
