"""Each example does what it says, as a program of its own, against a real server."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tuned_digest import Ed25519Signer
from tuned_digest.httpx import SelfSignedTokenAuth, TunedDigestAuth

from .serving import Served

EXAMPLES = Path(__file__).parent.parent / "examples"

CLIENTS = {
    "httpx_sync": r"""
        wrote:\ 201,\ challenged\ 1\ times\n
        (read:\ 'hello',\ challenged\ 0\ times\n){3}
    """,
    "httpx_async": r"""
        100\ of\ 100\ read,\ [1-9]\ of\ them\ challenged\n
    """,
    "requests_session": r"""
        wrote\ 8890\ bytes,\ challenged\ 1\ times\n
        read\ 1000\ lines,\ challenged\ 0\ times\n
    """,
    "create_with_progress": r"""
        challenged\ by\ http://127\.0\.0\.1:\d+,\ for\ create\n
        working:\ \$argon2d\$v=19\$m=128,t=1,p=1\n
        (\n\s*\d+%\ of\ about\ \d+\.\d\ s)+\n
        worked:\ \d+\.\d\d\ s\n
        signed:\ POST\ under\ tuned-digest-signature\n
        answer:\ 201\n
    """,
    "key_in_a_kms": r"""
        blocking:\ 404\n
        async:\ 404\n
    """,
}
"""What each example that is a client prints."""

ENVIRONMENT = {**os.environ, "PYTHONWARNINGS": "default::ResourceWarning", "PYTHONIOENCODING": "utf-8"}


def test_every_example_is_tested() -> None:
    """There is no example that these tests do not run."""
    assert {path.stem for path in EXAMPLES.iterdir() if path.suffix == ".py"} == {
        *CLIENTS,
        "accounts_server",
        "server",
    }


@pytest.mark.parametrize("name", CLIENTS)
def test_client(name: str, blobs: Served) -> None:
    """An example prints what it promises, and warns of nothing."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", blobs.url],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(CLIENTS[name], done.stdout, re.VERBOSE), done.stdout


@contextmanager
def running_server(*accounts: str) -> Iterator[str]:
    """The server of the example on a free port, until the block ends."""
    command = [sys.executable, str(EXAMPLES / "server.py"), "0", *accounts]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        try:
            lines = iter(process.stderr.readline, "")
            found = (re.search(r"running on (http://\S+)", line) for line in lines)
            yield next(match[1] for match in found if match)
        finally:
            process.terminate()
            process.stderr.read()


def test_server(signer: Ed25519Signer) -> None:
    """The example of a server knows its accounts, classifies requests and refuses strangers."""
    with running_server(f"alice={signer.identity}") as url, httpx.Client(base_url=url, timeout=60) as client:
        auth = TunedDigestAuth(url, signer)
        created = client.put("/notes/first", content=b"hello", auth=auth.for_action("create"))
        assert created.json() == {"note": "hello", "account": "alice", "action": "create"}
        updated = client.put("/notes/first", content=b"hello again", auth=auth)
        assert updated.json() == {"note": "hello again", "account": "alice", "action": "update"}
        stranger = client.get("/notes/first", auth=TunedDigestAuth(url, Ed25519Signer.generate()))
        assert (stranger.status_code, stranger.json()["reason"]) == (401, "unknown identity")
        too_large = client.put("/notes/first", content=bytes(64 * 1024 + 1), auth=auth)
        assert too_large.status_code == 413


def test_accounts_server(tmp_path: Path) -> None:
    """The example with accounts enrols a key that was invited, and takes its tokens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    file, key = tmp_path / "accounts.db", tmp_path / "key.pem"
    program = [sys.executable, "-m", "tuned_digest"]

    def run(*arguments: str | Path, told: str = "") -> str:
        return subprocess.run(
            [*program, *arguments], input=told, capture_output=True, text=True, timeout=60, check=True
        ).stdout

    command = [sys.executable, str(EXAMPLES / "accounts_server.py"), url.rpartition(":")[2], str(file)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        assert process.stderr is not None
        try:
            assert any("running on" in line for line in iter(process.stderr.readline, ""))
            code = run("keys", "invite", "acme", "--registry", file)
            run("enroll", f"{url}/account", "--account", "acme", "--key", key, "--invitation", "-", told=code)
            auth = SelfSignedTokenAuth(url, Ed25519Signer.from_file(key), account="acme")
            assert httpx.get(f"{url}/whoami", auth=auth).json()["account"] == "acme"
        finally:
            process.terminate()
            process.stderr.read()


def test_server_offers_no_search_for_creating() -> None:
    """The example of a server asks for Argon2 and nothing else to create a note."""
    with running_server() as url:
        fields = httpx.put(f"{url}/notes/first", content=b"hello").headers.get_list("WWW-Authenticate")
    assert len(fields) == 1
    assert "algorithm=$argon2d" in fields[0]
