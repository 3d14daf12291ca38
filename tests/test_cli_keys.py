"""``tuned-digest keys``: the operator's commands on a key registry, each called as the command line is."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tuned_digest import Ed25519Signer
from tuned_digest._cli import main
from tuned_digest._cli.registries import is_path, open_registry
from tuned_digest._cli.showing import shown_fingerprint, shown_time
from tuned_digest.keys import PublicKey
from tuned_digest.server.accounts import EnrolledKey
from tuned_digest.server.accounts.sql import SQLKeyRegistry

from .enrolling import quick_hashes

Output = pytest.CaptureFixture[str]

DASHED = "-" + "A" * 42
"""A thumbprint that looks like an option, and an identity too."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where a registry is, or will be."""
    quick_hashes(monkeypatch)
    return str(tmp_path / "accounts.sqlite")


def run(action: str, place: str, *arguments: str) -> int:
    """Run one of the commands on a registry."""
    return main(["keys", action, "--registry", place, *arguments])


def added(place: str, account: str = "acme", label: str = "laptop") -> PublicKey:
    """Add a key by its identity."""
    key = PublicKey.of(Ed25519Signer.generate())
    assert run("add", place, account, key.identity, "--label", label) == 0
    return key


class TestList:
    def test_keys_are_listed_with_what_is_known_of_them(self, place: str, capsys: Output) -> None:
        """A key has a row: account, label, 16 characters, times and thumbprint."""
        key = added(place, label="my laptop")
        assert capsys.readouterr().out == f"{key.thumbprint}\n"
        assert run("list", place) == 0
        names, row = capsys.readouterr().out.splitlines()
        assert names.split()[:3] == ["account", "label", "characters"]
        assert row.startswith(f"acme     my laptop  {key.fingerprint}  ")
        assert row.endswith(f"  -          -        {key.thumbprint}")

    @pytest.mark.parametrize("is_last", [True, False], ids=["behind options", "before options"])
    def test_an_account_is_chosen(self, place: str, capsys: Output, is_last: bool) -> None:
        """With an account its keys alone are listed, wherever the account stands."""
        mine, other = added(place), added(place, "other")
        capsys.readouterr()
        options = ["--registry", place]
        assert (
            main(["keys", "list", *options, "acme"] if is_last else ["keys", "list", "acme", *options]) == 0
        )
        listed = capsys.readouterr().out
        assert mine.thumbprint in listed
        assert other.thumbprint not in listed

    def test_an_account_without_keys_is_told(self, place: str, capsys: Output) -> None:
        """Beside the empty list it is said that the account has no keys."""
        added(place)
        capsys.readouterr()
        assert run("list", place, "acmee") == 0
        printed = capsys.readouterr()
        assert len(printed.out.splitlines()) == 1
        assert printed.err == "the account acmee has no keys\n"

    def test_labels_cannot_move_the_cursor(self, place: str, capsys: Output) -> None:
        """What is not printable is shown as a question mark, whatever wrote it into the database."""
        key = PublicKey.of(Ed25519Signer.generate())
        with open_registry(place) as registry:
            row = EnrolledKey(key.thumbprint, "acme", key.jwk, "\x1b[2Jx\u202e", 0.0)
            registry.enrol(row, what="key added", by="operator")
        assert run("list", place) == 0
        assert "?[2Jx?" in capsys.readouterr().out

    @pytest.mark.parametrize("action", ["list", "audit", "revoke"])
    def test_a_registry_that_is_not_there_is_not_made(self, place: str, action: str, capsys: Output) -> None:
        """A mistyped path is named, and no file is left there."""
        assert run(action, place, *(["x"] if action == "revoke" else [])) == 1
        assert f"there is no registry at {place}" in capsys.readouterr().err
        assert not Path(place).exists()


class TestAdd:
    def test_a_jwk_file_is_read(self, place: str, tmp_path: Path, capsys: Output) -> None:
        """A key of any kind is added by a file with its public JWK."""
        key = PublicKey.of(Ed25519Signer.generate())
        file = tmp_path / "key.jwk"
        file.write_text(key.jwk)
        assert run("add", place, "acme", str(file), "--label", "laptop") == 0
        assert capsys.readouterr().out == f"{key.thumbprint}\n"

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"{}", "a JWK is a JSON object with a kty"),
            (b"\xff", "no file with a JWK"),
            (b" " * 70000, "2048 characters at most"),
            (json.dumps({"kty": "OKP", "d": "x"}).encode(), "this is a private key"),
            (None, "cannot be read: No such file or directory"),
        ],
        ids=["empty", "no text", "huge", "private", "missing"],
    )
    def test_what_is_no_key_is_explained(
        self, place: str, tmp_path: Path, capsys: Output, content: bytes | None, said: str
    ) -> None:
        """A file without a public key is refused, in one line."""
        file = tmp_path / "key.jwk"
        if content is not None:
            file.write_bytes(content)
        assert run("add", place, "acme", str(file), "--label", "laptop") == 1
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1

    def test_a_home_that_nobody_has_is_explained(self, place: str, capsys: Output) -> None:
        """A path below the home of a user who is not there is refused, in one line."""
        assert run("add", place, "acme", "~nobody-has-this-name/key", "--label", "laptop") == 1
        assert "no file with a JWK" in capsys.readouterr().err

    def test_an_identity_may_begin_with_a_dash(self, place: str, capsys: Output) -> None:
        """An identity in the URL-safe alphabet is no option, whatever it begins with."""
        assert run("add", place, "acme", DASHED, "--label", "laptop") == 0
        assert capsys.readouterr().out == f"{PublicKey.from_identity(DASHED).thumbprint}\n"

    def test_a_key_is_added_once(self, place: str, capsys: Output) -> None:
        """A key that was enrolled is refused, also for another account."""
        key = added(place)
        assert "made a new registry" in capsys.readouterr().err
        assert run("add", place, "other", key.identity, "--label", "laptop") == 1
        error = capsys.readouterr().err
        assert "the key is enrolled, or was" in error
        assert "registry" not in error


class TestInvite:
    def test_the_code_alone_is_printed(self, place: str, capsys: Output) -> None:
        """Standard output has the code and nothing else, so that it can be piped; the rest is told beside."""
        assert run("invite", place, "acme") == 0
        printed = capsys.readouterr()
        assert len(printed.out) == 7 * 5
        assert printed.err.startswith(f"made a new registry, in the file {place}\n")
        assert "within 7 days" in printed.err
        assert printed.out.strip() not in printed.err

    def test_it_is_good_for_the_days_that_were_asked_for(self, place: str, capsys: Output) -> None:
        """The invitation expires so many days after it was made."""
        assert run("invite", place, "acme", "--days", "1") == 0
        with open_registry(place) as registry:
            (code,) = registry.codes("acme", "invitation")
        assert code.expires == code.added + 86400
        assert "within 1 day." in capsys.readouterr().err

    @pytest.mark.parametrize("days", ["0", "366"])
    def test_impossible_days_are_explained(self, place: str, days: str, capsys: Output) -> None:
        """No invitation is good for no time, or for ever."""
        assert run("invite", place, "acme", "--days", days) == 1
        assert f"--days is 1 to 365, not {days}" in capsys.readouterr().err


class TestRevoke:
    def test_a_key_is_revoked_once(self, place: str, capsys: Output) -> None:
        """The first time it is revoked, and the second time that is said."""
        key = added(place)
        assert run("revoke", place, key.thumbprint) == 0
        assert run("revoke", place, key.thumbprint) == 1
        assert "it was revoked before" in capsys.readouterr().err
        with open_registry(place) as registry:
            found = registry.find(key.thumbprint)
        assert found is not None
        assert found.revoked is not None

    def test_the_16_characters_name_a_key_too(self, place: str, capsys: Output) -> None:
        """They do so as they are listed or typed, and a revoked key has none that would do."""
        key, other = added(place), added(place)
        assert run("revoke", place, key.fingerprint.lower().replace("-", " ")) == 0
        assert run("revoke", place, key.fingerprint) == 1
        assert "it was revoked before" in capsys.readouterr().err
        with open_registry(place) as registry:
            assert [one.thumbprint for one in registry.keys("acme") if not one.revoked] == [other.thumbprint]

    def test_16_characters_of_two_keys_name_neither(self, place: str, capsys: Output) -> None:
        """Where two keys have them, both stay, and the thumbprint is asked for."""
        with open_registry(place) as registry:
            for last in "AE":
                row = EnrolledKey("A" * 42 + last, "acme", "{}", "laptop", 0.0)
                registry.enrol(row, what="key added", by="operator")
        assert run("revoke", place, shown_fingerprint("A" * 43)) == 1
        assert "give the thumbprint" in capsys.readouterr().err
        with open_registry(place) as registry:
            assert [key.revoked for key in registry.keys("acme")] == [None, None]
        assert run("revoke", place, "A" * 43) == 0

    def test_a_thumbprint_may_begin_with_a_dash(self, place: str) -> None:
        """A thumbprint is no option, whatever it begins with."""
        with open_registry(place) as registry:
            registry.enrol(EnrolledKey(DASHED, "acme", "{}", "laptop", 0.0), what="key added", by="operator")
        assert run("revoke", place, DASHED) == 0


class TestAudit:
    def test_who_did_what_is_shown(self, place: str, capsys: Output) -> None:
        """Every entry has a row, oldest first, with the 16 characters of keys."""
        key = added(place)
        run("invite", place, "acme")
        with open_registry(place) as registry:
            registry.revoke(key.thumbprint, account="acme", now=1.0, by=key.thumbprint)
        capsys.readouterr()
        assert run("audit", place, "acme") == 0
        names, *rows = capsys.readouterr().out.splitlines()
        assert names.split() == ["number", "time", "account", "what", "characters", "label", "by"]
        assert [row.split()[4:6] for row in rows] == [
            ["key", "added"],
            ["invitation", "made"],
            ["key", "revoked"],
        ]
        assert rows[0].endswith(f"{key.fingerprint}  laptop  operator")
        assert rows[1].endswith("-                    -       operator")
        assert rows[2].endswith(f"{key.fingerprint}  laptop  {key.fingerprint}")

    def test_a_long_trail_is_read_in_pages(
        self, place: str, capsys: Output, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """All entries are shown, under one head, however many are read at a time."""
        monkeypatch.setattr("tuned_digest._cli.keys._PAGE", 2)
        for _ in range(5):
            run("invite", place, "acme")
        capsys.readouterr()
        assert run("audit", place) == 0
        assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["number", *"12345"]


class TestRegistry:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("localhost:5432", "a registry is the path of an SQLite file"),
            ("", "a registry is the path of an SQLite file"),
            ("postgresql+psycopg:secret", "a registry is the path of an SQLite file"),
            ("oracle://:secret@host/name", "oracle"),
            ("nothing://:secret@host/name", "cannot be read"),
        ],
    )
    def test_what_is_no_registry_is_explained(self, text: str, said: str, capsys: Output) -> None:
        """A mistyped URL is refused in one line, without its password."""
        assert run("invite", text, "acme") == 1
        error = capsys.readouterr().err
        assert said in error
        assert "secret" not in error

    def test_a_folder_that_is_not_there_is_explained(self, tmp_path: Path, capsys: Output) -> None:
        """A file that cannot be made is named."""
        place = str(tmp_path / "missing" / "accounts")
        assert run("invite", place, "acme") == 1
        assert place in capsys.readouterr().err

    @pytest.mark.parametrize("text", ["a", "./a:b", "/a:b", "C:\\a", "dir/a"])
    def test_paths_are_told_from_urls(self, text: str) -> None:
        """A path may have a colon behind a slash."""
        assert is_path(text)

    def test_connections_are_closed(self, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A command closes the database, also when it fails."""
        closed: list[SQLKeyRegistry] = []
        close = SQLKeyRegistry.close

        def noting(registry: SQLKeyRegistry) -> None:
            closed.append(registry)
            close(registry)

        monkeypatch.setattr(SQLKeyRegistry, "close", noting)
        run("invite", place, "acme")
        run("revoke", place, "x")
        assert len(closed) == 2

    def test_without_its_extra_it_says_what_to_install(self, place: str) -> None:
        """Without SQLAlchemy the commands name the extra."""
        code = (
            "import sys; sys.modules['sqlalchemy'] = None;"
            "from tuned_digest._cli import main; sys.exit(main(sys.argv[1:]))"
        )
        ended = subprocess.run(
            [sys.executable, "-c", code, "keys", "invite", "acme", "--registry", place],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert ended.returncode == 1
        assert "tuned-digest[accounts]" in ended.stderr


class TestShowing:
    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(None, "-"), (0, "1970-01-01 00:00"), (1e300, "?"), (float("nan"), "?"), (-1e15, "?")],
    )
    def test_times_are_written_in_utc(self, seconds: float | None, text: str) -> None:
        """What is no time is a question mark."""
        assert shown_time(seconds) == text

    def test_a_time_has_seconds_where_they_matter(self) -> None:
        """The trail tells which of two things came first, also to who compares it with other logs."""
        assert shown_time(61.9, to="seconds") == "1970-01-01 00:01:01"

    def test_a_fingerprint_needs_the_thumbprint_alone(self) -> None:
        """It is the one that the key itself gives."""
        key = PublicKey.of(Ed25519Signer.generate())
        assert shown_fingerprint(key.thumbprint) == key.fingerprint


class TestCommandLine:
    @pytest.mark.parametrize(
        "arguments",
        [
            ["keys", "list", "--registry", "x", "a", "b"],
            ["keys", "list", "a", "--registry", "x", "b"],
            ["keys", "list", "--registry", "x", "--unknown"],
            ["keys", "revoke", "--registry", "x", "a", "b"],
        ],
    )
    def test_what_is_too_much_is_refused(self, arguments: list[str], capsys: Output) -> None:
        """An argument that has no meaning ends in exit status 2."""
        with pytest.raises(SystemExit) as raised:
            main(arguments)
        assert raised.value.code == 2
        assert "unrecognized arguments" in capsys.readouterr().err

    def test_the_version_is_printed(self, capsys: Output) -> None:
        """It is that of the installed package."""
        assert main(["--version"]) == 0
        assert capsys.readouterr().out.strip() == version("tuned-digest")

    @pytest.mark.skipif(os.name != "posix", reason="pipes break so on POSIX alone")
    def test_a_reader_that_goes_is_no_failure_to_be_shown(
        self, place: str, monkeypatch: pytest.MonkeyPatch, capsys: Output
    ) -> None:
        """When the reader of the output has gone, as head does, nothing is written to standard error."""
        added(place)
        reading, writing = os.pipe()
        os.close(reading)
        capsys.readouterr()
        with os.fdopen(writing, "w") as output:
            monkeypatch.setattr(sys, "stdout", output)
            assert run("list", place) == 1
        assert capsys.readouterr().err == ""
