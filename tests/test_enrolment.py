"""The rules of enrolment, over a registry in memory: who may enrol a key, and how (tokens.md section 3)."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuned_digest import Ed25519Signer
from tuned_digest._runtime.drivers import run_blocking
from tuned_digest.errors import (
    ArgumentError,
    EnrolmentError,
    OverloadedError,
    RequestRejectedError,
    StoreUnavailableError,
)
from tuned_digest.keys import PublicKey
from tuned_digest.server.accounts import EnrolledKey, MemoryKeyRegistry, one_time
from tuned_digest.server.accounts.codes import read_code
from tuned_digest.server.accounts.devices import Asker, Enrolled, Enrolling, Waiting
from tuned_digest.server.accounts.enrolment import Enrolment
from tuned_digest.server.checks import Check, CheckQueue

from .clock import Clock
from .enrolling import NOW, enrolment, new_clock, quick_hashes

DAY = 86400.0


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick_hashes(monkeypatch)


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return new_clock()


@pytest.fixture
def rules(clock: Clock) -> Enrolment:
    """The rules where keys are invited."""
    return enrolment(clock)


@pytest.fixture
def open_rules(clock: Clock) -> Enrolment:
    """The rules where registration is open."""
    return enrolment(clock, registration="open")


def new_key() -> PublicKey:
    """Make a key that nobody knows."""
    return PublicKey.of(Ed25519Signer.generate())


def ask(rules: Enrolment, account: str = "acme", *, peer: str = "", **asked: Any) -> Enrolled | Waiting:
    """Ask for a new key, or another one, to be enrolled."""
    key = asked.pop("key", None) or new_key()
    asking = Enrolling(account, key, asked.pop("label", "laptop"), **asked)
    return run_blocking(rules.enrol(asking, Asker(key.thumbprint, peer)))


def enrolled(rules: Enrolment, account: str = "acme", **asked: Any) -> Enrolled:
    """Ask for a key that is to be enrolled at once."""
    done = ask(rules, account, **asked)
    assert isinstance(done, Enrolled)
    return done


def waiting(rules: Enrolment, account: str = "acme", **asked: Any) -> Waiting:
    """Ask for a key that is to wait."""
    done = ask(rules, account, **asked)
    assert isinstance(done, Waiting)
    return done


def reason(rules: Enrolment, account: str = "acme", **asked: Any) -> str:
    """Ask for a key that is to be refused, and give the reason."""
    with pytest.raises((EnrolmentError, RequestRejectedError)) as refused:
        ask(rules, account, **asked)
    assert isinstance(refused.value, EnrolmentError | RequestRejectedError)
    return refused.value.reason


def invited(rules: Enrolment, account: str = "acme") -> Enrolled:
    """Enrol a key by an invitation."""
    return enrolled(rules, account, invitation=rules.invite(account))


def approve(rules: Enrolment, one: Waiting, by: EnrolledKey, **changes: Any) -> None:
    """Approve a key that waits."""
    candidate = replace(one.candidate, **changes)
    run_blocking(
        rules.approve(
            candidate.account, candidate.thumbprint, candidate.label, candidate.nonce, Asker(by.thumbprint)
        )
    )


def story(rules: Enrolment, account: str = "acme") -> list[tuple[str, str]]:
    """What was done to an account, and by whom."""
    return [(entry.what, entry.by) for entry in run_blocking(rules.audit(account, 0))]


class TestSettings:
    @pytest.mark.parametrize(
        "options",
        [{"registration": "closed"}, {"invitation_lifetime": 0}, {"invitation_lifetime": float("inf")}],
    )
    def test_unusable(self, options: dict[str, Any]) -> None:
        """An unknown registration, and a lifetime that is not positive and finite, are refused."""
        with pytest.raises(ArgumentError):
            Enrolment(MemoryKeyRegistry(), **options)

    def test_start(self, rules: Enrolment, monkeypatch: pytest.MonkeyPatch) -> None:
        """Starting asks the registry whether it can serve."""
        started: list[None] = []
        monkeypatch.setattr(rules.registry, "start", lambda: started.append(None))
        run_blocking(rules.start())
        assert started == [None]


class TestNames:
    @pytest.mark.parametrize("account", ["a", "0", "acme-42", "a.b_c", "a" * 64])
    def test_account(self, rules: Enrolment, account: str) -> None:
        """An account is 1 to 64 of a few characters, the first a letter or digit."""
        assert rules.add(account, new_key(), "laptop").account == account

    @pytest.mark.parametrize("account", ["", ".a", "-a", "A", "a b", "a/b", "a\n", "é", "a" * 65, "\ud800"])
    def test_no_account(self, rules: Enrolment, account: str) -> None:
        """Any other name is refused, wherever it is given."""
        for refused in (lambda: rules.add(account, new_key(), "x"), lambda: rules.invite(account)):
            with pytest.raises(EnrolmentError, match="account name"):
                refused()
        assert reason(rules, account) == "bad request"

    @pytest.mark.parametrize("label", ["x", "Ann's laptop", "Büro 2", "電話", "x" * 64])
    def test_label(self, rules: Enrolment, label: str) -> None:
        """A label is 1 to 64 printable characters of any script."""
        assert rules.add("acme", new_key(), label).label == label

    @pytest.mark.parametrize(
        "label",
        [
            "",
            " ",
            " x",
            "x ",
            "x\n",
            "x\0",
            "\x1b[1m",
            "x\u202eexe",
            "x\u2066",
            "x\u200b",
            "\ud800",
            "x" * 65,
        ],
    )
    def test_no_label(self, rules: Enrolment, label: str) -> None:
        """Control characters, those that change directions, and half pairs are refused."""
        assert reason(rules, label=label) == "bad request"

    @given(st.text(max_size=70), st.text(max_size=70))
    def test_anything(self, account: str, label: str) -> None:
        """Any two texts are names that can be kept, or an EnrolmentError."""
        rules = enrolment()
        try:
            key = rules.add(account, new_key(), label)
        except EnrolmentError:
            return
        assert rules.registry.find(key.thumbprint) == key


class TestOperator:
    def test_added(self, rules: Enrolment) -> None:
        """The operator adds keys, and no codes come with them."""
        first, second = rules.add("acme", new_key(), "a"), rules.add("acme", new_key(), "b")
        assert [key.thumbprint for key in rules.registry.keys("acme")] == sorted(
            [first.thumbprint, second.thumbprint]
        )
        assert rules.registry.codes("acme", "recovery") == []
        assert story(rules) == [("key added", "operator")] * 2

    def test_added_once(self, rules: Enrolment) -> None:
        """A key is added once."""
        key = new_key()
        rules.add("acme", key, "a")
        with pytest.raises(EnrolmentError) as refused:
            rules.add("other", key, "a")
        assert refused.value.reason == "key enrolled"

    def test_revoked(self, rules: Enrolment) -> None:
        """The operator revokes any key once, the last one too."""
        key = rules.add("acme", new_key(), "a")
        assert rules.revoke(key.thumbprint)
        assert not rules.revoke(key.thumbprint)
        assert not rules.revoke("unknown")
        assert story(rules)[-1] == ("key revoked", "operator")

    def test_alone(self, clock: Clock) -> None:
        """Where the operator alone enrols keys, invitations are neither made nor taken."""
        registry = MemoryKeyRegistry()
        invitation = enrolment(clock, registry).invite("acme")
        rules = enrolment(clock, registry, registration="operator")
        assert reason(rules, invitation=invitation) == "code refused"
        with pytest.raises(EnrolmentError, match="no invitations"):
            rules.invite("acme")


class TestInvitation:
    def test_first_key(self, rules: Enrolment) -> None:
        """An invitation enrols the first key of an account, which brings ten recovery codes."""
        invitation = rules.invite("acme")
        done = enrolled(rules, invitation=invitation.lower().replace("-", " "))
        assert len({*done.recovery_codes}) == 10
        name = read_code(invitation).name
        assert story(rules) == [
            ("invitation made", "operator"),
            ("key invited", f"invitation {name}"),
            ("recovery codes made", f"invitation {name}"),
        ]

    def test_further_key(self, rules: Enrolment) -> None:
        """An invitation enrols a further key too, and leaves the recovery codes as they are."""
        first = invited(rules)
        assert invited(rules).recovery_codes == ()
        assert enrolled(rules, recovery_code=first.recovery_codes[0])

    def test_once(self, rules: Enrolment) -> None:
        """An invitation is good once."""
        invitation = rules.invite("acme")
        enrolled(rules, invitation=invitation)
        assert reason(rules, invitation=invitation) == "code refused"

    def test_expired(self, rules: Enrolment, clock: Clock) -> None:
        """An invitation is good for seven days."""
        early, late = rules.invite("acme"), rules.invite("acme")
        clock.now += 7 * DAY - 1
        enrolled(rules, invitation=early)
        clock.now += 1
        assert reason(rules, invitation=late) == "code refused"

    def test_for_one_account(self, rules: Enrolment) -> None:
        """An invitation to one account is none to another."""
        invitation = rules.invite("acme")
        assert reason(rules, "other", invitation=invitation) == "code refused"
        assert rules.registry.keys("other") == []

    def test_kind(self, rules: Enrolment) -> None:
        """An invitation is no recovery code, and a recovery code no invitation."""
        done = invited(rules)
        assert reason(rules, recovery_code=rules.invite("acme")) == "code refused"
        assert reason(rules, invitation=done.recovery_codes[0]) == "code refused"

    def test_two_first_keys(self, rules: Enrolment, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of two first keys at once both are enrolled, and one set of recovery codes is made."""
        invitation = rules.invite("acme")
        others: list[Enrolled] = []
        enrol = rules.registry.enrol

        def enrol_second(key: EnrolledKey, **options: Any) -> None:
            if not others:
                monkeypatch.setattr(rules.registry, "enrol", enrol)
                others.append(invited(rules))
            enrol(key, **options)

        monkeypatch.setattr(rules.registry, "enrol", enrol_second)
        assert enrolled(rules, invitation=invitation).recovery_codes == ()
        assert len(rules.registry.codes("acme", "recovery")) == len(others[0].recovery_codes) == 10
        assert len(rules.registry.keys("acme")) == 2


class TestOpenRegistration:
    def test_free_name(self, open_rules: Enrolment) -> None:
        """The first key of a free name is enrolled at once, with recovery codes."""
        assert len(enrolled(open_rules).recovery_codes) == 10
        assert story(open_rules) == [("key registered", "anyone"), ("recovery codes made", "anyone")]

    def test_taken_name(self, open_rules: Enrolment) -> None:
        """A further key waits, also once all keys of the account are revoked."""
        first = enrolled(open_rules)
        waiting(open_rules)
        open_rules.revoke(first.key.thumbprint)
        waiting(open_rules)

    def test_invited_name(self, open_rules: Enrolment, clock: Clock) -> None:
        """A name that somebody was invited to is not free until the invitation has expired."""
        open_rules.invite("acme")
        waiting(open_rules)
        clock.now += 7 * DAY
        enrolled(open_rules)

    @pytest.mark.parametrize("before", ["keys", "enrol"])
    def test_name_taken_meanwhile(
        self, open_rules: Enrolment, monkeypatch: pytest.MonkeyPatch, before: str
    ) -> None:
        """Whoever comes second waits for the first one's approval, at whatever moment that one came."""
        method = getattr(open_rules.registry, before)

        def slowly(*arguments: Any, **options: Any) -> Any:
            monkeypatch.setattr(open_rules.registry, before, method)
            answer = method(*arguments, **options) if before == "keys" else None
            enrolled(open_rules)
            return answer if before == "keys" else method(*arguments, **options)

        monkeypatch.setattr(open_rules.registry, before, slowly)
        waiting(open_rules)
        assert len(open_rules.registry.keys("acme")) == 1

    def test_key_enrolled_meanwhile(self, open_rules: Enrolment, monkeypatch: pytest.MonkeyPatch) -> None:
        """A key that was enrolled elsewhere in the meantime is refused."""
        key = new_key()
        find = open_rules.registry.find
        monkeypatch.setattr(open_rules.registry, "find", lambda thumbprint: None)
        open_rules.add("other", key, "laptop")
        assert reason(open_rules, key=key) == "key enrolled"
        assert find(key.thumbprint) is not None


class TestApproval:
    def test_enrolled_by_asking_again(self, rules: Enrolment, clock: Clock) -> None:
        """An approval enrols nothing; the device's next request with its nonce does, once."""
        first, key = invited(rules).key, new_key()
        one = waiting(rules, key=key)
        assert one.expires_in == 600
        clock.now += 10
        assert waiting(rules, key=key, nonce=one.candidate.nonce).expires_in == 590
        approve(rules, one, first)
        assert len(rules.registry.keys("acme")) == 1
        done = enrolled(rules, key=key, nonce=one.candidate.nonce)
        assert (done.key.thumbprint, done.recovery_codes) == (key.thumbprint, ())
        assert reason(rules, key=key, nonce=one.candidate.nonce) == "key enrolled"
        assert story(rules)[-2:] == [("key approved", first.thumbprint), ("key enrolled", first.thumbprint)]

    def test_listed(self, rules: Enrolment, clock: Clock) -> None:
        """Candidates are listed for ten minutes, until they are approved, and for their account alone."""
        first = invited(rules).key
        one, two = waiting(rules, label="a"), waiting(rules, label="b")
        waiting(rules, "other")
        clock.now += 599
        assert {listed.candidate.label for listed in run_blocking(rules.candidates("acme"))} == {"a", "b"}
        assert {listed.expires_in for listed in run_blocking(rules.candidates("acme"))} == {1}
        approve(rules, one, first)
        assert [listed.candidate for listed in run_blocking(rules.candidates("acme"))] == [two.candidate]
        clock.now += 1
        assert run_blocking(rules.candidates("acme")) == []

    @pytest.mark.parametrize(
        "changes", [{"account": "other"}, {"thumbprint": "x"}, {"label": "x"}, {"nonce": "x"}, {"nonce": "é"}]
    )
    def test_of_something_else(self, rules: Enrolment, changes: dict[str, str]) -> None:
        """An approval that differs in anything approves nothing."""
        first, key = invited(rules).key, new_key()
        one = waiting(rules, key=key)
        with pytest.raises(EnrolmentError) as refused:
            approve(rules, one, first, **changes)
        assert refused.value.reason == "no candidate"
        waiting(rules, key=key, nonce=one.candidate.nonce)

    @pytest.mark.parametrize(
        "changes",
        [{"account": "other"}, {"label": "x"}, {"nonce": "x"}, {"nonce": "\ud800"}, {"key": new_key()}],
    )
    def test_asked_again_for_something_else(self, rules: Enrolment, changes: dict[str, Any]) -> None:
        """A device that asks again for something else is refused, approved or not."""
        first, key = invited(rules).key, new_key()
        one = waiting(rules, key=key)
        again = {"account": "acme", "key": key, "nonce": one.candidate.nonce, **changes}
        assert reason(rules, **again) == "not approved"
        approve(rules, one, first)
        assert reason(rules, **again) == "not approved"

    def test_too_late(self, rules: Enrolment, clock: Clock) -> None:
        """After ten minutes a candidate is neither approved nor enrolled."""
        first, key = invited(rules).key, new_key()
        one, other = waiting(rules, key=key), waiting(rules)
        approve(rules, one, first)
        clock.now += 600
        assert reason(rules, key=key, nonce=one.candidate.nonce) == "not approved"
        with pytest.raises(EnrolmentError):
            approve(rules, other, first)

    def test_proposed_again(self, rules: Enrolment) -> None:
        """A device that asks anew gets another nonce, and the old one is good for nothing."""
        first, key = invited(rules).key, new_key()
        old, new = waiting(rules, key=key), waiting(rules, key=key)
        with pytest.raises(EnrolmentError):
            approve(rules, old, first)
        approve(rules, new, first)
        assert reason(rules, key=key, nonce=old.candidate.nonce) == "not approved"
        enrolled(rules, key=key, nonce=new.candidate.nonce)

    def test_approver_revoked(self, rules: Enrolment) -> None:
        """What a key has approved that is revoked then is not enrolled."""
        first, key = invited(rules).key, new_key()
        one = waiting(rules, key=key)
        approve(rules, one, first)
        rules.revoke(first.thumbprint)
        assert reason(rules, key=key, nonce=one.candidate.nonce) == "not approved"

    def test_race(self, rules: Enrolment) -> None:
        """A device that asks many times at once is enrolled once."""
        first, key = invited(rules).key, new_key()
        one = waiting(rules, key=key)
        approve(rules, one, first)
        outcomes = at_once(16, lambda: outcome(rules, key=key, nonce=one.candidate.nonce))
        assert outcomes.count("enrolled") == 1
        assert set(outcomes) <= {"enrolled", "key enrolled", "not approved"}
        assert len(rules.registry.keys("acme")) == 2

    def test_most(self, rules: Enrolment) -> None:
        """Twenty wait for an account."""
        for _ in range(20):
            waiting(rules)
        assert reason(rules) == "too many candidates"
        waiting(rules, "other")


class TestCodes:
    def test_five_wrong_tries(self, rules: Enrolment) -> None:
        """Five wrong tries end a code, and four do not, wherever they come from."""
        for tries, ends in ((4, False), (5, True)):
            invitation = rules.invite("acme")
            wrong = invitation[:-1] + ("0" if invitation[-1] != "0" else "1")
            for number in range(tries):
                assert reason(rules, invitation=wrong, peer=f"192.0.2.{number}") == "code refused"
            outcome_of_all = outcome(rules, invitation=invitation, peer="192.0.2.9")
            assert outcome_of_all == ("code refused" if ends else "enrolled")

    def test_wrong_account_counts(self, rules: Enrolment) -> None:
        """A right code for the wrong account is a wrong try."""
        invitation = rules.invite("acme")
        for _ in range(5):
            assert reason(rules, "other", invitation=invitation) == "code refused"
        assert reason(rules, invitation=invitation) == "code refused"

    def test_others_are_not_locked_out(self, rules: Enrolment) -> None:
        """Whoever guesses at an account's codes ends none of them: their names are not known."""
        done = invited(rules)
        for number in range(100):
            code = "".join(f"{number:028d}")
            assert reason(rules, recovery_code=code, peer=f"192.0.2.{number}") == "code refused"
        assert enrolled(rules, recovery_code=done.recovery_codes[9])

    def test_address(self, rules: Enrolment, clock: Clock) -> None:
        """Five wrong tries from one address keep that address, and no other, from trying for ten minutes."""
        invitation = rules.invite("acme")
        for _ in range(5):
            assert reason(rules, invitation="0" * 28, peer="192.0.2.1") == "code refused"
            clock.now += 60
        with pytest.raises(RequestRejectedError) as refused:
            ask(rules, invitation=invitation, peer="192.0.2.1")
        assert refused.value.status == 429
        assert ("Retry-After", "300") in refused.value.fields
        enrolled(rules, invitation=invitation, peer="192.0.2.2")
        clock.now += 300
        enrolled(rules, invitation=rules.invite("acme"), peer="192.0.2.1")

    def test_good_codes_do_not_count(self, rules: Enrolment) -> None:
        """Many devices of one address can be invited."""
        for _ in range(10):
            enrolled(rules, invitation=rules.invite("acme"), peer="192.0.2.1")

    def test_many_at_once(self, rules: Enrolment) -> None:
        """Tries at once from one address are counted before they are made."""
        wrong = at_once(20, lambda: outcome(rules, invitation="0" * 28, peer="192.0.2.1"))
        assert sorted(wrong) == ["code refused"] * 5 + ["too many codes"] * 15

    @pytest.mark.parametrize("kind", ["known", "unknown", "used"])
    def test_same_work(self, rules: Enrolment, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
        """A wrong secret, an unknown name and a used code cost one hash and one count each."""
        code = rules.invite("acme")
        if kind == "used":
            enrolled(rules, invitation=code)
        if kind != "used":
            code = ("0000-0000-0000" if kind == "unknown" else code[:14]) + "-0000-0000-0000-0000"
        asked: list[str] = []
        for name in ("find_code", "count_try"):
            note(monkeypatch, rules.registry, name, asked)
        note(monkeypatch, CheckQueue, "step", asked)
        assert reason(rules, invitation=code) == "code refused"
        assert asked == ["find_code", "step", "count_try"]

    def test_race(self, rules: Enrolment) -> None:
        """A code that many devices use at once enrols one of them."""
        invitation = rules.invite("acme")
        outcomes = at_once(16, lambda: outcome(rules, invitation=invitation))
        assert sorted(outcomes) == ["code refused"] * 15 + ["enrolled"]
        assert len(rules.registry.keys("acme")) == 1

    @pytest.mark.parametrize("problem", [OverloadedError("full"), StoreUnavailableError("away")])
    def test_nothing_tried(
        self, rules: Enrolment, monkeypatch: pytest.MonkeyPatch, problem: Exception
    ) -> None:
        """A code that could not be checked was not tried."""
        invitation = rules.invite("acme")

        def fail(*arguments: object) -> None:
            raise problem

        with monkeypatch.context() as patch:
            if isinstance(problem, StoreUnavailableError):
                patch.setattr(rules.registry, "find_code", fail)
            else:
                patch.setattr(CheckQueue, "step", fail)
            for _ in range(6):
                with pytest.raises(type(problem)):
                    ask(rules, invitation=invitation, peer="192.0.2.1")
        enrolled(rules, invitation=invitation, peer="192.0.2.1")

    def test_bounded_queue(self, rules: Enrolment, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two hashes run, 64 wait, and who comes then is refused at once."""
        answers, refused = threading.Event(), threading.Semaphore(0)
        running, most = [0], [0]
        lock = threading.Lock()

        def slowly(hashed: str, secret: str) -> None:
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
            assert answers.wait(60)
            with lock:
                running[0] -= 1

        def call() -> str:
            try:
                return outcome(rules, recovery_code="0" * 28)
            except OverloadedError:
                refused.release()
                return "overloaded"

        monkeypatch.setattr(one_time, "check_secret", slowly)
        with ThreadPoolExecutor(70) as pool:
            asked = [pool.submit(call) for _ in range(70)]
            assert all(refused.acquire(timeout=60) for _ in range(4))
            answers.set()
            outcomes = sorted(one.result(60) for one in asked)
        assert outcomes == ["code refused"] * 66 + ["overloaded"] * 4
        assert most[0] <= 2


class TestRecovery:
    def test_one_key_each(self, rules: Enrolment) -> None:
        """Each of the ten codes enrols one key, also once every other key is revoked."""
        done = invited(rules)
        rules.revoke(done.key.thumbprint)
        for code in done.recovery_codes:
            assert enrolled(rules, recovery_code=code).recovery_codes == ()
            assert reason(rules, recovery_code=code) == "code refused"
        assert len(rules.registry.keys("acme")) == 11
        assert story(rules)[-1] == (
            "key recovered",
            f"recovery code {read_code(done.recovery_codes[9]).name}",
        )

    def test_revokes_nothing(self, rules: Enrolment) -> None:
        """Using a recovery code revokes nothing, and the other keys see it for 30 days."""
        done = invited(rules)
        run_blocking(rules.renew_recovery_codes("acme", Asker(done.key.thumbprint)))
        assert run_blocking(rules.overview("acme")).recoveries == []

    def test_shown(self, rules: Enrolment, clock: Clock) -> None:
        """The other keys of the account see which key was recovered, for 30 days."""
        done = invited(rules)
        clock.now += 10
        recovered = enrolled(rules, recovery_code=done.recovery_codes[0]).key
        shown = run_blocking(rules.overview("acme"))
        assert [key.thumbprint for key in shown.keys] == [done.key.thumbprint, recovered.thumbprint]
        assert [key.revoked for key in shown.keys] == [None, None]
        assert (shown.recoveries, shown.recovery_codes_left) == ([recovered], 9)
        clock.now += 30 * DAY + 1
        assert run_blocking(rules.overview("acme")).recoveries == []

    def test_renewed(self, rules: Enrolment) -> None:
        """New codes replace those that are left."""
        done = invited(rules)
        codes = run_blocking(rules.renew_recovery_codes("acme", Asker(done.key.thumbprint)))
        assert len({*codes, *done.recovery_codes}) == 20
        assert reason(rules, recovery_code=done.recovery_codes[0]) == "code refused"
        enrolled(rules, recovery_code=codes[0])
        assert ("recovery codes made", done.key.thumbprint) in story(rules)


class TestRevocation:
    def test_any_key(self, rules: Enrolment) -> None:
        """A key revokes any key of its account, its own too."""
        first, second = invited(rules).key, invited(rules).key
        run_blocking(rules.revoke_one("acme", first.thumbprint, Asker(second.thumbprint)))
        assert [key.revoked for key in rules.registry.keys("acme") if key.thumbprint == first.thumbprint] == [
            NOW
        ]
        assert story(rules)[-1] == ("key revoked", second.thumbprint)

    @pytest.mark.parametrize("whose", ["another account's", "nobody's", "revoked"])
    def test_no_such_key(self, rules: Enrolment, whose: str) -> None:
        """What is not a good key of the account is not revoked."""
        key, target = invited(rules).key, "nobody"
        if whose == "another account's":
            target = invited(rules, "other").key.thumbprint
        if whose == "revoked":
            target = invited(rules).key.thumbprint
            rules.revoke(target)
        with pytest.raises(EnrolmentError) as refused:
            run_blocking(rules.revoke_one("acme", target, Asker(key.thumbprint)))
        assert refused.value.reason == "no such key"

    def test_revoked_meanwhile(self, rules: Enrolment, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of two that revoke a key at once, the second is told that there is no such key."""
        first, second = invited(rules).key, invited(rules).key
        monkeypatch.setattr(rules.registry, "revoke", lambda *arguments, **options: False)
        with pytest.raises(EnrolmentError) as refused:
            run_blocking(rules.revoke_one("acme", first.thumbprint, Asker(second.thumbprint)))
        assert refused.value.reason == "no such key"

    def test_last_key(self, rules: Enrolment) -> None:
        """The last key is revoked only while recovery codes are left."""
        key = rules.add("acme", new_key(), "laptop")
        with pytest.raises(EnrolmentError) as refused:
            run_blocking(rules.revoke_one("acme", key.thumbprint, Asker(key.thumbprint)))
        assert refused.value.reason == "last key"
        (code, *_) = run_blocking(rules.renew_recovery_codes("acme", Asker(key.thumbprint)))
        run_blocking(rules.revoke_one("acme", key.thumbprint, Asker(key.thumbprint)))
        enrolled(rules, recovery_code=code)


class TestBounds:
    def test_keys_of_an_account(self, rules: Enrolment) -> None:
        """An account has 256 keys at most, revoked ones apart; the operator may add more."""
        for number in range(256):
            rules.registry.enrol(
                EnrolledKey(f"{number}", "acme", "{}", "x", NOW), what="key added", by="operator"
            )
        assert reason(rules, invitation=rules.invite("acme")) == "too many keys"
        rules.add("acme", new_key(), "x")
        for number in range(2):
            rules.revoke(f"{number}")
        assert enrolled(rules, invitation=rules.invite("acme"))
        assert reason(rules, invitation=rules.invite("acme")) == "too many keys"

    def test_recovery_codes(self, rules: Enrolment, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        """An account has codes made three times in ten minutes; what failed is not counted."""

        def renew(account: str = "acme") -> Any:
            return run_blocking(rules.renew_recovery_codes(account, Asker(new_key().thumbprint)))

        def fail(*arguments: object) -> None:
            raise OverloadedError("full")

        with monkeypatch.context() as patch:
            patch.setattr(CheckQueue, "step", fail)
            for _ in range(4):
                with pytest.raises(OverloadedError):
                    renew()
        for _ in range(3):
            renew()
        hashed: list[str] = []
        note(monkeypatch, CheckQueue, "step", hashed)
        with pytest.raises(RequestRejectedError) as refused:
            renew()
        assert (refused.value.status, refused.value.reason, hashed) == (429, "too many recovery codes", [])
        assert ("Retry-After", "600") in refused.value.fields
        renew("other")
        clock.now += 600
        renew()

    def test_one_line(self, rules: Enrolment, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever has codes made waits in one line with those who use one."""
        standings: list[tuple[float, bool]] = []
        step = CheckQueue.step

        def noting(queue: CheckQueue, check: Check, gone: Any = None) -> Any:
            standings.append((check.work.effort, check.is_registered))
            return step(queue, check, gone)

        monkeypatch.setattr(CheckQueue, "step", noting)
        key = invited(rules).key
        run_blocking(rules.renew_recovery_codes("acme", Asker(key.thumbprint)))
        assert len({effort for effort, _ in standings}) == 2
        assert {standing for _, standing in standings} == {True}

    def test_one_address(self, rules: Enrolment) -> None:
        """An address proposes four keys for an account in ten minutes, and twenty at all."""
        for _ in range(4):
            waiting(rules, peer="192.0.2.1")
        assert reason(rules, peer="192.0.2.1") == "too many keys"
        waiting(rules, peer="192.0.2.2")
        for number in range(16):
            waiting(rules, f"account{number}", peer="192.0.2.1")
        assert reason(rules, "another", peer="192.0.2.1") == "too many keys"

    def test_asking_again_does_not_count(self, rules: Enrolment) -> None:
        """A device may ask as often as it likes whether it was approved."""
        key = new_key()
        one = waiting(rules, key=key, peer="192.0.2.1")
        for _ in range(30):
            waiting(rules, key=key, peer="192.0.2.1", nonce=one.candidate.nonce)


class TestSecrets:
    def test_reprs(self, rules: Enrolment) -> None:
        """No code and no nonce is in the repr of what holds it."""
        done, one = invited(rules), waiting(rules)
        asked = Enrolling("acme", new_key(), "x", invitation="$I$", recovery_code="$R$", nonce="$N$")
        shown = repr((done, one, asked, Asker("x")))
        assert not any(
            secret in shown for secret in (*done.recovery_codes, one.candidate.nonce, "$I$", "$R$", "$N$")
        )

    def test_kept(self, rules: Enrolment) -> None:
        """Of a code the registry keeps its name and a hash."""
        invitation = rules.invite("acme")
        (kept,) = rules.registry.codes("acme", "invitation")
        assert kept.name == read_code(invitation).name
        assert kept.hash.startswith("$argon2id$")
        assert read_code(invitation).secret not in repr(kept) + kept.hash


def note(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, calls: list[str]) -> None:
    """Note each call of a method."""
    original = getattr(owner, name)

    def noting(*arguments: Any, **options: Any) -> Any:
        calls.append(name)
        return original(*arguments, **options)

    monkeypatch.setattr(owner, name, noting)


def outcome(rules: Enrolment, **asked: Any) -> str:
    """Ask for a key to be enrolled, and give in a word what came of it."""
    try:
        done = ask(rules, **asked)
    except (EnrolmentError, RequestRejectedError) as error:
        return error.reason
    return "enrolled" if isinstance(done, Enrolled) else "waiting"


def at_once(times: int, call: Any) -> list[str]:
    """Call from many threads at once, and give what they answer."""
    answers: list[str] = []
    ready = threading.Barrier(times)

    def run() -> None:
        ready.wait(30)
        answers.append(call())

    threads = [threading.Thread(target=run) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return answers
