"""A page for each pass: what it says of itself, its options and rules, who uses it, and its example, run now.

``python docs/pass_pages.py OUT`` writes them; the site's configuration does the same. An example in pass-examples/ is
ONNX's text of a model behind lines ``# key: value``:

    pass       the pass
    options    its options, as a TOML inline table
    first      passes that run before it, ``NAME {OPTIONS}; NAME ...``
    target     for what, by name
    samples    how many calibrate: normal, seed 0; with ``shared`` times one more number in each row
    lower      yes: groups are written in the last form that they were offered

Weights without values are normal, 0.3 times, seed 0.
"""

from __future__ import annotations

import inspect
import re
import sys
import tomllib
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import parser

from qcompiler.compiler import find_target, input_specs, passes, recipes
from qcompiler.data import open_dataset
from qcompiler.ir import Model, clone_model, format_model, verify
from qcompiler.onnx_io import infer_types, load, open_session
from qcompiler.passes import builtin_passes
from qcompiler.pipeline import Pass, PassContext, Pipeline
from qcompiler.search import Quality

HERE = Path(__file__).resolve().parent
MOST = 64  # elements of a constant that is written out


@dataclass
class Example:
    """What a pass made of a small model."""

    head: dict[str, str]
    before: Model
    after: Model
    changed: int
    rules: list[str]
    decibels: float | None  # None: not compared


def read(path: Path) -> tuple[dict[str, str], str]:
    """The keys and the text of an example."""
    lines = path.read_text("utf-8").splitlines()
    head = dict(re.match(r"# (\w+): (.*)", line).groups() for line in lines if line.startswith("# "))
    return head, "\n".join(line for line in lines if not line.startswith("# "))


def model_of(text: str) -> Model:
    """The model, with weights for those that have no values."""
    proto = parser.parse_model(text)
    random = np.random.default_rng(0)
    given = {name for node in proto.graph.node for name in node.output}
    given |= {item.name for item in proto.graph.initializer}
    for info in proto.graph.value_info:
        if info.name not in given:
            shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
            array = (0.3 * random.standard_normal(shape)).astype(np.float32)
            proto.graph.initializer.append(onnx.numpy_helper.from_array(array, info.name))
    model = load(proto)
    infer_types(model)
    return model


def samples_of(model: Model, count: int, shared: float) -> list[dict[str, Any]]:
    """Normal samples; dynamic sizes are 2."""
    random = np.random.default_rng(0)

    def drawn(shape: list[int]) -> np.ndarray:
        made = random.standard_normal(shape)
        return (made + shared * random.standard_normal([*shape[:-1], 1]) if shared else made).astype(np.float32)

    specs = input_specs(model)
    return [{s.name: drawn([d if isinstance(d, int) else 2 for d in s.shape]) for s in specs} for _ in range(count)]


def configured(text: str) -> list[Pass]:
    """The passes of ``NAME {OPTIONS}; NAME``."""
    made = []
    for part in filter(None, map(str.strip, text.split(";"))):
        name, _, options = part.partition(" ")
        made.append(passes()[name].configured(tomllib.loads(f"o = {options or '{}'}")["o"]))
    return made


def run(path: Path) -> Example:
    """The example in ``path``, run."""
    head, text = read(path)
    model = model_of(text)
    source = clone_model(model)
    (item,) = configured(f"{head['pass']} {head.get('options', '')}")
    given = samples_of(source, int(head.get("samples", 0)), float(head.get("shared", 0)))
    context = PassContext(
        target=find_target(head["target"]) if "target" in head else None, samples=given, source=source,
        data=open_dataset(given, input_specs(source)) if given else None,
    )  # fmt: skip
    for each in configured(head.get("first", "")):
        each.run(model, context)
        infer_types(model)

    def written(model: Model) -> Model:
        if "lower" not in head or "forms" not in context.facts:
            return clone_model(model)
        plan = {group: forms[-1] for group, forms in context.facts["forms"].items()}
        made = context.target.lower(model, plan)
        infer_types(made)
        return made

    before = written(model)
    if "first" in head:
        changed, rules = item.run(model, context), []
    else:
        model, records = Pipeline([item]).run(model, context)
        changed, rules = records[-1].changed, sorted(records[-1].rewrites)
    infer_types(model)
    after = written(model)
    verify(after)
    decibels = None
    if all(spec.dtype.kind == "f" for spec in input_specs(source)):
        quality = Quality()
        one, two = open_session(source, optimize=False), open_session(after, optimize=False)
        for sample in samples_of(source, max(16, len(given)), float(head.get("shared", 0))):
            quality.add(one.run(sample), two.run(sample))
        decibels = quality.sqnr_db
    return Example(head, before, after, changed, rules, decibels)


def page(name: str, kind: type[Pass]) -> str:
    """The page of one pass, in Markdown."""
    module = inspect.getmodule(kind)
    out = [f"# {name}", prose(kind.__doc__), prose(module.__doc__ if module else "")]
    lossless = "Lossless: its numbers are checked on samples, and a rule that is wrong is rolled back."
    out.append(lossless if kind.lossless else "Lossy: what it costs is measured, and limits decide whether it stays.")
    if fields(kind):
        out += ["## Options", options_of(kind)]
    if kind.rules:
        out.append("## Rules")
        out += [f"**{rule.name}**: {prose(rule.doc)}" for rule in kind.rules]
    out += ["## Cost", kind.cost, "## Recipes", users_of(name), "## Example", example_of(name)]
    return "\n\n".join(filter(None, out)) + "\n"


def options_of(kind: type[Pass]) -> str:
    """A table: options, their defaults, and the sentence of the docstrings that tells what each means."""
    said = " ".join(" ".join((each.__doc__ or "").split()) for each in kind.__mro__ if each is not object)
    sentences = re.split(r"(?<=[.;]) (?=[A-Z`])", said)
    rows = ["| option | default | meaning |", "|---|---|---|"]
    for field in fields(kind):
        default = field.default if field.default is not MISSING else field.default_factory()  # type: ignore[misc]
        meaning = next((each for each in sentences if f"``{field.name}``" in each), "")
        rows.append(f"| `{field.name}` | `{default!r}` | {prose(meaning).replace('|', chr(92) + '|')} |")
    return "\n".join(rows)


def users_of(name: str) -> str:
    """The recipes that have the pass, with what they set."""
    found = []
    for recipe in recipes().values():
        for item in (each for each in recipe.passes if each.name == name):
            usual = type(item)().options()
            changed = [f"{key} = {value}" for key, value in item.options().items() if value != usual[key]]
            found.append(f"`{recipe.name}`" + (f" ({', '.join(changed)})" if changed else ""))
    return ", ".join(dict.fromkeys(found)) or "None that comes along: name it in a recipe of your own."


def example_of(name: str) -> str:
    """The example, before and after."""
    path = HERE / "pass-examples" / f"{name}.txt"
    try:
        found = run(path)
    except Exception as error:  # what it needs is not installed here
        return f"Not run here: {error}"
    how = [f"{key} {found.head[key]}" for key in ("options", "target", "samples", "first") if key in found.head]
    error = (
        "" if found.decibels is None else "The outputs are the same to the bit." if found.decibels == float("inf")
        else f"The outputs are {found.decibels:.1f} dB from those of the source."
    )  # fmt: skip
    fired = f"Fired: {', '.join(f'`{rule}`' for rule in found.rules)}. " if found.rules else ""
    before, after = format_model(found.before, most=MOST), format_model(found.after, most=MOST)
    head = f"With {', '.join(how)}:" if how else "Before:"
    return f"{head}\n\n```text\n{before}\n```\n\nbecomes\n\n```text\n{after}\n```\n\n{fired}{error}"


def prose(text: str | None) -> str:
    """A docstring as Markdown: roles become code."""
    cleaned = re.sub(r":(?:class|meth|func|mod|data):`~?([^`]+)`", r"`\1`", inspect.cleandoc(text or ""))
    return cleaned.replace("``", "`").replace("*", "\\*").replace("<", "&lt;") if cleaned else ""


def write(folder: Path) -> None:
    """All pages, and a list of them."""
    folder.mkdir(parents=True, exist_ok=True)
    names = list(builtin_passes())
    for name in names:
        (folder / f"{name}.md").write_text(page(name, passes()[name]), "utf-8")
    listed = "\n".join(names)
    about = "What each does, its options, rules with their sources, and a small model before and after."
    (folder / "index.md").write_text(f"# Passes\n\n{about}\n\n```{{toctree}}\n{listed}\n```\n", "utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
