"""The documents say what is true: their code runs, their commands exist, their links lead somewhere."""

import ast
import importlib
import inspect
import re
import shlex
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import pytest

from tuned_digest import Ed25519Signer, PublicKey
from tuned_digest._cli.accounts import beside_accounts
from tuned_digest._cli.blobs import blobs_application
from tuned_digest.server import MemoryNonceStore
from tuned_digest.server.accounts import EnrolledKey, MemoryKeyRegistry
from tuned_digest.server.asgi import Application, Receive, Scope, Send

from .pages import run_blocks
from .serving import QUICK, QUICK_CREATE, Served, serve

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
REFERENCE = ROOT / "docs" / "reference.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
OUR_PAGES = [page for page in PAGES if page.name != "howto-services.md"]  # see test_services.py for that one
MARKDOWN = [*sorted(ROOT.glob("*.md")), *PAGES[1:]]
PROGRAMS = sorted((ROOT / "examples").glob("*.py"))

SERVERS = re.compile(r"https://api\.example\.com|http://127\.0\.0\.1:8000")
"""What stands for a server in code blocks: the one of ours takes its place."""

# The languages of fences; a block in any other would be read by nobody.
LANGUAGES = {"python", "console", "text", "{eval-rst}", "{toctree}"}
FENCE = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
COMMAND = re.compile(r"tuned-digest (demo|serve|keygen|-\S+|\w+)([^`#|\n]*)")

Fence = tuple[str, str]


def fences(page: Path) -> Iterator[Fence]:
    """The fenced blocks of a page, each with its language."""
    for match in FENCE.finditer(page.read_text("utf-8")):
        yield match[2].strip(), textwrap.dedent(match[3])


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", page.read_text("utf-8"))


def named(path: Path) -> str:
    """A file's path in the repository, to name a case after."""
    return path.relative_to(ROOT).as_posix()


QUICK_BLOBS = partial(blobs_application, access=QUICK, create=QUICK_CREATE)

OF_ACCOUNTS = {"README.md", "howto-tokens.md", "howto-accounts.md", "howto-lost-device.md"}
"""The pages whose key is enrolled, for the account acme-42."""


@contextmanager
def served_to(signer: Ed25519Signer) -> Iterator[Served]:
    """The blob store under both schemes, and its accounts, to one key."""
    served_later: Application

    async def later(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await served_later(scope, receive, send)

    with serve(later, lifespan="off") as served:
        registry, store, key = MemoryKeyRegistry(), MemoryNonceStore(), PublicKey.of(signer)
        enrolled = EnrolledKey(key.thumbprint, "acme-42", key.jwk, "laptop", time.time())
        registry.enrol(enrolled, what="key added", by="operator")
        blobs = QUICK_BLOBS(nonces=store, registry=registry, origin=served.url)
        served_later = beside_accounts(blobs, registry, served.url, registration="invited", single_use=store)
        yield served


@pytest.mark.parametrize("page", OUR_PAGES, ids=named)
def test_code_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python blocks of a page run, in order, against a real server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NONCE_KEY", "ab" * 32)
    signer = Ed25519Signer.generate()
    for name in ("key.pem", "laptop.pem", "phone.pem"):
        key = tmp_path / name
        key.touch(mode=0o600)
        key.write_bytes(signer.to_pem())
    serving = served_to(signer) if page.name in OF_ACCOUNTS else serve(QUICK_BLOBS())
    with serving as served:
        run_blocks(page, SERVERS.sub(served.url, page.read_text("utf-8")))


def test_nothing_in_the_readme_is_skipped() -> None:
    """Every Python block of the README runs."""
    assert "<!--" not in README.read_text("utf-8")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_fences_name_a_known_language(page: Path) -> None:
    """Every fenced block names a language that these tests know."""
    assert {language for language, _ in fences(page)} <= LANGUAGES


def console_lines(page: Path) -> Iterator[str]:
    """The commands in a page's console blocks."""
    for language, text in fences(page):
        if language == "console":
            yield from (line[2:] for line in text.splitlines() if line.startswith("$ "))


@cache
def help_of(*arguments: str) -> str:
    """What a command says of itself."""
    command = [sys.executable, "-m", "tuned_digest", *arguments, "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.parametrize("page", MARKDOWN, ids=named)
def test_commands_exist(page: Path) -> None:
    """Each tuned-digest command and option that a page names is one."""
    inline = re.findall(r"`(tuned-digest [^`]+)`", prose(page))
    for command, rest in COMMAND.findall("\n".join([*console_lines(page), *inline])):
        arguments = [] if command.startswith("-") else [command]
        if command == "keys":  # it has commands of its own
            arguments += rest.split()[:1]
        shown = help_of(*arguments)
        for word in shlex.split(f"{command} {rest}"):
            if word.startswith("-"):
                assert re.search(rf"(?<![\w-]){re.escape(word.partition('=')[0])}(?![\w-])", shown), word


@pytest.mark.parametrize("page", MARKDOWN, ids=named)
def test_sessions_exist(page: Path) -> None:
    """Each nox session that a page names is one."""
    tree = ast.parse((ROOT / "noxfile.py").read_text("utf-8"))
    sessions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list}
    for arguments in re.findall(r"\bnox -s ((?:[a-z]+ ?)+)", page.read_text("utf-8")):
        assert set(arguments.split()) <= sessions


def private_attributes(source: str) -> list[str]:
    """The attributes with an underscore that a program uses, but for those of its own classes."""
    attributes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)]
    return [
        attribute.attr
        for attribute in attributes
        if re.match(r"_(?!.*__$)", attribute.attr) and ast.unparse(attribute.value) != "self"
    ]


@pytest.mark.parametrize("program", PROGRAMS, ids=named)
def test_examples_use_no_private_attributes(program: Path) -> None:
    """An example uses no attribute that begins with an underscore."""
    assert private_attributes(program.read_text("utf-8")) == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_pages_use_no_private_attributes(page: Path) -> None:
    """A page's code uses no attribute that begins with an underscore."""
    for language, text in fences(page):
        if language == "python":
            assert private_attributes(text) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("auth._settings", ["_settings"]),
        ("tuned_digest._client.auth", ["_client"]),
        ("self._key.sign(message)", []),
        ("b'%d'.__mod__", []),
    ],
)
def test_private_attributes_are_found(source: str, found: list[str]) -> None:
    """The check above sees what is private, and lets a class use its own attributes."""
    assert private_attributes(source) == found


def test_reference_names_type_aliases() -> None:
    """The reference names each public alias of a type, which Sphinx passes over by itself."""
    page = REFERENCE.read_text("utf-8")
    named_by_hand = set(re.findall(r"^ +\.\. autodata:: (\w+)$", page, re.MULTILINE))
    modules = map(importlib.import_module, re.findall(r"^\.\. automodule:: (\S+)$", page, re.MULTILINE))
    public = {name: getattr(module, name) for module in modules for name in module.__all__}
    classes = {name for name, value in public.items() if inspect.isclass(value) or inspect.isfunction(value)}
    assert named_by_hand == set(public) - classes


def test_readme_opens_with_install_and_use() -> None:
    """The README's first screen holds how to install the package and how to use it."""
    first_screen = "\n".join(README.read_text("utf-8").splitlines()[:40])
    assert "$ pip install" in first_screen
    assert "TunedDigestAuth(" in first_screen


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST make them."""
    headings = HEADING.findall(FENCE.sub("", page.read_text("utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", MARKDOWN, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link leads to a file of this repository, and to a heading where it names one."""
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT.resolve()), link
        if anchor:
            assert anchor in anchors(target), link
