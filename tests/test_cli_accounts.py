"""The commands of devices against real servers: honest ones, and those that are down, slow or hostile."""

import getpass
import io
import json
import os
import re
import signal
import stat
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tuned_digest import Ed25519Signer
from tuned_digest._cli import main, serve
from tuned_digest._cli.account_client import AccountClient, Enrolled, Pending
from tuned_digest._cli.accounts import way_in
from tuned_digest._cli.demo_accounts import show_accounts
from tuned_digest._cli.devices import device_name
from tuned_digest._cli.enroll import wait_for_approval
from tuned_digest._cli.signed_calls import SignedCalls
from tuned_digest.errors import EnrolmentError
from tuned_digest.httpx import SelfSignedTokenAuth, TunedDigestAuth
from tuned_digest.server.accounts.enrolment import Registration

from .account_servers import AccountServer, Begin, accounts_served
from .clock import Clock
from .commands import commanded
from .enrolling import quick_hashes
from .raw_server import Fields, Recorded, Respond, Wire, record
from .serving import QUICK, QUICK_CREATE

Output = pytest.CaptureFixture[str]

DEADLINE = 60  # seconds
TUNINGS = ("--access", str(QUICK), "--create", str(QUICK_CREATE))
FINGERPRINT = re.compile(r"[A-Z2-7]{4}(?:-[A-Z2-7]{4}){3}")
CODE = re.compile(r"[0-9A-Z]{4}(?:-[0-9A-Z]{4}){6}")
WRONG = "0000-1111-2222-3333-4444-5555-6666"
"""A code that nobody made."""

posix = pytest.mark.skipif(os.name != "posix", reason="signals are sent so on POSIX alone")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash codes cheaply."""
    quick_hashes(monkeypatch)


@pytest.fixture(scope="module")
def begin() -> Iterator[Begin]:
    """A server, which each test begins anew."""
    with accounts_served() as begin:
        yield begin


@pytest.fixture
def server(begin: Begin, tmp_path: Path) -> AccountServer:
    """A server where accounts are invited."""
    return begin(tmp_path, "invited")


@pytest.fixture
def open_server(begin: Begin, tmp_path: Path) -> AccountServer:
    """A server where everybody may register."""
    return begin(tmp_path, "open")


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """A list: while something is in it, no server can be reached."""
    away: list[bool] = []
    exchange = SignedCalls._exchange

    async def exchange_unless_away(calls: SignedCalls, *arguments: Any) -> tuple[int, bytes]:
        if away:
            raise httpx.ConnectError("away")
        return await exchange(calls, *arguments)

    monkeypatch.setattr(SignedCalls, "_exchange", exchange_unless_away)
    return away


def piped(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let a text be what is piped into the next command."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def typed(monkeypatch: pytest.MonkeyPatch, text: str) -> list[str]:
    """Let a text be what is typed without echo, and note what is asked."""
    asked: list[str] = []

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return text

    monkeypatch.setattr(getpass, "getpass", answer)
    return asked


@contextmanager
def process(command: list[str]) -> Iterator["subprocess.Popen[str]"]:
    """Run a command as a process of its own, and end it with the block."""
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "tuned_digest", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def shown_characters(running: "subprocess.Popen[str]") -> str:
    """Read what a waiting device shows, as far as its 16 characters."""
    assert running.stdout is not None
    for line in running.stdout:
        if FINGERPRINT.fullmatch(line.strip()):
            return line.strip()
    raise AssertionError(running.communicate())


def read(url: str, file: Path, account: str) -> int:
    """Send a request that a key file's token signs."""
    auth = SelfSignedTokenAuth(url, Ed25519Signer.from_file(file), account=account)
    return httpx.get(f"{url}/blobs/welcome", auth=auth, timeout=DEADLINE).status_code


class TestEnroll:
    def test_an_invitation_enrols_the_first_key(self, server: AccountServer, capsys: Output) -> None:
        """A key file is made for its owner alone, the key is enrolled, and ten codes are shown."""
        assert server.run("enroll", "laptop", "--invitation", server.invite()) == 0
        printed = capsys.readouterr().out
        (key,) = server.registry.keys("acme")
        assert f"made a key, in the file {server.file('laptop')}" in printed
        assert f"{server.client('laptop').key.fingerprint}, laptop, a key of the account acme" in printed
        assert len(CODE.findall(printed)) == 10
        assert key.thumbprint == server.client("laptop").key.thumbprint
        if os.name == "posix":
            assert stat.S_IMODE(server.file("laptop").stat().st_mode) == 0o600

    def test_an_open_server_needs_none(self, open_server: AccountServer, capsys: Output) -> None:
        """Where registration is open the first key is enrolled at once."""
        assert open_server.run("enroll", "laptop") == 0
        assert len(open_server.registry.keys("acme")) == 1
        assert len(CODE.findall(capsys.readouterr().out)) == 10

    def test_the_file_is_named_after_the_account(
        self, server: AccountServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without --key the file is NAME.pem where the command runs, and the label is the host's name."""
        monkeypatch.chdir(server.folder)
        command = ["enroll", f"{server.url}/", "--account", "acme", "--invitation", server.invite()]
        assert main(command) == 0
        (key,) = server.registry.keys("acme")
        assert key.label == device_name()
        assert (server.folder / "acme.pem").exists()

    def test_a_key_that_is_there_is_taken(self, server: AccountServer, capsys: Output) -> None:
        """A key file is not overwritten: its key is enrolled."""
        server.client("laptop")
        content = server.file("laptop").read_bytes()
        assert server.run("enroll", "laptop", "--invitation", server.invite()) == 0
        assert server.file("laptop").read_bytes() == content
        assert "made a key" not in capsys.readouterr().out

    def test_a_key_of_another_kind_is_taken(self, server: AccountServer) -> None:
        """An EC key signs tokens too."""
        pem = generate_private_key(SECP256R1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        server.file("laptop").touch(0o600)
        server.file("laptop").write_bytes(pem)
        assert server.run("enroll", "laptop", "--invitation", server.invite()) == 0
        assert "ES256" in server.registry.keys("acme")[0].jwk

    @posix
    @pytest.mark.parametrize(
        ("root", "me", "status"), [(0, 1, 1), (0, 0, 0), (1, 0, 0)], ids=["others", "mine", "root's"]
    )
    def test_a_key_of_another_user_is_refused(
        self,
        server: AccountServer,
        monkeypatch: pytest.MonkeyPatch,
        capsys: Output,
        root: int,
        me: int,
        status: int,
    ) -> None:
        """Who left a key file there may know the key: it is taken from its user and from root alone."""
        server.client("laptop")
        owner = server.file("laptop").stat().st_uid
        # As if this user, and root, had other numbers than they have.
        monkeypatch.setattr("tuned_digest._cli.key_files._ROOT", owner if root else -1)
        monkeypatch.setattr(os, "geteuid", lambda: owner + me)
        code = server.invite()
        assert server.run("enroll", "laptop", "--invitation", code) == status
        error = capsys.readouterr().err
        assert error.count(f"{server.file('laptop')} belongs to another user") == status

    def test_a_home_that_nobody_has_is_explained(
        self, server: AccountServer, monkeypatch: pytest.MonkeyPatch, capsys: Output
    ) -> None:
        """A path below the home of a user who is not there is refused, whether such a path exists or not."""
        monkeypatch.chdir(server.folder)
        command = ["enroll", server.url, "--account", "acme", "--key", "~nobody-has-this-name/key"]
        assert main(command) == 1
        assert "cannot be written" in capsys.readouterr().err
        Path("~nobody-has-this-name").mkdir()
        Path("~nobody-has-this-name/key").touch()
        assert main(command) == 1
        assert "cannot be read" in capsys.readouterr().err

    def test_what_is_no_text_is_explained(self, server: AccountServer, capsys: Output) -> None:
        """An argument of bytes that are no text is refused in one line."""
        assert server.run("enroll", "laptop", "--invitation", "\udcff") == 1
        error = capsys.readouterr().err
        assert "cannot be written in UTF-8" in error
        assert error.count("\n") == 1

    def test_no_proxy_sees_what_stays_on_this_machine(
        self, server: AccountServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A code for a loopback address, in plain http, is not sent to a proxy of the environment."""
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        assert server.run("enroll", "laptop", "--invitation", server.invite()) == 0

    def test_labels_that_the_terminal_lacks_are_escaped(
        self, server: AccountServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A label's characters that the encoding of the output lacks do not end a command."""
        server.enrol("laptop")
        server.client("phone").enrol("T\u00e9l\u00e9phone")
        terminal = io.TextIOWrapper(io.BytesIO(), "ascii")
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.setattr(sys, "stderr", io.StringIO())  # which has every character
        assert server.run("approve", "laptop", server.client("phone").key.fingerprint) == 0
        terminal.seek(0)
        assert terminal.read().count("T\\xe9l\\xe9phone") == 2

    @posix
    def test_a_key_that_others_can_read_is_told(self, server: AccountServer, capsys: Output) -> None:
        """The warning of the key file is a line of its own, without Python's."""
        server.client("laptop")
        server.file("laptop").chmod(0o644)
        assert server.run("enroll", "laptop", "--invitation", server.invite()) == 0
        error = capsys.readouterr().err
        assert error.startswith("tuned-digest: other users can read or write")
        assert error.count("\n") == 1

    def test_a_password_is_asked_for(
        self, server: AccountServer, monkeypatch: pytest.MonkeyPatch, capsys: Output
    ) -> None:
        """A new key file is encrypted, and later commands ask for its password."""
        asked = typed(monkeypatch, "secret")
        assert server.run("enroll", "laptop", "--password", "--invitation", server.invite()) == 0
        assert server.run("approve", "laptop", "--password") == 1
        assert asked == ["password: ", "again: ", "password: "]
        assert "no key waits" in capsys.readouterr().err
        assert server.run("approve", "laptop") == 1
        assert f"{server.file('laptop')}: the private key is encrypted" in capsys.readouterr().err

    def test_a_code_is_read_from_a_pipe(self, server: AccountServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """A dash in place of the code reads a line of standard input, which no list of processes shows."""
        piped(monkeypatch, f"{server.invite()}\n")
        assert server.run("enroll", "laptop", "--invitation", "-") == 0

    def test_a_code_is_typed_without_echo(
        self, server: AccountServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """At a terminal the code is asked for, and does not appear."""
        piped(monkeypatch, "")
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
        asked = typed(monkeypatch, server.invite().lower())
        assert server.run("enroll", "laptop", "--invitation", "-") == 0
        assert asked == ["invitation (is not shown): "]

    @pytest.mark.parametrize("text", ["", "\n", "x" * 500])
    def test_no_code_is_explained(
        self, server: AccountServer, monkeypatch: pytest.MonkeyPatch, capsys: Output, text: str
    ) -> None:
        """Where no code comes, nothing is made and nothing is sent."""
        piped(monkeypatch, text)
        assert server.run("enroll", "laptop", "--invitation", "-") == 1
        assert "no invitation was given" in capsys.readouterr().err
        assert not server.file("laptop").exists()
        assert server.served.requests == []

    def test_a_wrong_code_is_explained_and_not_repeated(self, server: AccountServer, capsys: Output) -> None:
        """The error says what to think of, and the key is kept for the next try."""
        assert server.run("enroll", "laptop", "--invitation", WRONG) == 1
        error = capsys.readouterr().err
        assert "the code is not good" in error
        assert error.endswith("for another account: ask the operator for a new invitation\n")
        assert WRONG not in error
        assert server.run("enroll", "laptop", "--invitation", server.invite()) == 0

    def test_a_key_that_is_enrolled_is_no_failure(self, server: AccountServer, capsys: Output) -> None:
        """Where an answer was lost the command is run again, and says that all is well."""
        server.enrol("laptop")
        assert server.run("enroll", "laptop") == 0
        assert "laptop, a key of the account acme\nIt was enrolled before. If" in capsys.readouterr().out

    @pytest.mark.parametrize("command", [["enroll", "--invitation"], ["recover", "--code"]])
    def test_a_code_that_is_not_needed_is_not_used(
        self, server: AccountServer, capsys: Output, command: list[str]
    ) -> None:
        """A key that is enrolled leaves a code as it is, and that is said."""
        server.enrol("laptop")
        code = server.invite()
        assert server.run(command[0], "laptop", command[1], code) == 0
        assert "It was enrolled before: the code was not used now." in capsys.readouterr().out
        assert server.run("enroll", "phone", "--invitation", code) == 0

    @pytest.mark.parametrize("how", ["revoked", "of another account"])
    def test_a_key_is_enrolled_once(self, server: AccountServer, capsys: Output, how: str) -> None:
        """A key that was revoked, or is another account's, is refused."""
        account = "acme" if how == "revoked" else "other"
        client = server.enrol("laptop", account)
        if how == "revoked":
            server.registry.revoke(client.key.thumbprint, account=account, now=1.0, by="operator")
        assert server.run("enroll", "laptop") == 1
        assert "a key is enrolled once" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("url", "said"),
        [
            ("http://192.0.2.1/account", "is plain http, where others could read a code"),
            ("https://a@example.com/account", "no query, fragment or user"),
            ("https://example.com/account?x", "no query, fragment or user"),
            ("example.com", "begins with https://"),
            ("https://[", "not a URL"),
            ("https://example.com:0x1", "not a URL"),
        ],
    )
    def test_an_impossible_address_is_explained(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output, url: str, said: str
    ) -> None:
        """An address that codes are not sent to is refused before a key is made."""
        monkeypatch.chdir(tmp_path)
        assert main(["enroll", url, "--account", "acme", "--invitation", WRONG]) == 1
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
        assert list(tmp_path.iterdir()) == []

    def test_without_its_extra_it_says_what_to_install(self, tmp_path: Path) -> None:
        """Without httpx the command names the extra."""
        code = (
            "import sys; sys.modules['httpx'] = None;"
            "from tuned_digest._cli import main; sys.exit(main(sys.argv[1:]))"
        )
        command = [sys.executable, "-c", code, "enroll", "https://example.com", "--account", "acme"]
        ended = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=DEADLINE
        )
        assert ended.returncode == 1
        assert "tuned-digest[httpx,tokens]" in ended.stderr

    @pytest.mark.parametrize(("host", "label"), [("\x1b[0m", "[0m"), (" ", "device"), ("x" * 99, "x" * 64)])
    def test_any_host_name_makes_a_label(
        self, monkeypatch: pytest.MonkeyPatch, host: str, label: str
    ) -> None:
        """What servers do not take as a label is left out of it."""
        monkeypatch.setattr("socket.gethostname", lambda: host)
        assert device_name() == label


class TestWaiting:
    """A device waits by a clock of the test's own, and the test does something in each pause."""

    def wait(
        self,
        server: AccountServer,
        meanwhile: Callable[[], object],
        *,
        seconds: float = 600.0,
        late: float = 0.0,
    ) -> Enrolled:
        """Wait, with something that is done in each pause, and pauses that end late."""
        phone, clock = server.client("phone"), Clock()
        pending = phone.enrol("phone")
        assert isinstance(pending, Pending)

        def sleep(pause: float) -> None:
            assert pause > 0
            clock.now += pause + late
            meanwhile()

        return wait_for_approval(phone, "phone", Pending(pending.nonce, seconds), clock=clock, sleep=sleep)

    def test_it_ends_with_the_approval(self, server: AccountServer, capsys: Output) -> None:
        """The device shows its 16 characters, and is enrolled once another device has typed them."""
        server.enrol("laptop")
        characters = server.client("phone").key.fingerprint
        enrolled = self.wait(server, lambda: server.run("approve", "laptop", characters.lower()))
        assert enrolled == Enrolled("phone")
        printed = capsys.readouterr().out
        assert f"tuned-digest approve {server.url} --account acme --key FILE" in printed
        assert f"\n    {characters}\n" in printed
        assert f"approved: {characters}, phone" in printed

    def test_it_ends_with_its_time(self, server: AccountServer, capsys: Output) -> None:
        """When nobody approves in time, that is the error; nothing was shown where nobody looks on."""
        pauses: list[None] = []
        with pytest.raises(EnrolmentError) as raised:
            self.wait(server, lambda: pauses.append(None), seconds=5.0)
        assert str(raised.value) == (
            "nobody approved this key in 1 minute: run the command again; if it is the account's first key, "
            "pass --invitation."
        )
        assert len(pauses) == 3
        assert capsys.readouterr().err == ""

    def test_a_server_whose_time_is_over_first_is_no_other_end(
        self, server: AccountServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A server whose ten minutes are over a moment sooner refuses the nonce: people know of none."""

        def expired(client: AccountClient, label: str, **way: str) -> Pending:
            raise EnrolmentError("nonce", reason="not approved")

        with pytest.raises(EnrolmentError, match="nobody approved this key in 10 minutes: run") as raised:
            self.wait(server, lambda: monkeypatch.setattr(AccountClient, "enrol", expired), late=597.0)
        assert "nonce" not in str(raised.value)

    def test_another_refusal_is_told(self, server: AccountServer) -> None:
        """A key that was enrolled elsewhere meanwhile, and revoked, is not waited for."""

        def meanwhile() -> None:
            phone = server.enrol("phone")
            server.registry.revoke(phone.key.thumbprint, account="acme", now=1.0, by="operator")

        with pytest.raises(EnrolmentError, match="a key is enrolled once"):
            self.wait(server, meanwhile)

    def test_the_time_left_is_shown(
        self, server: AccountServer, monkeypatch: pytest.MonkeyPatch, capsys: Output
    ) -> None:
        """At a terminal a line counts down, and is removed."""
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
        pauses = iter([None, None])
        with pytest.raises(StopIteration):  # in the third pause
            self.wait(server, lambda: next(pauses), seconds=62.0)
        shown = capsys.readouterr().err.split("\r\x1b[K")
        assert shown[1].startswith("waiting, 1:02 left; Ctrl-C stops")
        assert shown[2].startswith("waiting, 1:00 left; Ctrl-C stops")
        assert shown[-1] == ""

    def test_an_outage_does_not_end_it(self, server: AccountServer, away: list[bool]) -> None:
        """A server that is away for a while may come back."""
        laptop = server.enrol("laptop")

        def meanwhile() -> None:
            if away:
                away.clear()
                (key,) = laptop.candidates()
                laptop.approve(key)
            else:
                away.append(True)

        assert self.wait(server, meanwhile) == Enrolled("phone")

    def test_an_outage_at_the_end_is_told(self, server: AccountServer, away: list[bool]) -> None:
        """When the server is away at the end, the error says that too."""
        with pytest.raises(EnrolmentError, match=r"nobody approved.* cannot be reached: away"):
            self.wait(server, lambda: away.append(True), seconds=3.0)

    def test_a_lost_answer_does_not_end_it(
        self, server: AccountServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where the key was enrolled and the answer was lost, the next question finds that out."""
        laptop = server.enrol("laptop")
        told = iter([True])

        def meanwhile() -> None:
            if next(told, False):
                phone = server.client("phone")
                (key,) = laptop.candidates()
                laptop.approve(key)
                phone.enrol("phone", nonce=key.nonce)  # whose answer the waiting device never sees

        assert self.wait(server, meanwhile) == Enrolled("phone", was_before=True)

    def test_ctrl_c_says_how_to_go_on(self, server: AccountServer, capsys: Output) -> None:
        """An interruption ends the wait at once."""

        def interrupt() -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            self.wait(server, interrupt)
        assert "To go on, run the same command again" in capsys.readouterr().err


class TestApprove:
    def waiting(self, server: AccountServer, *devices: str) -> None:
        """Let devices wait."""
        for device in devices:
            assert isinstance(server.client(device).enrol(device), Pending)

    def test_the_characters_are_asked_for(
        self, server: AccountServer, monkeypatch: pytest.MonkeyPatch, capsys: Output
    ) -> None:
        """All that wait are listed, and the one whose characters are typed is approved."""
        server.enrol("laptop")
        self.waiting(server, "phone", "stranger")
        phone, stranger = server.client("phone").key, server.client("stranger").key
        piped(monkeypatch, f" {phone.fingerprint.lower().replace('-', ' ')}\n")
        assert server.run("approve", "laptop") == 0
        printed = capsys.readouterr().out
        rows = [line.split() for line in printed.splitlines()[:3]]
        assert rows[0] == ["number", "label", "minutes", "left"]
        assert [row[0] for row in rows[1:]] == ["1", "2"]
        assert {tuple(row[1:]) for row in rows[1:]} == {("phone", "10"), ("stranger", "10")}
        assert stranger.fingerprint not in printed
        assert printed.index(phone.fingerprint) > printed.index("Type the 16 characters")
        assert [key.thumbprint for key in server.enrol("tablet").candidates()] == [stranger.thumbprint]

    @pytest.mark.parametrize(
        "given", [["AAAA-BBBB-CCCC-DDDD"], ["AAAA"], [""], []], ids=["other", "short", "empty", "no input"]
    )
    def test_others_approve_nothing(
        self, server: AccountServer, monkeypatch: pytest.MonkeyPatch, capsys: Output, given: list[str]
    ) -> None:
        """Characters that no key has, a part of them or none approve nothing."""
        server.enrol("laptop")
        self.waiting(server, "phone")
        piped(monkeypatch, "")
        assert server.run("approve", "laptop", *given) == 1
        assert "nothing was done" in capsys.readouterr().err
        assert len(server.client("laptop").candidates()) == 1

    def test_nothing_waits(self, server: AccountServer, capsys: Output) -> None:
        """Where no key waits, that is said."""
        server.enrol("laptop")
        assert server.run("approve", "laptop") == 1
        assert "no key waits for approval" in capsys.readouterr().err

    def test_a_key_that_is_not_enrolled_approves_nothing(self, server: AccountServer, capsys: Output) -> None:
        """The server refuses it, and the error says what to look at."""
        server.client("laptop")
        assert server.run("approve", "laptop") == 1
        assert "is the key enrolled and not revoked" in capsys.readouterr().err

    def test_a_key_file_that_is_not_there_is_not_made(self, server: AccountServer, capsys: Output) -> None:
        """A mistyped file is named."""
        assert server.run("approve", "laptop") == 1
        assert f"{server.file('laptop')} cannot be read" in capsys.readouterr().err
        assert not server.file("laptop").exists()


class TestRecover:
    def test_a_code_lets_one_device_in(
        self, server: AccountServer, monkeypatch: pytest.MonkeyPatch, capsys: Output
    ) -> None:
        """A recovery code enrols a new key, once, and the keys that are good still are listed."""
        server.run("enroll", "laptop", "--invitation", server.invite())
        code = CODE.findall(capsys.readouterr().out)[0]
        lost = server.client("laptop").key.fingerprint
        piped(monkeypatch, f"{code}\n")
        assert server.run("recover", "phone") == 0
        printed = capsys.readouterr().out
        assert "phone, a key of the account acme" in printed
        assert f"{lost}  laptop" in printed
        assert server.run("recover", "tablet", "--code", code) == 1
        assert capsys.readouterr().err.endswith(": take another recovery code\n")

        assert server.run("revoke", "phone", lost) == 0
        assert f"revoked: {lost}, laptop" in capsys.readouterr().out
        assert server.run("approve", "laptop") == 1

    def test_the_only_key_has_no_others(self, server: AccountServer, capsys: Output) -> None:
        """Where all other keys are revoked, none is listed."""
        server.run("enroll", "laptop", "--invitation", server.invite())
        code = CODE.findall(capsys.readouterr().out)[0]
        laptop = server.client("laptop")
        assert server.run("revoke", "laptop", laptop.key.fingerprint) == 0
        capsys.readouterr()
        assert server.run("recover", "phone", "--code", code) == 0
        assert "other keys" not in capsys.readouterr().out

    def test_new_codes_replace_those_that_are_left(self, server: AccountServer, capsys: Output) -> None:
        """An enrolled key has ten new codes made, and the former are not good any more."""
        server.run("enroll", "laptop", "--invitation", server.invite())
        former = CODE.findall(capsys.readouterr().out)
        assert server.run("recover", "laptop", "--new-codes") == 0
        codes = CODE.findall(capsys.readouterr().out)
        assert (len(codes), len({*codes, *former})) == (10, 20)
        assert server.run("recover", "phone", "--code", former[0]) == 1
        assert server.run("recover", "phone", "--code", codes[0]) == 0

    def test_the_last_key_stays(self, server: AccountServer, capsys: Output) -> None:
        """What the server refuses is said in its words."""
        server.run("enroll", "laptop", "--invitation", server.invite())
        for code in server.registry.codes("acme", "recovery"):
            for _ in range(5):
                server.registry.count_try(code.name)
        assert server.run("revoke", "laptop", server.client("laptop").key.fingerprint) == 1
        assert "the account's last key" in capsys.readouterr().err


def whole(status: int, body: bytes, *fields: tuple[str, str]) -> Respond:
    """Answer every request alike."""

    def respond(wire: Wire, recorded: Recorded) -> None:
        wire.answer(status, fields, body)

    return respond


def said(status: int, **members: object) -> Respond:
    """Answer every request with a JSON object."""
    return whole(status, json.dumps(members).encode(), ("Content-Type", "application/json"))


def endless(wire: Wire, recorded: Recorded) -> None:
    """Answer without an end."""
    wire.begin(200, [("Content-Type", "application/json")])
    while True:
        wire.connection.sendall(b" " * 65536)


def broken(wire: Wire, recorded: Recorded) -> None:
    """Close the connection in the middle of an answer."""
    wire.begin(200, [("Content-Length", "10")], b"{")
    wire.close()


def silent(wire: Wire, recorded: Recorded) -> None:
    """Answer nothing."""
    wire.wait_until_gone()


def trickling(wire: Wire, recorded: Recorded) -> None:
    """Answer a byte now and then, each in time for a reader that has a deadline for each."""
    wire.connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    wire.connection.settimeout(0.05)
    while True:
        with suppress(TimeoutError):
            if not wire.connection.recv(1):
                return
        wire.connection.sendall(b"x")


UNKNOWN = "does not answer as the accounts application does"
HOSTILE: dict[str, tuple[Respond, str]] = {
    "endless": (endless, UNKNOWN),
    "huge": (whole(200, b" " * 2**21), UNKNOWN),
    "no JSON": (whole(200, b"<html>"), UNKNOWN),
    "no UTF-8": (whole(200, b"\xff\xfe"), UNKNOWN),
    "deep": (whole(200, b"[" * 10**5), UNKNOWN),
    "a long number": (whole(200, b"9" * 10**4), UNKNOWN),
    "a list": (whole(200, b"[]"), UNKNOWN),
    "nothing": (whole(200, b""), UNKNOWN),
    "compressed": (whole(200, b"\x1f\x8b", ("Content-Encoding", "gzip")), UNKNOWN),
    "another status": (said(206, candidates=[]), UNKNOWN),
    "another error": (whole(500, b"Internal Server Error"), UNKNOWN),
    "an error without words": (said(403, message=1, reason="x"), UNKNOWN),
    "candidates that are none": (said(200, candidates={}), UNKNOWN),
    "a candidate that is none": (said(200, candidates=["x"]), UNKNOWN),
    "no thumbprint": (said(200, candidates=[{"thumbprint": "/x", "label": "x", "nonce": "x"}]), UNKNOWN),
    "no label": (said(200, candidates=[{"thumbprint": "A" * 43, "label": 1, "nonce": "x"}]), UNKNOWN),
    "no nonce": (said(200, candidates=[{"thumbprint": "A" * 43, "label": "x"}]), UNKNOWN),
    "no time": (said(200, candidates=[{"thumbprint": "A" * 43, "label": "x", "nonce": "x"}]), UNKNOWN),
    "a long nonce": (
        said(200, candidates=[{"thumbprint": "A" * 43, "label": "x", "nonce": "x" * 999}]),
        UNKNOWN,
    ),
    "broken": (broken, "cannot be reached"),
    "unavailable": (whole(503, b""), "has no answer now, status 503"),
    "too many": (said(429, message="try again in 60 s", reason="too many"), "refuses: try again in 60 s"),
    "control characters": (said(403, message="\x1b[2J\nx", reason="\x07"), "refuses: ?[2J?x"),
    "long words": (said(403, message="x" * 10**5, reason="x"), "refuses: xxx"),
    "no such path": (said(404, message="no", reason="no such path"), "is it mounted elsewhere?"),
    "no protocol": (lambda wire, recorded: wire.connection.sendall(b"SSH-2.0\r\n\r\n"), "cannot be reached"),
}


class TestHostileServers:
    def approve(self, url: str, tmp_path: Path) -> int:
        """Ask a server for the keys that wait."""
        file = tmp_path / "laptop.pem"
        main(["keygen", str(file)])
        return main(["approve", f"{url}/account", "--account", "acme", "--key", str(file)])

    @pytest.mark.parametrize(("respond", "words"), HOSTILE.values(), ids=HOSTILE)
    def test_one_line_says_what_is_wrong(
        self, tmp_path: Path, capsys: Output, respond: Respond, words: str
    ) -> None:
        """Whatever a server answers, the command ends in 1 with one short line."""
        with record(respond) as recorder:
            assert self.approve(recorder.url, tmp_path) == 1
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
        assert len(error) < 600
        assert error.strip().isprintable()

    def test_a_redirect_is_not_followed(self, tmp_path: Path, capsys: Output) -> None:
        """Nothing is sent to where a server points."""
        with record(said(200, candidates=[])) as elsewhere:
            target: Fields = [("Location", f"{elsewhere.url}/account/candidates")]
            with record(whole(307, b"", *target)) as recorder:
                assert self.approve(recorder.url, tmp_path) == 1
        assert elsewhere.requests == []
        assert "redirects to another address, which is not followed" in capsys.readouterr().err

    @pytest.mark.parametrize("respond", [silent, trickling])
    def test_a_slow_server_is_not_waited_for(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output, respond: Respond
    ) -> None:
        """One deadline is for the whole answer."""
        monkeypatch.setattr("tuned_digest._cli.signed_calls._TIMEOUT", 0.3)
        with record(respond) as recorder:
            assert self.approve(recorder.url, tmp_path) == 1
        assert "did not answer in" in capsys.readouterr().err

    def test_a_server_that_is_down_is_named(self, tmp_path: Path, capsys: Output) -> None:
        """Where nobody listens, that is said."""
        with record(silent) as recorder:
            pass
        assert self.approve(recorder.url, tmp_path) == 1
        assert f"{recorder.url}/account cannot be reached" in capsys.readouterr().err

    @pytest.mark.parametrize(
        "answer",
        [
            said(201, thumbprint="A" * 43),
            said(202, thumbprint="A" * 43, nonce="x", expires_in=1),
            said(201),
            whole(201, b""),
        ],
    )
    def test_an_answer_for_another_key_is_not_believed(
        self, tmp_path: Path, capsys: Output, answer: Respond
    ) -> None:
        """What enrols, or lets wait, names this device's key."""
        file = str(tmp_path / "phone.pem")
        with record(answer) as recorder:
            assert main(["enroll", recorder.url, "--account", "acme", "--key", file]) == 1
        assert UNKNOWN in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("status", "members"),
        [
            (201, {"recovery_codes": "x"}),
            (201, {"recovery_codes": ["\x1b[2J"]}),
            (201, {"recovery_codes": [1]}),
            (201, {"recovery_codes": ["A"] * 101}),
            (202, {"nonce": "x", "expires_in": "1"}),
            (202, {"nonce": "x", "expires_in": -1}),
            (202, {"nonce": "x", "expires_in": float("nan")}),
            (202, {"expires_in": 1}),
        ],
    )
    def test_members_are_checked(
        self, tmp_path: Path, capsys: Output, status: int, members: dict[str, object]
    ) -> None:
        """Codes, nonces and times that are none are refused."""
        file = tmp_path / "phone.pem"
        main(["keygen", str(file)])
        thumbprint = AccountClient("http://localhost", "acme", Ed25519Signer.from_file(file)).key.thumbprint
        with record(said(status, thumbprint=thumbprint, **members)) as recorder:
            assert main(["enroll", recorder.url, "--account", "acme", "--key", str(file)]) == 1
        assert UNKNOWN in capsys.readouterr().err

    def test_no_wait_is_longer_than_a_key_waits(self, tmp_path: Path) -> None:
        """A server cannot make a device wait for ever."""
        signer = Ed25519Signer.generate()
        thumbprint = AccountClient("http://localhost", "acme", signer).key.thumbprint
        answer = said(202, thumbprint=thumbprint, nonce="x", expires_in=float("inf"))
        with record(answer) as recorder:
            pending = AccountClient(recorder.url, "acme", signer).enrol("phone")
        assert pending == Pending("x", 600.0)

    def test_a_code_that_was_not_used_is_told(self, tmp_path: Path, capsys: Output) -> None:
        """A server that lets a key wait in place of taking the code is named."""
        file = tmp_path / "phone.pem"
        main(["keygen", str(file)])
        thumbprint = AccountClient("http://localhost", "acme", Ed25519Signer.from_file(file)).key.thumbprint
        answer = said(202, thumbprint=thumbprint, nonce="x", expires_in=9)
        command = ["--account", "acme", "--key", str(file), "--code", WRONG]
        with record(answer) as recorder:
            assert main(["recover", recorder.url, *command]) == 1
        assert "has not used the code" in capsys.readouterr().err

    def test_a_path_that_no_request_can_have_is_explained(self, tmp_path: Path, capsys: Output) -> None:
        """An address that httpx cannot use is named, in one line."""
        assert self.approve("http://127.0.0.1:1/\x01", tmp_path) == 1
        assert capsys.readouterr().err.count("\n") == 1


@posix
class TestProcesses:
    def test_a_second_device_signs_requests(self, tmp_path: Path, capsys: Output) -> None:
        """From an empty folder to a signed request by an enrolled second device, over two workers."""
        registry, phone = str(tmp_path / "accounts"), tmp_path / "phone.pem"
        laptop = str(tmp_path / "laptop.pem")
        with commanded(*TUNINGS, "--workers", "2", "--accounts", registry) as server:
            url = f"{server.url}/account"
            assert server.process.stdout is not None
            told = [server.process.stdout.readline() for _ in range(3)]
            assert told[1].strip() == f"tuned-digest keys invite NAME --registry {registry}"
            assert told[2].strip() == f"tuned-digest enroll {url} --account NAME --invitation -"
            device = ["--account", "acme", "--key"]
            assert main(["keys", "invite", "acme", "--registry", registry]) == 0
            code = capsys.readouterr().out.strip()
            assert main(["enroll", url, *device, laptop, "--invitation", code]) == 0
            with process(["enroll", url, *device, str(phone), "--label", "phone"]) as waiting:
                characters = shown_characters(waiting)
                assert main(["approve", url, *device, laptop, characters]) == 0
                printed, error = waiting.communicate(timeout=DEADLINE)
            assert (waiting.returncode, error) == (0, "")
            assert f"enrolled: {characters}, phone" in printed

            assert read(server.url, phone, "acme") == 200
            by_challenge = TunedDigestAuth(server.url, Ed25519Signer.from_file(phone))
            welcome = f"{server.url}/blobs/welcome"
            assert httpx.get(welcome, auth=by_challenge, timeout=DEADLINE).status_code == 200
            stranger = TunedDigestAuth(server.url, Ed25519Signer.generate())
            assert httpx.get(welcome, auth=stranger, timeout=DEADLINE).status_code == 401
            assert main(["revoke", url, *device, laptop, characters]) == 0
            assert {read(server.url, phone, "acme") for _ in range(6)} == {401}

    def test_ctrl_c_ends_a_wait_for_approval(self, server: AccountServer) -> None:
        """The command ends in 130, with a plain word and no traceback."""
        with process(server.command("enroll", "phone")) as waiting:
            shown_characters(waiting)
            waiting.send_signal(signal.SIGINT)
            _, error = waiting.communicate(timeout=DEADLINE)
        assert waiting.returncode == 130
        assert error.split("\n") == [
            "The key is kept. To go on, run the same command again.",
            "",
            "tuned-digest: stopped",
            "",
        ]

    def test_ctrl_c_ends_a_wait_for_a_server(self, tmp_path: Path) -> None:
        """A server that does not answer does not keep anybody."""
        sent: list[int] = []

        def interrupting(wire: Wire, recorded: Recorded) -> None:
            running[0].send_signal(signal.SIGINT)
            sent.append(1)
            wire.wait_until_gone()

        running: list[subprocess.Popen[str]] = []
        reading, writing = os.pipe()  # the command begins when the test knows its process
        with record(interrupting) as recorder:
            command = ["enroll", recorder.url, "--account", "acme", "--key", str(tmp_path / "key.pem")]
            with subprocess.Popen(
                [sys.executable, "-m", "tuned_digest", *command, "--invitation", "-"],
                stdin=reading,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ) as one:
                running.append(one)
                os.write(writing, f"{WRONG}\n".encode())
                os.close(writing)
                os.close(reading)
                _, error = one.communicate(timeout=DEADLINE)
        assert sent
        assert (one.returncode, error) == (130, "\ntuned-digest: stopped\n")


class TestServe:
    @pytest.mark.parametrize(
        ("registration", "words"),
        [
            ("invited", ["keys invite NAME --registry 'my accounts'", "--account NAME --invitation -"]),
            ("open", ["tuned-digest enroll http://a/account --account NAME"]),
            ("operator", ["tuned-digest keygen FILE", "keys add NAME IDENTITY --label LABEL --registry"]),
        ],
    )
    def test_a_newcomer_is_told_what_to_do(self, registration: Registration, words: list[str]) -> None:
        """The commands are told that enrol a first key."""
        told = way_in("http://a", "my accounts", registration)
        assert told.startswith("only enrolled keys may call; ")
        assert [word for word in words if word not in told] == []
        assert ("invitation" in told) == (registration == "invited")

    def test_a_registry_that_may_have_a_password_is_not_shown(self) -> None:
        """The URL of a database is left out."""
        assert "secret" not in way_in("http://a", "postgresql+psycopg://:secret@host/name", "invited")

    def test_every_way_of_registration_can_be_chosen(self) -> None:
        """The command's choices are those of the rules."""
        assert typing.get_args(Registration) == serve.REGISTRATIONS

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--host", "0.0.0.0"], "--accounts needs --origin"),
            (["--origin", "example.com"], "begins with https://"),
            (["--accounts", "localhost:5432"], "a registry is the path of an SQLite file"),
        ],
    )
    def test_an_impossible_value_is_explained(
        self, tmp_path: Path, capsys: Output, arguments: list[str], words: str
    ) -> None:
        """Before anything is served, what cannot be used is said."""
        registry = str(tmp_path / "accounts")
        assert main(["serve", "--port", "0", "--accounts", registry, *arguments]) == 1
        printed = capsys.readouterr()
        assert words in printed.err
        assert printed.out == ""

    @pytest.mark.parametrize("option", ["--registration=open", "--origin=https://example.com"])
    def test_options_of_accounts_need_accounts(self, capsys: Output, option: str) -> None:
        """Nobody believes that a server has accounts which has none."""
        assert main(["serve", "--port", "0", option]) == 1
        assert "--accounts: give that too" in capsys.readouterr().err

    @posix
    def test_clients_may_call_it_otherwise(self, tmp_path: Path) -> None:
        """Tokens are bound to the origin that was given."""
        registry, file = str(tmp_path / "accounts"), tmp_path / "key.pem"
        signer = Ed25519Signer.generate()
        file.touch(0o600)
        file.write_bytes(signer.to_pem())
        added = ["keys", "add", "acme", signer.identity, "--label", "laptop", "--registry", registry]
        assert main(added) == 0
        options = ("--accounts", registry, "--registration", "operator")
        with commanded(*TUNINGS, *options, "--host", "0.0.0.0", "--origin", "http://localhost:1") as server:
            port = server.url.rpartition(":")[2]
            assert read(f"http://127.0.0.1:{port}", file, "acme") == 401
            auth = SelfSignedTokenAuth(
                f"http://127.0.0.1:{port}", signer, account="acme", audience="http://localhost:1", bind=False
            )
            refused = httpx.get(f"http://127.0.0.1:{port}/blobs/welcome", auth=auth, timeout=DEADLINE)
            assert "bound" in refused.json()["reason"]


class TestDemo:
    def show(self, server: AccountServer) -> list[bool]:
        """Show it, and note what is as it should be."""
        held: list[bool] = []
        show_accounts(server.served.url, lambda seen, text: held.append(seen))
        return held

    def test_it_holds(self, open_server: AccountServer, capsys: Output) -> None:
        """A device is let in by another, a token is used once, and a revoked key signs nothing."""
        assert self.show(open_server) == [True] * 6
        assert "the laptop approves the key" in capsys.readouterr().out

    def test_what_is_not_as_it_should_be_is_noticed(self, open_server: AccountServer) -> None:
        """Where the account is taken, nothing holds, and the demo comes to its end."""
        open_server.enrol("stranger")
        with pytest.raises(EnrolmentError, match="is the key enrolled"):
            self.show(open_server)


def test_an_account_has_a_name(server: AccountServer, capsys: Output) -> None:
    """An empty name is refused in one line."""
    server.client("laptop")
    assert server.run("enroll", "laptop", account="") == 1
    assert "account is the account's name" in capsys.readouterr().err
