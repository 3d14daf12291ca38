"""Sphinx configuration."""

from importlib.metadata import version as installed_version
from inspect import signature
from typing import Any

from sphinx.application import Sphinx
from sphinx.util.inspect import stringify_signature

project = "tuned-digest"
author = "The tuned-digest authors"
project_copyright = "the tuned-digest authors"
release = installed_version("tuned-digest")
version = release

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build"]
default_role = "code"

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False

myst_heading_anchors = 3

copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True

html_theme = "furo"
html_title = f"tuned-digest {release}"


def hide_private_parameters(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, arguments: str | None, returns: str | None
) -> tuple[str, str | None] | None:
    """Leave out parameters that exist for tests alone: their names begin with an underscore."""
    if what != "class" or not arguments or " _" not in arguments:
        return None
    full = signature(obj)  # of a class: self is not in it
    public = [parameter for parameter in full.parameters.values() if not parameter.name.startswith("_")]
    return stringify_signature(full.replace(parameters=public), unqualified_typehints=True), returns


def keep_colons(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Begin sentences with a colon where napoleon would take the words before their own for a type."""
    before = "Returns:" if what in {"attribute", "data", "property"} else ""
    for number, line in enumerate(lines):
        if before.strip() == "Returns:" and ":" in line:
            lines[number] = line.replace(line.lstrip(), f": {line.lstrip()}")
        before = line


def setup(app: Sphinx) -> None:
    """Connect the hooks above."""
    app.connect("autodoc-process-signature", hide_private_parameters)
    app.connect("autodoc-process-docstring", keep_colons, priority=100)  # before napoleon
