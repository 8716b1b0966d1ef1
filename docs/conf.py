"""How Sphinx makes a site of these pages and of the code: `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, List

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from graphslim import __version__  # noqa: E402

project = "graphslim"
author = "the developers of graphslim"
version = release = __version__
copyright = author

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
]
# What stands in `single backticks` in a docstring is code, as in Markdown.
default_role = "code"
myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]

autodoc_default_options = {"members": True}
add_module_names = False
autodoc_mock_imports = ["tensorflow"]  # which `graphslim.training` imports
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
# What the docstrings of passes draw, and they draw it as graphs in text.
napoleon_custom_sections = [("Before", "notes"), ("After", "notes")]

html_theme = "furo"
html_title = f"graphslim {version}"
html_copy_source = False
exclude_patterns: List[str] = []


def _without_fields(app: Any, what: str, name: str, item: Any, skip: bool, options: Any) -> bool:
    """Leaves out the members of named tuples, which their class describes as attributes."""
    return skip or (getattr(item, "__doc__", None) or "").startswith("Alias for field number")


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-skip-member", _without_fields)
