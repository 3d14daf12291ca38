"""What holds for every key registry: all or nothing, once, and exactly what was put in."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tuned_digest.errors import ArgumentError, EnrolmentError
from tuned_digest.server.accounts import AuditEntry, Candidate, Code, EnrolledKey, KeyRegistry
from tuned_digest.server.accounts import memory as in_memory
from tuned_digest.server.accounts import sql as in_sql
from tuned_digest.server.accounts.registry import CANDIDATE_LIFETIME

from .every_registry import REGISTRIES
from .together import at_once

NOW = 1_700_000_000.25
"""A time that no test's machine has: registries read no clock."""

KEY = EnrolledKey("K" * 43, "acme", '{"kty":"OKP"}', "laptop", NOW)
OTHER = replace(KEY, thumbprint="L" * 43, label="phone", added=NOW + 1)
INVITATION = Code("invite-1", "invitation", "acme", "$argon2id$a", NOW - 10, expires=NOW + 10)
RECOVERY = Code("recover-1", "recovery", "acme", "$argon2id$b", NOW)
CANDIDATE = Candidate(OTHER.thumbprint, "acme", OTHER.jwk, "phone", "nonce", NOW + CANDIDATE_LIFETIME)
FOREIGN = EnrolledKey("F" * 43, "other", "{}", "foreign", NOW - 5)

THREADS = 8

ODD_TEXTS = {
    "quotes": "'; DROP TABLE tuned_digest_keys; -- \"`",
    "placeholders": "%s %(a)s ? :a {a} $1 \\",
    "a path": "../../etc/passwd",
    "wildcards": "%_*",
    "control characters": "\x01\x1b[31m\r\n\t\x7f",
    "white space": " a  ",
    "an emoji": "👩‍🚀",
    "a combined letter": "e\u0301",
    "right to left": "\u202eabc",
    "the last character": "\U0010ffff",
    "no character": "\ufffe",
    "the longest": "x" * 256,
}

BAD_TEXTS = {"a NUL": "a\0b", "a lone surrogate": "a\ud800", "too long": "x" * 257}

ODD = pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=ODD_TEXTS)
BAD = pytest.mark.parametrize("text", BAD_TEXTS.values(), ids=BAD_TEXTS)


@pytest.fixture(params=REGISTRIES)
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KeyRegistry]:
    """One registry after the other, each empty."""
    with REGISTRIES[request.param](request, tmp_path) as registry:
        yield registry


def add(registry: KeyRegistry, *keys: EnrolledKey) -> None:
    """Enrol keys as an operator."""
    for key in keys:
        registry.enrol(key, what="key added", by="operator")


def done(registry: KeyRegistry, account: str | None = None) -> list[tuple[str, str, str]]:
    """Give what the audit trail says was done, to which key, and by whom."""
    return [(entry.what, entry.thumbprint, entry.by) for entry in registry.audit(account)]


def approve(registry: KeyRegistry, **changes: str | float) -> bool:
    """Approve the candidate, with something changed."""
    fitting = {
        "thumbprint": CANDIDATE.thumbprint,
        "account": "acme",
        "nonce": "nonce",
        "label": "phone",
        "by": KEY.thumbprint,
        "now": NOW + 1,
    }
    values: dict[str, Any] = {**fitting, **changes}
    return registry.approve(values.pop("thumbprint"), **values)


def refused(reason: str, call: Callable[[], None]) -> None:
    """Expect a refusal of that reason."""
    with pytest.raises(EnrolmentError) as caught:
        call()
    assert caught.value.reason == reason


def winners(call: Callable[[int], object]) -> int:
    """Make a call in eight threads at once, and count those that were not refused."""

    def attempt(number: int) -> bool:
        try:
            return call(number) is not False
        except EnrolmentError:
            return False

    return sum(at_once(*(lambda number=number: attempt(number) for number in range(THREADS))))


class TestKeys:
    def test_a_key_is_found_as_it_was_enrolled(self, registry: KeyRegistry) -> None:
        """What was enrolled is found, with every attribute; another thumbprint is not."""
        full = replace(KEY, last_used=NOW + 0.125, revoked=NOW + 0.5)
        add(registry, full)
        assert registry.find(KEY.thumbprint) == full
        assert registry.find(KEY.thumbprint.lower()) is None
        assert registry.find("") is None

    def test_keys_are_those_of_the_account(self, registry: KeyRegistry) -> None:
        """An account's keys are given oldest first, revoked ones too; without an account all are."""
        add(registry, OTHER, FOREIGN, KEY)
        registry.revoke(OTHER.thumbprint, account="acme", now=NOW, by="operator")
        assert registry.keys("acme") == [KEY, replace(OTHER, revoked=NOW)]
        assert registry.keys() == [FOREIGN, KEY, replace(OTHER, revoked=NOW)]
        assert registry.keys("nobody") == []

    def test_a_key_is_enrolled_once_ever(self, registry: KeyRegistry) -> None:
        """A thumbprint that is there, revoked or of another account, is refused and not changed."""
        add(registry, KEY)
        refused("key enrolled", lambda: add(registry, replace(KEY, account="other", label="stolen")))
        registry.revoke(KEY.thumbprint, account="acme", now=NOW, by="operator")
        refused("key enrolled", lambda: add(registry, KEY))
        assert registry.keys() == [replace(KEY, revoked=NOW)]
        assert len(registry.audit()) == 2

    def test_a_founded_account_is_new(self, registry: KeyRegistry) -> None:
        """A key that founds an account is refused where it is there, also with revoked keys alone."""
        registry.enrol(KEY, what="key registered", by="anyone", founds=True)
        registry.revoke(KEY.thumbprint, account="acme", now=NOW, by="operator")
        refused("account taken", lambda: registry.enrol(OTHER, what="w", by="anyone", founds=True))
        assert registry.find(OTHER.thumbprint) is None
        add(registry, OTHER)
        registry.enrol(FOREIGN, what="key registered", by="anyone", founds=True)
        assert [key.label for key in registry.keys(None)] == ["foreign", "laptop", "phone"]

    def test_a_refused_key_founds_nothing(self, registry: KeyRegistry) -> None:
        """An account whose first key is refused is free afterwards."""
        add(registry, KEY)
        stolen = replace(KEY, account="new")
        refused("key enrolled", lambda: registry.enrol(stolen, what="w", by="anyone", founds=True))
        registry.enrol(replace(OTHER, account="new"), what="w", by="anyone", founds=True)

    def test_use_is_noted_once_a_minute(self, registry: KeyRegistry) -> None:
        """A use is written where none is, and else where the last is 60 s old; clocks may go back."""
        add(registry, KEY, OTHER)
        noted = []
        for now in (NOW, NOW + 59.9, NOW - 100, NOW + 60, NOW + 119):
            registry.note_use(KEY.thumbprint, now)
            found = registry.find(KEY.thumbprint)
            assert found is not None
            noted.append(found.last_used)
        assert noted == [NOW, NOW, NOW, NOW + 60, NOW + 60]
        registry.note_use("unknown", NOW)
        assert registry.find(OTHER.thumbprint) == OTHER

    def test_a_key_is_revoked_once(self, registry: KeyRegistry) -> None:
        """Revoking is seen at once, is audited, and is refused for another account and a second time."""
        add(registry, KEY)
        assert not registry.revoke(KEY.thumbprint, account="other", now=NOW, by="operator")
        assert not registry.revoke("unknown", account="acme", now=NOW, by="operator")
        assert registry.find(KEY.thumbprint) == KEY
        assert registry.revoke(KEY.thumbprint, account="acme", now=NOW + 2, by=OTHER.thumbprint)
        assert not registry.revoke(KEY.thumbprint, account="acme", now=NOW + 3, by="operator")
        assert registry.find(KEY.thumbprint) == replace(KEY, revoked=NOW + 2)
        assert done(registry)[1:] == [("key revoked", KEY.thumbprint, OTHER.thumbprint)]


class TestCodes:
    def test_a_code_is_found_as_it_was_stored(self, registry: KeyRegistry) -> None:
        """Codes are found by name and by account and kind, oldest first, with every attribute."""
        full = replace(INVITATION, tries=3, used=NOW, name="a", added=NOW - 20)
        registry.store_codes([INVITATION, full], what="invitation made", by="operator")
        registry.store_codes([RECOVERY], what="recovery codes made", by=KEY.thumbprint)
        assert registry.find_code("invite-1") == INVITATION
        assert registry.find_code("A") is None
        assert registry.codes("acme", "invitation") == [full, INVITATION]
        assert registry.codes("acme", "recovery") == [RECOVERY]
        assert registry.codes("other", "recovery") == []
        assert done(registry) == [
            ("invitation made", "", "operator"),
            ("recovery codes made", "", KEY.thumbprint),
        ]

    def test_no_codes_are_nothing(self, registry: KeyRegistry) -> None:
        """To store no codes changes nothing, and is not audited."""
        registry.store_codes([], what="recovery codes made", by="operator")
        assert registry.audit() == []

    def test_new_recovery_codes_replace_unused_ones(self, registry: KeyRegistry) -> None:
        """Used recovery codes, invitations and other accounts' codes stay; unused recovery codes go."""
        foreign = replace(RECOVERY, name="f", account="other")
        used = replace(RECOVERY, name="u", used=NOW)
        for code in (foreign, INVITATION):
            registry.store_codes([code], what="w", by="operator")
        registry.store_codes([used, RECOVERY], what="w", by="operator")
        new = [replace(RECOVERY, name=f"new-{number}", added=NOW + 1) for number in range(10)]
        registry.store_codes(new, what="recovery codes made", by="operator")
        assert registry.codes("acme", "recovery") == [used, *new]
        assert registry.codes("other", "recovery") == [foreign]
        assert registry.find_code("invite-1") == INVITATION

    @pytest.mark.parametrize("name", ["invite-1", "twice"])
    def test_a_name_is_taken_once(self, registry: KeyRegistry, name: str) -> None:
        """Codes whose name is there, or comes twice, are refused, and nothing is replaced or audited."""
        registry.store_codes([INVITATION], what="w", by="operator")
        registry.store_codes([RECOVERY], what="w", by="operator")
        new = [replace(RECOVERY, name=name), replace(RECOVERY, name="twice")]
        refused("code taken", lambda: registry.store_codes(new, what="w", by="operator"))
        enrol = lambda: registry.enrol(KEY, what="w", by="anyone", codes=new)  # noqa: E731
        refused("code taken", enrol)
        assert registry.find(KEY.thumbprint) is None
        assert registry.codes("acme", "recovery") == [RECOVERY]
        assert registry.find_code("invite-1") == INVITATION
        assert len(registry.audit()) == 2

    def test_wrong_tries_are_counted(self, registry: KeyRegistry) -> None:
        """Each wrong try gives the number so far; that of a code that is not there is 0."""
        registry.store_codes([INVITATION, replace(INVITATION, name="b")], what="w", by="operator")
        assert [registry.count_try("invite-1") for _ in range(6)] == [1, 2, 3, 4, 5, 6]
        assert registry.count_try("unknown") == 0
        assert registry.find_code("invite-1") == replace(INVITATION, tries=6)
        assert registry.find_code("b") == replace(INVITATION, name="b")

    def test_a_code_enrols_one_key(self, registry: KeyRegistry) -> None:
        """A code is marked used by the key that it enrols, which gets recovery codes; the next is refused."""
        registry.store_codes([INVITATION], what="invitation made", by="operator")
        by = "invitation invite-1"
        registry.enrol(KEY, what="key invited", by=by, code="invite-1", codes=[RECOVERY])
        assert registry.find_code("invite-1") == replace(INVITATION, used=NOW)
        assert registry.codes("acme", "recovery") == [RECOVERY]
        refused("code refused", lambda: registry.enrol(OTHER, what="w", by=by, code="invite-1"))
        assert registry.keys() == [KEY]
        assert registry.audit() == [
            AuditEntry(1, INVITATION.added, "acme", "invitation made", "", "operator"),
            AuditEntry(2, NOW, "acme", "key invited", KEY.thumbprint, by, "laptop"),
            AuditEntry(3, NOW, "acme", "recovery codes made", KEY.thumbprint, by, "laptop"),
        ]

    @pytest.mark.parametrize(
        "code",
        [
            replace(INVITATION, used=NOW - 5),
            replace(INVITATION, expires=NOW),
            replace(INVITATION, account="other"),
            replace(INVITATION, tries=5),
            replace(INVITATION, name="unknown"),
        ],
        ids=["used", "expired", "foreign", "tried", "unknown"],
    )
    def test_a_bad_code_enrols_nothing(self, registry: KeyRegistry, code: Code) -> None:
        """With such a code no key, account, code or audit entry is made."""
        registry.store_codes([code], what="w", by="operator")
        before = registry.audit()
        refused(
            "code refused",
            lambda: registry.enrol(KEY, what="w", by="b", founds=True, code="invite-1", codes=[RECOVERY]),
        )
        assert not registry.keys()
        assert not registry.codes("acme", "recovery")
        assert registry.audit() == before
        assert registry.find_code(code.name) == code
        registry.enrol(KEY, what="w", by="anyone", founds=True)

    def test_a_good_code_is_not_used_by_a_refused_key(self, registry: KeyRegistry) -> None:
        """A code stays unused where what it came with is refused."""
        registry.store_codes([replace(INVITATION, tries=4, expires=None)], what="w", by="operator")
        add(registry, KEY)
        refused("key enrolled", lambda: registry.enrol(KEY, what="w", by="b", code="invite-1"))
        refused("not approved", lambda: registry.enrol(OTHER, what="w", by="b", code="invite-1", nonce="n"))
        registry.enrol(OTHER, what="w", by="b", code="invite-1")


class TestCandidates:
    def test_a_candidate_is_found_until_it_expires(self, registry: KeyRegistry) -> None:
        """A candidate is there as it was proposed until its time is over."""
        registry.propose(CANDIDATE, most=5)
        before, after = CANDIDATE.expires - 0.125, CANDIDATE.expires
        assert registry.find_candidate(CANDIDATE.thumbprint, before) == CANDIDATE
        assert registry.candidates("acme", before) == [CANDIDATE]
        assert registry.find_candidate(CANDIDATE.thumbprint, after) is None
        assert registry.candidates("acme", after) == registry.candidates("other", before) == []
        assert registry.find_candidate("unknown", before) is None
        assert registry.audit() == []

    def test_a_second_proposal_replaces_the_first(self, registry: KeyRegistry) -> None:
        """A key waits once, whichever account it asks for, and its approval is gone."""
        registry.propose(CANDIDATE, most=1)
        assert approve(registry)
        registry.propose(replace(CANDIDATE, nonce="second"), most=1)
        assert registry.candidates("acme", NOW) == [replace(CANDIDATE, nonce="second")]
        foreign = replace(CANDIDATE, account="other")
        registry.propose(foreign, most=1)
        assert registry.candidates("acme", NOW) == []
        assert registry.candidates("other", NOW) == [foreign]

    def test_an_account_has_so_many_candidates(self, registry: KeyRegistry) -> None:
        """One more is refused, for that account and until one expires."""
        many = [replace(CANDIDATE, thumbprint=str(number), expires=NOW + 600 + number) for number in range(3)]
        for candidate in many:
            registry.propose(candidate, most=3)
        refused("too many candidates", lambda: registry.propose(CANDIDATE, most=3))
        registry.propose(replace(CANDIDATE, account="other"), most=3)
        assert registry.candidates("acme", NOW) == many
        later = replace(CANDIDATE, thumbprint="later", expires=NOW + 600 + CANDIDATE_LIFETIME)
        registry.propose(later, most=3)
        assert registry.candidates("acme", NOW) == [*many[1:], later]

    def test_all_accounts_together_have_a_bound(
        self, registry: KeyRegistry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Beyond the bound on all candidates one more is refused, whatever its account."""
        for module in (in_memory, in_sql):
            monkeypatch.setattr(module, "MOST_CANDIDATES", 2)
        for name in ("one", "two"):
            registry.propose(replace(CANDIDATE, thumbprint=name, account=name), most=5)
        refused("too many candidates", lambda: registry.propose(CANDIDATE, most=5))
        registry.propose(replace(CANDIDATE, thumbprint="one"), most=5)

    def test_an_approved_candidate_is_enrolled_once(self, registry: KeyRegistry) -> None:
        """Approval is audited; the key is then enrolled with its nonce, and the candidate is gone."""
        add(registry, KEY)
        registry.propose(CANDIDATE, most=5)
        refused("not approved", lambda: registry.enrol(OTHER, what="w", by="b", nonce="nonce"))
        assert approve(registry)
        approved = replace(CANDIDATE, approved_by=KEY.thumbprint)
        assert registry.find_candidate(OTHER.thumbprint, NOW) == approved
        registry.enrol(OTHER, what="key enrolled", by=KEY.thumbprint, nonce="nonce")
        assert registry.find(OTHER.thumbprint) == OTHER
        assert registry.candidates("acme", NOW) == []
        refused("key enrolled", lambda: registry.enrol(OTHER, what="w", by="b", nonce="nonce"))
        assert registry.audit()[1:] == [
            AuditEntry(2, NOW + 1, "acme", "key approved", OTHER.thumbprint, KEY.thumbprint, "phone"),
            AuditEntry(3, NOW + 1, "acme", "key enrolled", OTHER.thumbprint, KEY.thumbprint, "phone"),
        ]

    @pytest.mark.parametrize(
        "change",
        [
            {"thumbprint": "unknown"},
            {"account": "other"},
            {"nonce": "another"},
            {"label": "Phone"},
            {"now": CANDIDATE.expires},
            {"account": "a\0"},
        ],
        ids=str,
    )
    def test_what_is_approved_is_what_waits(
        self, registry: KeyRegistry, change: dict[str, str | float]
    ) -> None:
        """An approval that differs in anything from the candidate, or comes too late, changes nothing."""
        registry.propose(CANDIDATE, most=5)
        assert not approve(registry, **change)
        assert registry.find_candidate(CANDIDATE.thumbprint, NOW) == CANDIDATE
        assert registry.audit() == []

    @pytest.mark.parametrize(
        ("change", "nonce"),
        [
            ({"account": "other"}, "nonce"),
            ({"label": "Phone"}, "nonce"),
            ({"jwk": "{}"}, "nonce"),
            ({"thumbprint": "unknown"}, "nonce"),
            ({"added": CANDIDATE.expires}, "nonce"),
            ({}, "another"),
        ],
        ids=str,
    )
    def test_what_is_enrolled_is_what_was_approved(
        self, registry: KeyRegistry, change: dict[str, str], nonce: str
    ) -> None:
        """A key that differs in anything from the approved candidate, or comes too late, is refused."""
        registry.propose(CANDIDATE, most=5)
        assert approve(registry)
        key = replace(OTHER, **change)  # type: ignore[arg-type]
        refused("not approved", lambda: registry.enrol(key, what="w", by="b", nonce=nonce))
        assert registry.keys() == []
        registry.enrol(OTHER, what="w", by="b", nonce="nonce")

    def test_a_revoked_key_approves_nothing(self, registry: KeyRegistry) -> None:
        """With a key goes what it approved, and it approves nothing more; other approvals stay."""
        add(registry, KEY, FOREIGN)
        third = replace(CANDIDATE, thumbprint="third")
        registry.propose(CANDIDATE, most=5)
        registry.propose(third, most=5)
        assert approve(registry)
        assert approve(registry, thumbprint="third", by=FOREIGN.thumbprint)
        registry.revoke(KEY.thumbprint, account="acme", now=NOW + 2, by="operator")
        refused("not approved", lambda: registry.enrol(OTHER, what="w", by="b", nonce="nonce"))
        registry.propose(CANDIDATE, most=5)
        assert not approve(registry)
        assert registry.candidates("acme", NOW) == [
            CANDIDATE,
            replace(third, approved_by=FOREIGN.thumbprint),
        ]

    def test_a_revoked_key_does_nothing(self, registry: KeyRegistry) -> None:
        """A revoked key revokes no key and replaces no codes; a good one, and whoever has no key, does."""
        add(registry, KEY, OTHER, FOREIGN)
        registry.store_codes([RECOVERY], what="w", by="operator")
        registry.revoke(KEY.thumbprint, account="acme", now=NOW + 2, by=OTHER.thumbprint)
        trail = registry.audit()
        new = replace(RECOVERY, name="recover-2")
        assert not registry.revoke(OTHER.thumbprint, account="acme", now=NOW + 3, by=KEY.thumbprint)
        refused("key revoked", lambda: registry.store_codes([new], what="w", by=KEY.thumbprint))
        assert registry.find(OTHER.thumbprint) == OTHER
        assert registry.codes("acme", "recovery") == [RECOVERY]
        assert registry.audit() == trail
        registry.store_codes([new], what="w", by=OTHER.thumbprint)
        assert registry.revoke(OTHER.thumbprint, account="acme", now=NOW + 3, by=OTHER.thumbprint)
        assert registry.codes("acme", "recovery") == [new]

    def test_a_key_enrolled_in_another_way_waits_no_more(self, registry: KeyRegistry) -> None:
        """A candidate that is enrolled without its nonce is removed."""
        registry.propose(CANDIDATE, most=5)
        add(registry, OTHER)
        assert registry.candidates("acme", NOW) == []


class TestAudit:
    def test_the_trail_is_read_in_parts(self, registry: KeyRegistry) -> None:
        """Entries come in their order, of one account or all, after a number, so many at most."""
        for number in range(5):
            add(registry, replace(KEY, thumbprint=str(number)))
            add(registry, replace(FOREIGN, thumbprint=f"f{number}"))
        assert [entry.number for entry in registry.audit()] == list(range(1, 11))
        assert [entry.thumbprint for entry in registry.audit("acme")] == list("01234")
        assert [entry.number for entry in registry.audit("other", after=4, limit=2)] == [6, 8]
        assert [entry.number for entry in registry.audit(after=-5, limit=1)] == [1]
        assert registry.audit(after=10) == registry.audit(after=10**30) == registry.audit("nobody") == []
        assert registry.audit(limit=0) == registry.audit(limit=-1) == []

    def test_an_answer_has_a_bound(self, registry: KeyRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
        """However many entries are asked for, no more than the bound are given."""
        for module in (in_memory, in_sql):
            monkeypatch.setattr(module, "MOST_ENTRIES", 2)
        add(registry, KEY, OTHER, FOREIGN)
        assert len(registry.audit(limit=10**30)) == 2


class TestRaces:
    def test_one_thread_enrols_a_key(self, registry: KeyRegistry) -> None:
        """Of eight threads that enrol the same key, one does."""
        assert winners(lambda number: add(registry, replace(KEY, account=f"account-{number}"))) == 1
        assert len(registry.keys()) == len(registry.audit()) == 1

    def test_one_thread_uses_a_code(self, registry: KeyRegistry) -> None:
        """Of eight keys that are enrolled with the same code, one is."""
        registry.store_codes([INVITATION], what="w", by="operator")

        def enrol(number: int) -> None:
            key = replace(KEY, thumbprint=str(number))
            registry.enrol(key, what="key invited", by="b", code="invite-1")

        assert winners(enrol) == 1
        assert len(registry.keys()) == 1

    def test_one_thread_founds_an_account(self, registry: KeyRegistry) -> None:
        """Of eight keys that found the same account, one does."""
        found = lambda number: registry.enrol(  # noqa: E731
            replace(KEY, thumbprint=str(number)), what="w", by="anyone", founds=True
        )
        assert winners(found) == 1
        assert len(registry.keys()) == 1

    def test_one_thread_approves(self, registry: KeyRegistry) -> None:
        """Of eight keys that approve the same candidate, one does; of eight that enrol it, one does."""
        registry.propose(CANDIDATE, most=5)
        assert winners(lambda number: approve(registry, by=f"key {number}")) == 1
        assert winners(lambda number: registry.enrol(OTHER, what="w", by="b", nonce="nonce")) == 1
        assert [entry.what for entry in registry.audit()] == ["key approved", "w"]

    def test_one_thread_revokes(self, registry: KeyRegistry) -> None:
        """Of eight threads that revoke the same key, one does."""
        add(registry, KEY)
        revoke = lambda number: registry.revoke(KEY.thumbprint, account="acme", now=NOW, by="b")  # noqa: E731
        assert winners(revoke) == 1

    def test_every_try_is_counted(self, registry: KeyRegistry) -> None:
        """Eight wrong tries at once have eight numbers."""
        registry.store_codes([INVITATION], what="w", by="operator")
        counts = at_once(*[lambda: registry.count_try("invite-1")] * THREADS)
        assert sorted(counts) == list(range(1, THREADS + 1))

    def test_the_bound_on_candidates_holds(self, registry: KeyRegistry) -> None:
        """Of eight candidates at once an account has as many as it may."""
        propose = lambda number: registry.propose(  # noqa: E731
            replace(CANDIDATE, thumbprint=str(number)), most=3
        )
        assert winners(propose) == 3
        assert len(registry.candidates("acme", NOW)) == 3

    def test_the_trail_has_no_holes_for_who_follows_it(self, registry: KeyRegistry) -> None:
        """Who reads on after the last number while others write misses no entry."""
        finished: list[int] = []

        def write(number: int) -> list[str]:
            try:
                for part in range(5):
                    add(registry, replace(KEY, thumbprint=f"{number}-{part}"))
            finally:
                finished.append(number)
            return []

        def follow() -> list[str]:
            last, seen, is_over = 0, list[str](), False
            while not is_over:
                is_over = len(finished) == 3
                for entry in registry.audit(after=last):
                    last = entry.number
                    seen.append(entry.thumbprint)
            return seen

        *_, seen = at_once(*(lambda number=number: write(number) for number in range(3)), follow)
        assert sorted(seen) == sorted(f"{number}-{part}" for number in range(3) for part in range(5))


class TestTexts:
    @ODD
    def test_unusual_text_comes_back_as_it_was(self, registry: KeyRegistry, text: str) -> None:
        """Text with the signs of SQL, of paths and of scripts is kept to the letter, and is no other text."""
        key = EnrolledKey(text, text, text, text, NOW)
        code = Code(text, "invitation", text, text, NOW - 1)
        candidate = Candidate(f"{text[1:]}c", text, text, text, text, NOW + CANDIDATE_LIFETIME)
        registry.store_codes([code], what=text, by=text)
        registry.propose(candidate, most=1)
        registry.enrol(key, what=text, by=text, code=text)
        assert registry.find(text) == key
        assert registry.keys(text) == [key]
        assert registry.find_code(text) == replace(code, used=NOW)
        assert registry.codes(text, "invitation") == [replace(code, used=NOW)]
        assert registry.candidates(text, NOW) == [candidate]
        values = {"account": text, "nonce": text, "label": text, "by": text, "now": NOW}
        assert registry.approve(candidate.thumbprint, **values)  # type: ignore[arg-type]
        assert registry.count_try(text) == 1
        assert registry.revoke(text, account=text, now=NOW, by=text)
        assert {(entry.account, entry.by) for entry in registry.audit(text)} == {(text, text)}
        assert registry.find(f"{text[1:]} ") is None

    def test_texts_that_look_alike_are_others(self, registry: KeyRegistry) -> None:
        """Case, accents, normal forms and trailing space tell texts apart."""
        names = ["acme", "Acme", "acme ", "acmé", "acme\u0301", "\u0430cme", "ACME"]
        for name in names:
            registry.enrol(replace(KEY, thumbprint=name, account=name), what="w", by="b", founds=True)
        assert [len(registry.keys(name)) for name in names] == [1] * len(names)

    @BAD
    @pytest.mark.parametrize("field", ["thumbprint", "account", "label", "what", "by"])
    def test_a_key_with_bad_text_is_refused(self, registry: KeyRegistry, field: str, text: str) -> None:
        """Text that some registry could not keep is refused by all, with an error of ours."""
        text = text if field != "by" else text * 2
        words = {"what": "w", "by": "b"}
        key = KEY
        if field in words:
            words[field] = text
        else:
            key = replace(KEY, **{field: text})  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match=field):
            registry.enrol(key, **words)  # type: ignore[arg-type]
        assert not registry.keys()
        assert not registry.audit()

    @BAD
    def test_bad_text_is_kept_nowhere(self, registry: KeyRegistry, text: str) -> None:
        """Codes, candidates and whoever acts are held to the same."""
        text *= 2
        add(registry, KEY)
        registry.propose(CANDIDATE, most=5)
        calls: list[Callable[[], object]] = [
            lambda: registry.store_codes([replace(RECOVERY, name=text)], what="w", by="b"),
            lambda: registry.store_codes([RECOVERY], what=text, by="b"),
            lambda: registry.enrol(OTHER, what="w", by="b", codes=[replace(RECOVERY, hash=text)]),
            lambda: registry.propose(replace(CANDIDATE, nonce=text), most=5),
            lambda: registry.revoke(KEY.thumbprint, account="acme", now=NOW, by=text),
            lambda: approve(registry, by=text),
        ]
        for call in calls:
            with pytest.raises(ArgumentError):
                call()
        assert registry.keys() == [KEY]
        assert registry.candidates("acme", NOW) == [CANDIDATE]
        assert len(registry.audit()) == 1

    @BAD
    def test_bad_text_is_found_nowhere(self, registry: KeyRegistry, text: str) -> None:
        """What cannot be kept is not there, which is no error."""
        assert registry.find(text) is None
        assert registry.find_code(text) is None
        assert registry.find_candidate(text, NOW) is None
        found = (registry.keys(text), registry.audit(text), registry.candidates(text, NOW))
        assert not any((*found, registry.codes(text, text)))
        assert registry.count_try(text) == 0
        assert not registry.revoke(text, account=text, now=NOW, by="b")
        assert not approve(registry, thumbprint=text)
        registry.note_use(text, NOW)
        refused("code refused", lambda: registry.enrol(KEY, what="w", by="b", code=text))
        refused("not approved", lambda: registry.enrol(KEY, what="w", by="b", nonce=text))

    @pytest.mark.parametrize("time", [float("nan"), float("inf"), -float("inf")])
    def test_a_time_is_finite(self, registry: KeyRegistry, time: float) -> None:
        """A time that is no number is refused."""
        with pytest.raises(ArgumentError, match="added"):
            add(registry, replace(KEY, added=time))
        add(registry, KEY)
        with pytest.raises(ArgumentError, match="time"):
            registry.revoke(KEY.thumbprint, account="acme", now=time, by="operator")

    def test_a_long_jwk_is_kept(self, registry: KeyRegistry) -> None:
        """The JWK of the largest key there is fits, and one of 4,097 characters is refused."""
        with pytest.raises(ArgumentError, match="jwk"):
            add(registry, replace(KEY, jwk="x" * 4097))
        add(registry, replace(KEY, jwk="x" * 4096))


def test_memory_serves_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside other workers the registry in memory refuses to start, and names the one that they share."""

    def refuse(store: str, *, patience: float) -> None:
        raise ArgumentError("there are others")

    monkeypatch.setattr(in_memory, "require_alone", refuse)
    with pytest.raises(ArgumentError, match="use SQLKeyRegistry"):
        in_memory.MemoryKeyRegistry().start()


class TestClocks:
    def test_no_clock_is_read(self, registry: KeyRegistry) -> None:
        """Times long gone and to come are as good as any."""
        for number, now in enumerate((-1e12, 0.0, 2.0**53)):
            key = replace(KEY, thumbprint=str(number), added=now)
            code = replace(INVITATION, name=str(number), added=now - 2, expires=now + 2)
            registry.store_codes([code], what="w", by="b")
            registry.enrol(key, what="w", by="b", code=str(number))
            assert registry.find(str(number)) == key
            registry.propose(replace(CANDIDATE, expires=now + CANDIDATE_LIFETIME), most=1)
            assert approve(registry, now=now)
