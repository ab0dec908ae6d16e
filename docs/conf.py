"""The site: ``python -m sphinx -W docs build/site``. Pages of passes are written anew by every build."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

project = "qcompiler"
author = "The qcompiler contributors"
copyright = author
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = "qcompiler"
html_show_sourcelink = False
html_show_sphinx = False
html_theme_options = {"footer_icons": []}
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
autodoc_typehints = "description"
autodoc_member_order = "bysource"
exclude_patterns = ["_build", "pass-examples"]
suppress_warnings = ["myst.strikethrough"]


def setup(app):
    """Write the pages of passes before the sources are read."""
    import pass_pages

    pass_pages.write(HERE / "passes")
