"""What is public: `__all__` of every public module, and no optional dependency behind the package itself."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import tuned_digest
from tuned_digest.server import blobs

OPTIONAL = ("httpx", "requests", "urllib3", "starlette", "uvicorn", "trio")
MODULES = [
    "tuned_digest",
    *(
        found.name
        for found in pkgutil.walk_packages(tuned_digest.__path__, "tuned_digest.")
        if not any(part.startswith("_") for part in found.name.split("."))
    ),
]


def defined(tree: ast.Module) -> set[str]:
    """Name what a module defines, or what a package imports, without an underscore."""
    names: set[str] = set()
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    return names


def imported(tree: ast.Module) -> set[str]:
    """Name what a package takes in from its own modules."""
    return {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    }


def published(name: str) -> tuple[list[str], set[str]]:
    """Give a module's `__all__`, and what a reader of its source takes for public."""
    module = importlib.import_module(name)
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text())
    names = defined(tree)
    if module.__file__.endswith("__init__.py"):
        works = any(isinstance(node, ast.FunctionDef) for node in tree.body)  # with some of what it takes in
        names |= imported(tree) & set(module.__all__) if works else imported(tree)
    return module.__all__, {one for one in names if not one.startswith("_") and one != "T"}


@pytest.mark.parametrize("name", MODULES)
def test_public_names_are_sorted(name: str) -> None:
    """`__all__` is sorted, constants before classes before functions, and names nothing twice."""
    listed, _ = published(name)
    assert listed == sorted(set(listed), key=lambda one: (not one.isupper(), one[0].islower(), one))


@pytest.mark.parametrize("name", MODULES)
def test_public_names_are_what_is_there(name: str) -> None:
    """`__all__` lists every name that a module defines without an underscore, and no other."""
    listed, there = published(name)
    assert set(listed) == there


@pytest.mark.parametrize("name", MODULES)
def test_public_names_can_be_imported(name: str) -> None:
    """Every name in `__all__` is an attribute of its module."""
    module = importlib.import_module(name)
    assert all(hasattr(module, one) for one in module.__all__)


def python(code: str) -> str:
    """Run code in a new interpreter and give what it prints."""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


BLOCK = f"import sys; sys.modules.update(dict.fromkeys({OPTIONAL!r}));"


@pytest.mark.parametrize("name", ["tuned_digest", "tuned_digest.server", "tuned_digest.server.asgi"])
def test_no_extra_is_needed(name: str) -> None:
    """The package and its server import with no optional dependency installed."""
    assert python(f"{BLOCK} import {name}; print({name}.__name__)") == name


@pytest.mark.parametrize("name", ["tuned_digest", "tuned_digest.server", "tuned_digest.server.asgi"])
def test_no_optional_dependency_is_imported(name: str) -> None:
    """The package and its server leave optional dependencies alone, installed or not."""
    assert python(f"import sys, {name}; print(sorted(set(sys.modules) & set({OPTIONAL!r})))") == "[]"


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("tuned_digest.httpx", "httpx"),
        ("tuned_digest.requests", "requests"),
        (blobs.__name__, "demo"),
        ("tuned_digest.demo", "demo"),
    ],
)
def test_a_missing_extra_is_named(name: str, extra: str) -> None:
    """Importing an adapter without its library is an ImportError that says what to install."""
    code = f"""
{BLOCK}
from tuned_digest import MissingExtraError
try:
    import {name}
except ImportError as error:
    assert isinstance(error, MissingExtraError)
    print(error.extra, "tuned-digest[" + error.extra + "]" in str(error))
"""
    assert python(code) == f"{extra} True"
