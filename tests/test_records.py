"""What an auth object remembers of each origin: warnings, priming, and answers that were refused."""

import copy
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tuned_digest import Origin, RefusedError
from tuned_digest._client.records import Records
from tuned_digest._runtime import forks

A, B = Origin.parse("https://a"), Origin.parse("https://b")
ALLOWED = 10


def origins(number: int) -> list[Origin]:
    """Name so many origins."""
    return [Origin("https", f"h{n}", 443) for n in range(number)]


def refuse(records: Records, times: int, *, origin: Origin = A, now: float = 0.0, reason: str = "") -> None:
    """Note refused answers."""
    for _ in range(times):
        records.note_answer(origin, now, is_refused=True, reason=reason)


def pause(
    records: Records,
    now: float = 0.0,
    *,
    origin: Origin = A,
    allowed: int | None = ALLOWED,
    left: float | None = None,
) -> float:
    """Find how long an answer has to wait."""
    return records.pause(origin, now, allowed, left)


def test_a_warning_is_logged_once_for_each_origin(caplog: pytest.LogCaptureFixture) -> None:
    """The same message about the same origin is not repeated; another one is logged."""
    records = Records()
    with caplog.at_level(logging.WARNING, "tuned_digest"):
        for _ in range(3):
            records.warn(A, "one thing")
            records.warn(B, "one thing")
            records.warn(A, "another")
    assert caplog.messages == ["https://a: one thing", "https://b: one thing", "https://a: another"]


def test_so_many_warnings_are_remembered_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Beyond 256 warnings nothing more is logged: a server that redirects for ever fills no log."""
    records = Records()
    with caplog.at_level(logging.WARNING, "tuned_digest"):
        for origin in origins(300):
            records.warn(origin, "one thing")
    assert len(caplog.messages) == 256


def test_priming_that_brought_nothing_is_remembered() -> None:
    """An origin that sent no nonce is not worth another try, until it sends one."""
    records = Records()
    assert not records.brings_no_nonce(A)
    records.note_priming(A, is_primed=False)
    assert (records.brings_no_nonce(A), records.brings_no_nonce(B)) == (True, False)
    records.note_priming(A, is_primed=True)
    assert not records.brings_no_nonce(A)


def test_so_many_origins_without_nonces_are_remembered() -> None:
    """Of more than 256 origins that sent no nonce, the others are tried each time."""
    records, known = Records(), origins(257)
    for origin in known:
        records.note_priming(origin, is_primed=False)
    assert [records.brings_no_nonce(origin) for origin in known] == [True] * 256 + [False]
    records.note_priming(known[0], is_primed=True)
    records.note_priming(known[256], is_primed=False)
    assert records.brings_no_nonce(known[256])


def test_pauses_grow() -> None:
    """After the third refusal in a row answers wait 1, 2, 4 and then 8 seconds."""
    records, waits = Records(), []
    for _ in range(ALLOWED):
        waits.append(pause(records))
        refuse(records, 1)
    assert waits == [0, 0, 0, 1, 2, 4, 8, 8, 8, 8]


def test_a_pause_begins_with_the_last_refusal() -> None:
    """What went by since then is not waited for again."""
    records = Records()
    refuse(records, 4, now=100.0)
    assert [pause(records, now) for now in (100.0, 101.5, 101.9, 102.0, 200.0)] == [
        2.0,
        0.5,
        pytest.approx(0.1),
        0.0,
        0.0,
    ]


def test_too_many_refusals_end_it() -> None:
    """After the last refusal allowed nothing is answered for 60 seconds, and the error has its evidence."""
    records = Records()
    refuse(records, ALLOWED, now=100.0, reason="unknown identity")
    message = r"https://a refused 10 answers.*'unknown identity'.*for 20 s.*refusals_allowed"
    with pytest.raises(RefusedError, match=message) as raised:
        pause(records, 140.0)
    error = raised.value
    assert (error.origin, error.refusals, error.reason, error.seconds) == (
        "https://a",
        10,
        "unknown identity",
        20.0,
    )


def test_a_reason_that_was_not_given_is_not_shown() -> None:
    """Where the origin gave no reason the error names none."""
    records = Records()
    refuse(records, 1)
    with pytest.raises(RefusedError) as raised:
        pause(records, allowed=1)
    assert "reason" not in str(raised.value)


def test_after_the_rest_each_answer_is_one_more_try() -> None:
    """When the minute is over one answer is allowed, and its refusal begins another minute."""
    records = Records()
    refuse(records, ALLOWED, now=0.0)
    assert pause(records, 60.0) == 0
    refuse(records, 1, now=60.0)
    with pytest.raises(RefusedError, match="refused 11 answers"):
        pause(records, 119.9)
    assert pause(records, 120.0) == 0


@pytest.mark.parametrize("times", [2, 5, ALLOWED])
def test_an_accepted_answer_ends_the_row(times: int) -> None:
    """After one good answer the origin has a clean record."""
    records = Records()
    refuse(records, times)
    records.note_answer(A, 0.0, is_refused=False)
    refuse(records, 2)
    assert pause(records) == 0


def test_each_origin_has_a_row_of_its_own() -> None:
    """What one origin refuses, and what another accepts, is no matter of the other's."""
    records = Records()
    refuse(records, 4)
    records.note_answer(B, 0.0, is_refused=False)
    assert (pause(records), pause(records, origin=B)) == (2, 0)


def test_without_a_limit_there_is_no_pause() -> None:
    """Where any number of refusals is allowed, no answer waits."""
    records = Records()
    refuse(records, 100)
    assert pause(records, allowed=None) == 0


@pytest.mark.parametrize(("left", "waits"), [(None, True), (2.0, True), (1.9, False), (0.0, False)])
def test_a_pause_is_no_longer_than_the_call_may_take(left: float | None, waits: bool) -> None:
    """A wait that the call has no time for is not begun; the error says how long it would be."""
    records = Records()
    refuse(records, 4)
    if waits:
        assert pause(records, left=left) == 2.0
    else:
        with pytest.raises(RefusedError) as raised:
            pause(records, left=left)
        assert raised.value.seconds == 2.0


def test_a_call_without_time_may_answer_where_there_is_no_pause() -> None:
    """A budget that is spent is no business of the pauses."""
    records = Records()
    refuse(records, 2)
    assert pause(records, left=0.0) == 0


def test_refusals_are_remembered_up_to_a_bound() -> None:
    """Of more than 256 origins that refuse answers the first are forgotten."""
    records, known = Records(), origins(257)
    for origin in known:
        refuse(records, 4, origin=origin)
    assert [pause(records, origin=origin) for origin in known] == [0, *[2.0] * 256]


def test_threads_count_together() -> None:
    """Refusals noted by many threads at once are all counted."""
    records, together = Records(), threading.Barrier(8)

    def note(number: int) -> None:
        together.wait(60)
        refuse(records, 50)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(note, range(8)))
    with pytest.raises(RefusedError) as raised:
        pause(records)
    assert raised.value.refusals == 400


def test_a_copy_starts_without_records() -> None:
    """What a deep copy of an auth object meets is its own."""
    records = Records()
    refuse(records, 4)
    records.note_priming(A, is_primed=False)
    copied = copy.deepcopy(records)
    assert (pause(copied), copied.brings_no_nonce(A)) == (0, False)
    refuse(copied, 1)
    assert pause(records) == 2


class Slow(Origin):
    """An origin at which one thread stays while it looks for it."""

    arrived, go_on = threading.Event(), threading.Event()

    def __hash__(self) -> int:
        if threading.current_thread().name == "slow":
            self.arrived.set()
            assert self.go_on.wait(60)
        return super().__hash__()


def test_a_forked_child_does_not_wait_for_its_parents_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another thread noted something at the fork, the child goes on, and knows what its parent knew."""
    records, slow = Records(), Slow("https", "slow", 443)
    refuse(records, 4)
    holder = threading.Thread(target=refuse, args=(records, 1), kwargs={"origin": slow}, name="slow")
    holder.start()
    assert slow.arrived.wait(60)
    monkeypatch.setattr(forks, "generation", lambda: -1)
    waits: list[float] = []
    child = threading.Thread(target=lambda: waits.append(pause(records)), daemon=True)
    child.start()
    child.join(20)
    slow.go_on.set()
    holder.join(60)
    assert waits == [2.0]
