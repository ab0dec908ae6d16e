"""The page on writing a pass says what is true: its code runs from top to bottom."""

import re
from pathlib import Path


def test_the_code_of_writing_a_pass_runs(root: Path) -> None:
    text = (root / "docs" / "writing-a-pass.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 6
    names: dict[str, object] = {"__name__": "a_page"}
    for block in blocks:
        exec(compile(block, "docs/writing-a-pass.md", "exec"), names)
    assert names["records"]
