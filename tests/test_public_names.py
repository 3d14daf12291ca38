"""What is public: a known list of modules, `__all__` of each, and no optional dependency behind them."""

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import tuned_digest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = sorted((ROOT / "examples").glob("*.py"))

OPTIONAL = (
    *("alembic", "httpx", "joserfc", "redis", "requests", "sqlalchemy", "starlette"),
    *("trio", "urllib3", "uvicorn"),
)

PUBLIC = [
    "tuned_digest",
    "tuned_digest.errors",
    "tuned_digest.events",
    "tuned_digest.httpx",
    "tuned_digest.keys",
    "tuned_digest.proof",
    "tuned_digest.requests",
    "tuned_digest.server",
    "tuned_digest.server.accounts",
    "tuned_digest.server.accounts.asgi",
    "tuned_digest.server.accounts.schema",
    "tuned_digest.server.accounts.sql",
    "tuned_digest.server.accounts.wsgi",
    "tuned_digest.server.asgi",
    "tuned_digest.server.stores.redis",
]
"""The modules that users import. A module more is a promise more."""

INSIDE = [
    *(f"tuned_digest.keys.{name}" for name in ("files", "private_keys", "public_keys", "signers")),
    "tuned_digest.keys.verification",
    *(f"tuned_digest.proof.{name}" for name in ("argon2", "engines", "job", "native", "search", "work")),
    *(f"tuned_digest.server.{name}" for name in ("adaptive", "bodies", "checks", "counters", "decoys")),
    *(f"tuned_digest.server.{name}" for name in ("effects", "grants", "incoming", "outages", "policy")),
    *(f"tuned_digest.server.{name}" for name in ("refusals", "schemes", "spending", "spools", "tokens")),
    *(f"tuned_digest.server.accounts.{name}" for name in ("application", "codes", "contents", "devices")),
    *(f"tuned_digest.server.accounts.{name}" for name in ("enrolment", "lookups", "memory", "one_time")),
    *(f"tuned_digest.server.accounts.{name}" for name in ("openapi", "registry", "tries")),
    *(f"tuned_digest.server.stores.{name}" for name in ("memory", "sqlite", "stateless")),
    *("tuned_digest.server.stores", "tuned_digest.server.turns", "tuned_digest.server.verifier"),
]
"""What public packages are made of, without an underscore: users import it from the package."""

MODULES = [
    "tuned_digest",
    *(
        found.name
        for found in pkgutil.walk_packages(tuned_digest.__path__, "tuned_digest.")
        if not found.name.endswith("__main__")
    ),
]

LEAVES = {"tuned_digest.httpx", "tuned_digest.requests"}
MOUNTED = {"tuned_digest.server.accounts.asgi", "tuned_digest.server.accounts.wsgi"}

NAMES = 103
"""How many names are public, each counted once: who adds one or takes one away changes this number."""


def names_of(module: str) -> list[str]:
    """Give a module's `__all__`."""
    names: list[str] = getattr(importlib.import_module(module), "__all__", [])
    return names


class TestModules:
    def test_a_module_is_public_or_has_an_underscore(self) -> None:
        """Every module is listed above, or has a part in its path that begins with an underscore."""
        open_to_all = [name for name in MODULES if not any(part[0] == "_" for part in name.split("."))]
        assert open_to_all == sorted([*PUBLIC, *INSIDE])

    def test_the_reference_lists_what_is_public(self) -> None:
        """The reference page documents the public modules, each once, and no other."""
        page = (ROOT / "docs" / "reference.md").read_text("utf-8")
        assert sorted(re.findall(r"(?m)^\.\. automodule:: (\S+)$", page)) == PUBLIC

    def test_the_reference_documents_a_name_once(self) -> None:
        """What `tuned_digest` takes in from another public module is documented there and only there."""
        page = (ROOT / "docs" / "reference.md").read_text("utf-8")
        excluded = re.search(r"(?m)^\.\. automodule:: tuned_digest\n +:exclude-members: (.*)$", page)
        assert excluded is not None
        elsewhere = {name for module in PUBLIC[1:] for name in names_of(module)}
        assert excluded[1].split(", ") == [name for name in tuned_digest.__all__ if name in elsewhere]


class TestNames:
    def test_public_names_are_counted(self) -> None:
        """The number of public names is known, and a change of it a decision."""
        named = {
            (name, id(getattr(importlib.import_module(module), name)))
            for module in PUBLIC
            for name in names_of(module)
        }
        assert len(named) == NAMES

    def test_a_public_name_means_one_thing(self) -> None:
        """A name that two public modules list is one object; leaves alone share names.

        So does the application that is mounted in ASGI servers and in WSGI servers.
        """
        meanings: dict[str, object] = {}
        for module in sorted(set(PUBLIC) - LEAVES - MOUNTED):
            for name in names_of(module):
                found = getattr(importlib.import_module(module), name)
                assert meanings.setdefault(name, found) is found, name
        assert {name for leaf in LEAVES for name in names_of(leaf)}.isdisjoint(meanings)

    def test_leaves_name_the_same(self) -> None:
        """Every leaf has the same public names."""
        first, *others = (names_of(leaf) for leaf in sorted(LEAVES))
        assert all(names == first for names in others)

    @pytest.mark.parametrize("name", MODULES)
    def test_names_are_sorted(self, name: str) -> None:
        """`__all__` is sorted, constants before classes before functions, and names nothing twice."""
        listed, _ = published(name)
        assert listed == sorted(set(listed), key=lambda one: (not one.isupper(), one[0].islower(), one))

    @pytest.mark.parametrize("name", MODULES)
    def test_names_are_what_is_there(self, name: str) -> None:
        """`__all__` lists every name that a module defines without an underscore, and no other."""
        listed, there = published(name)
        assert set(listed) == there

    @pytest.mark.parametrize("name", MODULES)
    def test_names_can_be_imported(self, name: str) -> None:
        """Every name in `__all__` is an attribute of its module."""
        module = importlib.import_module(name)
        assert [one for one in names_of(name) if not hasattr(module, one)] == []


def defined(tree: ast.Module) -> set[str]:
    """Name what a module defines, type variables apart."""
    names: set[str] = set()
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Assign(value=ast.Call(func=ast.Name(id="TypeVar"))):
                pass
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
    tree = ast.parse(Path(module.__file__).read_text("utf-8"))
    names = defined(tree)
    if module.__file__.endswith("__init__.py"):
        works = bool(names - {"__all__"})  # with some of what it takes in
        names |= imported(tree) & set(names_of(name)) if works else imported(tree)
    return names_of(name), {one for one in names if not one.startswith("_")}


def public_uses(source: str) -> Iterator[tuple[str, str]]:
    """Name what a program imports from this package: modules, and names of them."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (
                (alias.name, "") for alias in node.names if alias.name.split(".")[0] == "tuned_digest"
            )
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tuned_digest":
            yield from ((str(node.module), alias.name) for alias in node.names)


def is_public(module: str, name: str) -> bool:
    """Tell whether a module is public, and the name one of its own or a public module in it."""
    return module in PUBLIC and (name in ("", *names_of(module)) or f"{module}.{name}" in PUBLIC)


class TestUses:
    @pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name)
    def test_examples_import_public_names(self, program: Path) -> None:
        """An example imports something from this package, and public names alone."""
        uses = list(public_uses(program.read_text("utf-8")))
        assert uses
        assert [use for use in uses if not is_public(*use)] == []

    @pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
    def test_pages_import_public_names(self, page: Path) -> None:
        """The Python blocks of a page import public names alone."""
        blocks = re.findall(r"(?ms)^( *)```python\n(.*?)^\1```$", page.read_text("utf-8"))
        uses = [use for indent, block in blocks for use in public_uses(textwrap.dedent(block))]
        assert [use for use in uses if not is_public(*use)] == []

    @pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
    def test_pages_name_public_modules(self, page: Path) -> None:
        """A module of this package that a page names is public."""
        named = re.findall(r"\btuned_digest(?:\.\w+)+", page.read_text("utf-8"))
        unknown = [name for name in named if not is_public(name, "") and not is_public(*name.rsplit(".", 1))]
        assert unknown == []

    @pytest.mark.parametrize(
        "source",
        [
            "import tuned_digest._client.auth",
            "import tuned_digest.keys.files",
            "from tuned_digest._client.auth import AuthBase",
            "from tuned_digest.keys.signers import Ed25519Signer",
            "from tuned_digest.httpx import FamilyAuth",
            "from tuned_digest import _client",
            "from tuned_digest.keys import files",
        ],
    )
    def test_what_is_not_public_is_found(self, source: str) -> None:
        """The checks above see what is not public."""
        assert [use for use in public_uses(source) if not is_public(*use)]


def python(code: str) -> str:
    """Run code in a new interpreter and give what it prints."""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


BLOCK = f"import sys; sys.modules.update(dict.fromkeys({OPTIONAL!r}));"

NEEDING = {
    *LEAVES,
    *("tuned_digest.server.accounts.schema", "tuned_digest.server.accounts.sql"),
    "tuned_digest.server.stores.redis",
}
"""Public modules that need an extra."""

WITHOUT_EXTRAS = [*(name for name in PUBLIC if name not in NEEDING), "tuned_digest._cli"]


class TestExtras:
    @pytest.mark.parametrize("name", WITHOUT_EXTRAS)
    def test_no_extra_is_needed(self, name: str) -> None:
        """The package, its server and its command line import with no optional dependency installed."""
        assert python(f"{BLOCK} import {name}; print({name}.__name__)") == name

    @pytest.mark.parametrize("name", WITHOUT_EXTRAS)
    def test_no_optional_dependency_is_imported(self, name: str) -> None:
        """The same leave optional dependencies alone, installed or not."""
        assert python(f"import sys, {name}; print(sorted(set(sys.modules) & set({OPTIONAL!r})))") == "[]"

    @pytest.mark.parametrize(
        ("name", "extra"),
        [
            ("tuned_digest.httpx", "httpx"),
            ("tuned_digest.requests", "requests"),
            ("tuned_digest._cli.blobs", "demo"),
            ("tuned_digest._cli.demo", "demo"),
            ("tuned_digest._cli.service", "demo"),
            ("tuned_digest.server.accounts.schema", "accounts"),
            ("tuned_digest.server.accounts.sql", "accounts"),
            ("tuned_digest.server.stores.redis", "redis"),
        ],
    )
    def test_a_missing_extra_is_named(self, name: str, extra: str) -> None:
        """Importing what needs an extra without it is an ImportError that says what to install."""
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
