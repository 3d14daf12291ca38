"""Sphinx configuration."""

from importlib.metadata import version as installed_version
from typing import Any

from sphinx.application import Sphinx
from sphinx.util.inspect import signature, stringify_signature

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


def hide_private_parameters(  # noqa: PLR0917  # Sphinx passes them so
    app: Sphinx, what: str, name: str, obj: Any, options: Any, arguments: str | None, returns: str | None
) -> tuple[str, str | None] | None:
    """Leave out parameters that exist for tests alone: their names begin with an underscore."""
    if what != "class" or not arguments or " _" not in arguments:
        return None
    full = signature(obj, bound_method=True)
    public = [parameter for parameter in full.parameters.values() if not parameter.name.startswith("_")]
    return stringify_signature(full.replace(parameters=public), unqualified_typehints=True), returns


def setup(app: Sphinx) -> None:
    """Connect the hook above."""
    app.connect("autodoc-process-signature", hide_private_parameters)
