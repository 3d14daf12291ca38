"""What an exchange reports: events in order, without secrets, and where nobody listens nothing."""

from collections.abc import Iterator

import pytest

from tuned_digest import SearchCost, Tuning, Work
from tuned_digest.events import (
    ChallengeReceived,
    Event,
    Report,
    RequestSigned,
    WorkFinished,
    WorkProgressed,
    WorkStarted,
)
from tuned_digest.proof import Job, engine, search
from tuned_digest.proof.engines import Portable

from .driving import ACCESS, ORIGIN, Client, fields_of, perform
from .exchanging import ARGON, READ, SEARCH, answered, challenge, next_nonce, rejected, written

BOTH = (ARGON, SEARCH)


@pytest.fixture(autouse=True)
def estimates(monkeypatch: pytest.MonkeyPatch) -> list[Work]:
    """The estimates that were asked for, each of which is 1.5 seconds."""
    asked = list[Work]()

    def estimate(work: Work) -> float:
        asked.append(work)
        return 1.5

    for kind in (Tuning, SearchCost):
        monkeypatch.setattr(kind, "estimate", estimate)
    return asked


def test_events_tell_a_requests_story_without_secrets() -> None:
    """Challenge, work and signature are reported in order, and none shows a nonce or a signature."""
    events: list[Event] = []
    ticks = iter((1.0, 3.5, 10.0, 10.5))
    options = {"schemes": BOTH, "on_event": events.append, "clock": lambda: next(ticks)}
    client = Client(options=options)
    exchange = client.exchange("GET", "/")
    answered(client, exchange, challenge("secret0"), reason="unknown nonce")
    client.cache.remember(ORIGIN, [next_nonce("secret1", SearchCost(2))])
    perform(client.exchange("PUT", "/").authorize(), client.answer)
    assert events == [
        ChallengeReceived(ORIGIN, ARGON, ACCESS, READ, "unknown nonce"),
        WorkStarted(ORIGIN, ACCESS, 1.5, engine()),
        WorkFinished(ORIGIN, ACCESS, 2.5, engine()),
        RequestSigned(ORIGIN, "GET", ARGON, chained=False),
        WorkStarted(ORIGIN, SearchCost(2), 1.5, engine()),
        WorkFinished(ORIGIN, SearchCost(2), 0.5, engine()),
        RequestSigned(ORIGIN, "PUT", SEARCH, chained=True),
    ]
    assert "secret" not in repr(events)


class Slow(Portable):
    """An engine that says how far it is before it has found the number."""

    def search(self, string: bytes, *, bits: int, first: int, end: int, job: Job) -> int | None:
        """Report some numbers, and find the right one."""
        for tried in (256, 32768, 65536, 65792, 131072):
            job.go_on(tried)
        return super().search(string, bits=bits, first=first, end=end, job=Job())


@pytest.mark.parametrize("work", [ACCESS, Tuning("argon2d", 1024, 1, 1), SearchCost(7)], ids=str)
@pytest.mark.parametrize("is_heard", [True, False], ids=["heard", "unheard"])
def test_progress_is_reported_where_somebody_listens(
    work: Work, is_heard: bool, estimates: list[Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search reports every 65,536 tries, a digest nothing, and nothing is estimated for nobody."""
    monkeypatch.setattr(search, "chosen", Slow)
    seen: list[Event] = []
    client = Client(options={"schemes": BOTH, "on_event": seen.append if is_heard else None})
    assert perform(client.exchange("GET", "/").authorize(challenge(work=work)), client.answer)
    progress = [event for event in seen if isinstance(event, WorkProgressed)]
    is_search = isinstance(work, SearchCost)
    assert [event.tried for event in progress] == ([65536, 131072] if is_heard and is_search else [])
    assert {(event.origin, event.work) for event in progress} <= {(ORIGIN, work)}
    started = [event for event in seen if isinstance(event, WorkStarted)]
    assert [(event.work, event.estimate) for event in started] == ([(work, 1.5)] if is_heard else [])
    assert estimates == ([work] if is_heard else [])


def ticking(step: float) -> Iterator[float]:
    """Give the time: so many seconds later with each look."""
    now = 0.0
    while True:
        yield now
        now += step


def test_a_report_adds_up_what_it_took() -> None:
    """Round trips, the last work, the seconds of all work, the reason and the nonces are in the report."""
    ticks = ticking(0.5)
    client = Client(options={"clock": lambda: next(ticks)})
    exchange = client.exchange("GET", "/")
    assert exchange.report == Report()
    perform(exchange.authorize(), client.answer)
    assert answered(client, exchange, challenge("a"))
    assert exchange.report == Report(1, ARGON, ACCESS, 0.5)
    assert answered(client, exchange, challenge("b"), reason="unknown nonce")
    assert exchange.report == Report(2, ARGON, ACCESS, 1.0, "unknown nonce")
    exchange.receive(200, fields_of(written(next_nonce("x"), next_nonce("y"))))
    assert exchange.report == Report(3, ARGON, ACCESS, 1.0, "", 2)


def test_a_report_of_an_unsigned_request_names_no_work() -> None:
    """What was sent without credentials took no work."""
    exchange = Client().exchange("GET", "/")
    assert rejected(exchange, 'Basic realm="x"').challenge is None
    assert exchange.report == Report(1)
