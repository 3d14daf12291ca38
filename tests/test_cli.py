"""The command line, as a process of its own where it runs a server, and called where it does not."""

import errno
import getpass
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tuned_digest import Ed25519Signer
from tuned_digest._cli import main
from tuned_digest._cli.blobs import BlobStore, blobs_application
from tuned_digest.httpx import TunedDigestAuth
from tuned_digest.server.asgi import TunedDigestMiddleware

from .commands import running
from .serving import QUICK, QUICK_CREATE, Served, serve


def test_serve_prints_its_address_once_it_accepts_connections() -> None:
    """The address that is printed can be connected to at once, with the tunings that were asked for."""
    access, create = "$argon2d$v=19$m=64,t=1,p=1", "$argon2id$v=19$m=128,t=2,p=1"
    with running("--access", access, "--create", create, "--cost", "7") as url:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
        reading, creating = httpx.get(f"{url}/blobs/x"), httpx.put(f"{url}/blobs/x")
    assert f"algorithm={access};actions=read" in reading.headers["www-authenticate"]
    assert f"algorithm={create};actions=create" in creating.headers["www-authenticate"]
    assert "algorithm=blake3$7;actions=read" in reading.headers["uno-www-authn"]


def test_serve_keeps_blobs() -> None:
    """What is put can be read, appended to, replaced and deleted; what is not there is 404."""
    with running("--access", "$argon2d$v=19$m=64,t=1,p=1", "--create", "$argon2d$v=19$m=64,t=1,p=1") as url:
        auth = TunedDigestAuth(url, Ed25519Signer.generate())
        with httpx.Client(base_url=url, auth=auth) as client:
            assert client.put("/blobs/a%2Fb", content=b"1").status_code == 404  # a name has no slash
            assert client.put("/blobs/a b", content=b"1").status_code == 201
            assert client.put("/blobs/a b", content=b"2").status_code == 200
            assert client.patch("/blobs/a b", content=b"3").json() == {"name": "a b", "size": 2}
            assert client.get("/blobs/a b").content == b"23"
            posted = client.post("/blobs", content=b"4").json()["name"]
            assert client.get(f"/blobs/{posted}").content == b"4"
            assert client.delete("/blobs/a b").status_code == 204
            missing = [
                client.request(method, "/blobs/a b").status_code for method in ("GET", "PATCH", "DELETE")
            ]
            assert missing == [404, 404, 404]
            assert client.patch("/blobs/welcome", content=b"!").json()["size"] > 1
            too_much = client.put("/blobs/big", content=bytes(16 * 1024 * 1024 + 1))
            assert too_much.status_code == 413


def test_blobs_are_there_behind_a_prefix_too(blobs: Served, signer: Ed25519Signer) -> None:
    """Behind the prefix clients sign the path without it."""
    auth = TunedDigestAuth(blobs.url, signer, signed_path=lambda path: path.removeprefix("/v2"))
    with httpx.Client(base_url=blobs.url, auth=auth) as client:
        assert client.put("/v2/blobs/x", content=b"1").status_code == 201
        assert client.get("/blobs/x").content == b"1"


def test_processes_share_the_blobs_of_one_file(tmp_path: Path, signer: Ed25519Signer) -> None:
    """A blob put at one application is there at another, and one deleted does not come back with a third."""
    path = str(tmp_path / "blobs")

    def application() -> TunedDigestMiddleware:
        return blobs_application(access=QUICK, create=QUICK_CREATE, blobs=BlobStore(path))

    with serve(application()) as one, serve(application()) as other, httpx.Client() as client:
        to_one, to_other = TunedDigestAuth(one.url, signer), TunedDigestAuth(other.url, signer)
        assert client.put(f"{one.url}/blobs/x", content=b"1", auth=to_one).status_code == 201
        assert client.get(f"{other.url}/blobs/x", auth=to_other).content == b"1"
        assert client.put(f"{other.url}/blobs/x", content=b"2", auth=to_other).status_code == 200
        assert client.delete(f"{one.url}/blobs/welcome", auth=to_one).status_code == 204
        with serve(application()) as third:
            to_third = TunedDigestAuth(third.url, signer)
            assert client.get(f"{third.url}/blobs/welcome", auth=to_third).status_code == 404


@pytest.mark.parametrize(
    "option", ["--access=argon2d", "--create=$argon2d$v=19$m=1,t=1,p=1", "--cost=0", "--port=x"]
)
def test_a_wrong_option_is_explained(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An option that cannot be used ends in exit status 2 and names itself."""
    with pytest.raises(SystemExit) as raised:
        main(["serve", option])
    assert raised.value.code == 2
    assert option.partition("=")[0] in capsys.readouterr().err


def test_a_port_in_use_is_a_failure() -> None:
    """Where the port is taken, serve ends with a status that is not 0."""
    with running() as url:
        port = url.rpartition(":")[2]
        command = [sys.executable, "-m", "tuned_digest", "serve", "--port", port]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    assert "in use" in ended.stderr
    assert "pass another --host or --port" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "99999"], "a port is 0 to 65535, not 99999"),
        (["--workers", "0"], "--workers is 1 or more, not 0"),
        (["--host", "a" * 64], "pass another --host or --port"),
        (["--store", "redis://:secret@host:port"], "write redis://host:port/0"),
        (["--store", "valkey://:secret@host/0"], "a store is the path of a file, or a URL that begins with"),
        (["--store", "localhost:6379"], "a store is the path of a file"),
        (["--store", ":memory:"], "a store is the path of a file"),
        (["--store", ""], "a store is the path of a file"),
    ],
)
def test_an_impossible_value_is_explained(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A value that cannot be used is said to be one, without a traceback and without a password."""
    assert main(["serve", "--port", "0", *arguments]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert "secret" not in error


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_store_that_cannot_serve_is_explained(
    workers: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is served, a store that cannot be used is named, without a traceback."""
    path = str(tmp_path / "missing" / "nonces")
    assert main(["serve", "--port", "0", "--workers", workers, "--store", path]) == 1
    written = capsys.readouterr()
    assert path in written.err
    assert written.out == ""


@pytest.mark.skipif(os.name != "posix", reason="signals are sent so on POSIX alone")
def test_serve_ends_quietly_when_it_is_interrupted() -> None:
    """Ctrl-C ends the server with status 0 and no traceback."""
    command = [sys.executable, "-m", "tuned_digest", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, printed = process.communicate(timeout=60)
    assert (process.returncode, printed) == (0, "")


def test_serve_without_its_extra_says_what_to_install() -> None:
    """Without uvicorn, serve names the extra."""
    code = (
        "import sys; sys.modules['uvicorn'] = None;"
        "from tuned_digest._cli import main; sys.exit(main(['serve']))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 1
    assert "tuned-digest[demo]" in ended.stderr


def test_blobs_are_bounded(signer: Ed25519Signer) -> None:
    """What would take all blobs over 64 MiB is answered 507 and changes nothing; what fits is kept."""
    largest = bytes(16 * 1024 * 1024)
    with serve(blobs_application(access=QUICK, create=QUICK_CREATE)) as server:
        auth = TunedDigestAuth(server.url, signer)
        with httpx.Client(base_url=server.url, auth=auth, timeout=60) as client:
            statuses = [client.put(f"/blobs/{number}", content=largest).status_code for number in range(4)]
            assert statuses == [201, 201, 201, 507]  # one is there from the start
            assert client.get("/blobs/3").status_code == 404
            assert client.put("/blobs/2", content=largest).status_code == 200
            assert client.put("/blobs/3", content=largest[1000:]).status_code == 201


def test_keygen_writes_a_key_that_its_owner_alone_can_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The key file has mode 600, loads, and has the identity that was printed."""
    path = tmp_path / "key.pem"
    assert main(["keygen", str(path)]) == 0
    assert capsys.readouterr().out.strip() == Ed25519Signer.from_file(path).identity
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_keygen_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that exists is left as it is."""
    path = tmp_path / "key.pem"
    path.write_text("mine")
    assert main(["keygen", str(path)]) == 1
    assert path.read_text() == "mine"
    assert "exists" in capsys.readouterr().err


@pytest.mark.parametrize("path", ["missing/key.pem", "~nobody-has-this-name/key.pem"])
def test_keygen_says_where_it_cannot_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    """A folder that is not there is named, and so is a user who is not."""
    monkeypatch.chdir(tmp_path)
    assert main(["keygen", path]) == 1
    assert f"{path} cannot be written" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="limits on the size of files are POSIX's")
def test_keygen_on_a_full_disk_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A key that could not be written whole leaves no file behind."""
    limited = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10));"
        "from tuned_digest._cli import main; sys.exit(main(['keygen', sys.argv[1]]))"
    )
    path = tmp_path / "key.pem"
    ended = subprocess.run(
        [sys.executable, "-c", limited, str(path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 1
    assert "could not be written" in ended.stderr
    assert not path.exists()


def test_keygen_leaves_no_part_of_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A disk that fails at the last moment leaves no file behind."""

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    assert main(["keygen", str(tmp_path / "key.pem")]) == 1
    assert list(tmp_path.iterdir()) == []
    assert "Input/output error" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "status"),
    [(["secret", "secret"], 0), (["secret", "other"], 1), ([""], 1), (["x" * 1024] * 2, 1)],
    ids=["the same", "different", "empty", "too long"],
)
def test_keygen_asks_for_a_password_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: list[str], status: int
) -> None:
    """A password is asked for twice, and a file is made only when both agree and can be used."""
    answers = iter(typed)
    monkeypatch.setattr(getpass, "getpass", lambda prompt: next(answers))
    path = tmp_path / "key.pem"
    assert main(["keygen", "--password", str(path)]) == status
    assert path.exists() == (status == 0)
    if status == 0:
        Ed25519Signer.from_file(path, password="secret")


def test_a_demo_without_its_server_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """When the server does not start, the demo says so and ends in 1."""
    monkeypatch.setattr(sys, "executable", shutil.which("true") or "true")
    assert main(["demo"]) == 1
    assert "did not start" in capsys.readouterr().err


def test_the_demo_holds(capfd: pytest.CaptureFixture[str]) -> None:
    """The demo drives three clients and two workers through chains and replays, and ends in 0."""
    ended = subprocess.run(
        [sys.executable, "-m", "tuned_digest", "demo"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("401, unknown nonce\n") == 3
    assert len(set(re.findall("401, unknown nonce, from (worker .*)", ended.stdout))) == 2
    assert "2 workers have taken a nonce that another one issued" in ended.stdout
    assert ended.stdout.count("one round trip") == 3 * (5 + 1)
    assert ended.stdout.count("2 round trips") == 3
    assert ended.stdout.count("401, the token was used before") == 1
    assert "All of it held." in ended.stdout


def test_a_password_that_never_comes_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the input ends before a password, keygen says so and writes nothing."""

    def ended(prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr("getpass.getpass", ended)
    assert main(["keygen", "--password", str(tmp_path / "key.pem")]) == 1
    assert "the input has ended" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_exists_is_named_before_a_password_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Keygen does not ask for a password that it has no use for."""
    (tmp_path / "key.pem").write_bytes(b"")
    monkeypatch.setattr("getpass.getpass", pytest.fail)
    assert main(["keygen", "--password", str(tmp_path / "key.pem")]) == 1
    assert "a key is never overwritten" in capsys.readouterr().err
