"""The queue of checks: who waits for what, in threads and tasks, and what settles every future."""

import itertools
import multiprocessing
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tuned_digest._runtime.drivers import run_anyio
from tuned_digest._runtime.limiter import WorkLimiter, process_limiter
from tuned_digest._runtime.steps import Steps
from tuned_digest.errors import (
    ArgumentError,
    NoThreadError,
    OverloadedError,
    ProofAbandonedError,
    ProofError,
)
from tuned_digest.proof import Job, Tuning, Work
from tuned_digest.server import checks
from tuned_digest.server.checks import Check, Checked, CheckQueue

from .clock import Clock
from .working import BACKENDS, DRIVERS, PATIENCE, Run, blocking, no_more_threads
from .working import Held as HeldWork

WORK = Tuning("argon2d", 1024, 1, 1)
ON_EACH_LOOP = pytest.mark.parametrize("backend", BACKENDS)
UNDER_EACH = pytest.mark.parametrize("run", DRIVERS)


@pytest.fixture(autouse=True)
def limiter(monkeypatch: pytest.MonkeyPatch) -> WorkLimiter:
    """A limiter for each test, with places enough."""
    limiter = WorkLimiter(8)
    monkeypatch.setattr(checks, "process_limiter", lambda: limiter)
    return limiter


@dataclass
class Held:
    """A check that runs until it is let go."""

    started: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def __call__(self) -> None:
        """Run."""
        self.started.set()
        assert self.released.wait(PATIENCE)


def nothing() -> None:
    """Check nothing."""


def check(
    run: Callable[[], None] = nothing,
    identity: str = "a",
    peer: str = "192.0.2.1",
    *,
    registered: bool = False,
    work: Work = WORK,
    **others: Any,
) -> Check:
    """Make a check."""
    return Check(run, work, identity, peer, registered, **others)


@pytest.fixture
def queue() -> CheckQueue:
    """A queue with one place and room for two."""
    return CheckQueue(capacity=2, places=1)


@pytest.fixture
def held(queue: CheckQueue) -> Iterator[Held]:
    """A check that takes the place of the queue."""
    held = Held()
    future = queue.submit(check(held, "somebody"))
    assert held.started.wait(PATIENCE)
    yield held
    held.released.set()
    future.exception(PATIENCE)


class TestQueue:
    @pytest.mark.parametrize("places", [1, 2, 3])
    def test_so_many_are_under_way(self, places: int) -> None:
        """As many checks are under way as there are places, and the next begins when one ends."""
        queue, works = CheckQueue(places=places), [Held() for _ in range(places + 1)]
        futures = [queue.submit(check(work, str(number))) for number, work in enumerate(works)]
        assert (queue.running, queue.waiting) == (places, 1)
        works[0].released.set()
        assert works[-1].started.wait(PATIENCE)
        for work in works:
            work.released.set()
        assert [future.result(PATIENCE) for future in futures] == [None] * len(works)

    def test_by_default_there_is_a_place_for_each_core(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Unless the number of places is given, it is that of the usable cores."""
        monkeypatch.setattr(checks, "usable_cores", lambda: 3)
        queue, works = CheckQueue(), [Held() for _ in range(5)]
        futures = [queue.submit(check(work, str(number))) for number, work in enumerate(works)]
        assert (queue.running, queue.waiting) == (3, 2)
        for work in works:
            work.released.set()
        for future in futures:
            future.result(PATIENCE)

    @pytest.mark.parametrize("error", [ProofError("no"), ValueError("no"), SystemExit(1)])
    def test_what_a_check_raises_is_its_futures(self, queue: CheckQueue, error: BaseException) -> None:
        """An error goes to whoever waits, and the place to the next."""

        def fail() -> None:
            raise error

        failing = queue.submit(check(fail))
        assert failing.exception(PATIENCE) is error
        queue.submit(check()).result(PATIENCE)
        assert (queue.running, queue.waiting) == (0, 0)

    def test_the_registered_and_other_peers_come_first(self, queue: CheckQueue, held: Held) -> None:
        """The order is that of `Turns`: registered ones first, and then one of each peer."""
        queue = CheckQueue(places=1)
        first, story = Held(), list[str]()
        futures = [queue.submit(check(first, "first"))]
        for name, peer in (("a", "::1"), ("b", "::2"), ("c", "192.0.2.7"), ("r", "::ffff:192.0.2.7")):
            one = check(lambda name=name: story.append(name), name, peer, registered=name == "r")  # type: ignore[misc]
            futures.append(queue.submit(one))
        first.released.set()
        for future in futures:
            future.result(PATIENCE)
        assert "".join(story) == "racb"

    def test_who_has_proved_its_work_comes_before_strangers(self) -> None:
        """After a check that held an identity comes before strangers, and after one that failed no more."""
        queue = CheckQueue(places=1)

        def fail() -> None:
            raise ProofError("no")

        def order() -> str:
            first, story = Held(), list[str]()
            futures = [queue.submit(check(first, "first"))]
            for name in "sprs":
                one = check(lambda name=name: story.append(name), name, name, registered=name == "r")  # type: ignore[misc]
                futures.append(queue.submit(one))
            first.released.set()
            for future in futures:
                future.result(PATIENCE)
            return "".join(story)

        queue.submit(check(nothing, "p")).result(PATIENCE)
        assert order() == "rpss"
        failing = CheckQueue(places=1)
        failing.submit(check(nothing, "p")).result(PATIENCE)
        assert isinstance(failing.submit(check(fail, "p")).exception(PATIENCE), ProofError)
        queue = failing
        assert order() == "rsps"

    def test_who_presents_junk_goes_behind_strangers_at_once(self) -> None:
        """With its first wrong hash the checks that an identity has waiting are a stranger's too."""
        queue, story = CheckQueue(places=1), list[str]()

        def fail() -> None:
            story.append("p")
            raise ProofError("no")

        queue.submit(check(nothing, "p")).result(PATIENCE)
        assert queue.has_proved("p")
        held = Held()
        futures = [queue.submit(check(held, "first"))]
        futures += [queue.submit(check(fail, "p", "192.0.2.1")) for _ in range(2)]
        futures.append(queue.submit(check(lambda: story.append("s"), "s", "192.0.2.2")))
        held.released.set()
        for future in futures:
            future.exception(PATIENCE)
        assert story == ["p", "s", "p"]
        assert not queue.has_proved("p")
        assert (queue.running, queue.waiting) == (0, 0)

    def test_few_are_remembered_for_their_work(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of those who have proved their work the latest are remembered."""
        monkeypatch.setattr(checks, "_PROVED", 1)
        queue = CheckQueue(places=1)
        for name in "pq":
            queue.submit(check(nothing, name)).result(PATIENCE)
        held, story = Held(), list[str]()
        futures = [queue.submit(check(held, "first"))]
        for name in "pq":
            one = check(lambda name=name: story.append(name), name, name)  # type: ignore[misc]
            futures.append(queue.submit(one))
        held.released.set()
        for future in futures:
            future.result(PATIENCE)
        assert story == ["q", "p"]

    def test_a_cancelled_check_leaves_the_queue(self, queue: CheckQueue, held: Held) -> None:
        """What is cancelled while it waits is never done, and makes room at once."""
        waiting = [queue.submit(check(pytest.fail, "a")) for _ in range(2)]
        assert [one.cancel() for one in waiting] == [True, True]
        assert (queue.running, queue.waiting) == (1, 0)

    def test_a_check_under_way_keeps_its_place(self, queue: CheckQueue, held: Held) -> None:
        """A running check cannot be cancelled, and the next one waits for its end."""
        running = Held()
        held.released.set()
        future = queue.submit(check(running))
        assert running.started.wait(PATIENCE)
        assert not future.cancel()
        following = queue.submit(check(nothing, "b"))
        assert (queue.running, queue.waiting) == (1, 1)
        running.released.set()
        following.result(PATIENCE)

    def test_a_check_can_be_cancelled_in_the_limiters_hands(
        self, queue: CheckQueue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While other work of the process holds every place, a check whose turn it is can be given up."""
        limiter, other = WorkLimiter(1), Held()
        monkeypatch.setattr(checks, "process_limiter", lambda: limiter)
        running = CheckQueue(places=1).submit(check(other))
        first, second = queue.submit(check(pytest.fail)), queue.submit(check(nothing, "b"))
        assert (queue.running, queue.waiting) == (1, 1)
        assert first.cancel()
        assert (queue.running, queue.waiting) == (1, 0)
        other.released.set()
        running.result(PATIENCE)
        second.result(PATIENCE)

    @pytest.mark.parametrize("busy", [True, False])
    def test_a_check_can_be_cancelled_while_it_is_handed_over(
        self, queue: CheckQueue, held: Held, limiter: WorkLimiter, monkeypatch: pytest.MonkeyPatch, busy: bool
    ) -> None:
        """Given up in the very moment of its turn, a check is not done, and the next one is."""
        given_up = queue.submit(check(pytest.fail))
        following = queue.submit(check(nothing, "b"))
        submit = limiter.submit
        others = [HeldWork() for _ in range(7 + 1)] if busy else []
        for other in others:
            limiter.submit(other.pieces(), WORK, "others")

        def overtaken(*arguments: Any) -> Future[Any]:
            given_up.cancel()
            return submit(*arguments)

        monkeypatch.setattr(limiter, "submit", overtaken)
        held.released.set()
        for other in others:
            other.released.set()
        following.result(PATIENCE)
        assert given_up.cancelled()
        assert (queue.running, queue.waiting) == (0, 0)

    def test_no_thread_is_told(self, queue: CheckQueue) -> None:
        """Where no thread can start, every check says so, however many wait, and later ones are done."""
        queue, first = CheckQueue(capacity=2000, places=1, max_wait=1000), Held()
        running = queue.submit(check(first, "first"))
        futures = [queue.submit(check(nothing, str(number))) for number in range(1000)]
        with no_more_threads():
            first.released.set()
            assert {type(future.exception(PATIENCE)) for future in futures} == {NoThreadError}
        running.result(PATIENCE)
        queue.submit(check()).result(PATIENCE)

    def test_an_interrupt_loses_nothing(
        self, queue: CheckQueue, limiter: WorkLimiter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What Ctrl-C interrupts while a check is handed over settles its future, and frees the place."""

        def interrupted(*arguments: Any) -> Future[Any]:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(limiter, "submit", interrupted)
            with pytest.raises(KeyboardInterrupt):
                queue.submit(check())
        queue.submit(check()).result(PATIENCE)
        assert (queue.running, queue.waiting) == (0, 0)

    @pytest.mark.parametrize(
        "options", [{"capacity": 0}, {"places": 0}, {"max_wait": 0.0}, {"max_wait": float("inf")}]
    )
    def test_numbers_are_positive(self, options: dict[str, Any]) -> None:
        """A queue without room, without a place or without an end is refused."""
        with pytest.raises(ArgumentError, match="positive"):
            CheckQueue(**options)


class TestRefusals:
    def test_a_full_queue_refuses(self, queue: CheckQueue, held: Held) -> None:
        """Where so many wait as may, one more is refused at once."""
        waiting = [queue.submit(check(nothing, "a")) for _ in range(2)]
        assert isinstance(queue.submit(check(nothing, "a")).exception(0), OverloadedError)
        assert not any(one.done() for one in waiting)

    def test_one_that_waits_may_be_refused_for_another(self, queue: CheckQueue, held: Held) -> None:
        """The newest check of whoever holds most is refused for a newcomer's."""
        first, newest = [queue.submit(check(nothing, "a")) for _ in range(2)]
        honest = queue.submit(check(nothing, "b", "192.0.2.2"))
        assert isinstance(newest.exception(0), OverloadedError)
        held.released.set()
        assert (first.result(PATIENCE), honest.result(PATIENCE)) == (None, None)

    def test_retry_after_is_computed(self) -> None:
        """It is the seconds of work that wait and are under way over the places: of a guess at first."""
        queue, works = CheckQueue(capacity=40, places=2), [Held(), Held()]
        assert queue.retry_after == 1
        futures = [queue.submit(check(work, f"held {n}")) for n, work in enumerate(works)]
        futures += [queue.submit(check(nothing, str(n))) for n in range(40)]
        error = queue.submit(check(nothing, "late")).exception(0)
        assert isinstance(error, OverloadedError)
        assert error.retry_after == queue.retry_after == 3  # 42 times 0.1 s, over 2
        for work in works:
            work.released.set()
        for future in futures:
            future.result(PATIENCE)

    def test_seconds_are_measured(self) -> None:
        """After a first check its seconds are known, and those of others by their effort."""
        clock = Clock()
        queue, story = CheckQueue(capacity=4, places=1, max_wait=100, clock=clock), list[float]()

        def takes(seconds: float) -> Callable[[], None]:
            def run() -> None:
                clock.now += seconds

            return run

        def fails() -> None:
            raise ProofError("no")

        def note(work: Work, seconds: float) -> None:
            assert work is WORK
            story.append(seconds)

        for run in (takes(4.0), takes(12.0), fails):
            queue.submit(check(run, on_checked=note)).exception(PATIENCE)
        assert story == [4.0, 12.0, 0.0]
        held = Held()
        future = queue.submit(check(held, work=WORK.scaled(2)))
        assert queue.retry_after == 10  # twice 4 s and an eighth of the 8 s more
        held.released.set()
        future.result(PATIENCE)

    def test_a_check_that_would_wait_too_long_is_refused(self) -> None:
        """However many may wait, no more seconds of work do than `max_wait` over all places."""
        queue, held = CheckQueue(places=1, max_wait=0.3), Held()
        futures = [queue.submit(check(held, "held"))]
        futures += [queue.submit(check(nothing, str(n))) for n in range(5)]
        assert [future.done() for future in futures] == [False] * 4 + [True] * 2
        held.released.set()
        assert [type(one.exception(PATIENCE)) for one in futures[4:]] == [OverloadedError] * 2


def waited(step: Checked) -> Steps[Any]:
    """Wait for one check."""
    return (yield step)


class TestSteps:
    @UNDER_EACH
    def test_a_check_is_waited_for(self, run: Run, queue: CheckQueue) -> None:
        """In a thread and on either loop, the step ends with its check."""
        story: list[str] = []
        assert run(waited(queue.step(check(lambda: story.append("checked"))))) is None
        assert story == ["checked"]

    def test_without_a_thread_a_check_is_done_in_place(self, queue: CheckQueue) -> None:
        """A blocking server's thread does the check itself where no other can start."""
        story: list[int] = []
        with no_more_threads():
            blocking(waited(queue.step(check(lambda: story.append(threading.get_ident())))))
        assert story == [threading.get_ident()]

    @UNDER_EACH
    def test_an_error_passes_through(self, run: Run, queue: CheckQueue) -> None:
        """What the check raises is raised as it is."""

        def fail() -> None:
            raise ProofError("no")

        with pytest.raises(ProofError):
            run(waited(queue.step(check(fail))))

    @ON_EACH_LOOP
    def test_an_error_passes_the_watch(self, backend: str, queue: CheckQueue) -> None:
        """It does so too where the client's leaving is watched for, in no group."""
        held = Held()

        def fail() -> None:
            held()
            raise ProofError("no")

        async def gone() -> None:
            held.released.set()
            await anyio.sleep_forever()

        with pytest.raises(ProofError):
            anyio.run(run_anyio, waited(queue.step(check(fail), gone)), backend=backend)

    @UNDER_EACH
    def test_a_refusal_passes_through(self, run: Run, queue: CheckQueue, held: Held) -> None:
        """A full queue's error is raised at once, with no watch for the client."""
        for _ in range(2):
            queue.submit(check())
        with pytest.raises(OverloadedError):
            run(waited(queue.step(check(), pytest.fail)))

    @UNDER_EACH
    def test_the_wait_has_an_end(self, run: Run) -> None:
        """A check that has no turn in time is refused like one that found the queue full."""
        queue, held, jobs = CheckQueue(places=1, max_wait=0.005), Held(), [Job(), Job()]
        for job in jobs:
            job.stop_with(held.released.set)
        with pytest.raises(OverloadedError) as raised:
            run(waited(queue.step(check(held, job=jobs[0]))))
        assert raised.value.retry_after == 1
        assert held.released.is_set()

    @ON_EACH_LOOP
    @pytest.mark.parametrize("stays", [True, False])
    def test_a_check_that_is_done_ends_the_watch(self, backend: str, queue: CheckQueue, stays: bool) -> None:
        """The answer comes while the client stays, and the wait for its leaving is over."""
        over, held = list[str](), Held()

        async def gone() -> None:
            held.released.set()
            try:
                await anyio.sleep_forever()
            finally:
                over.append("over")

        step = queue.step(check(held if stays else nothing), gone if stays else None)
        assert anyio.run(run_anyio, waited(step), backend=backend) is None
        assert over == ["over"] * stays

    @ON_EACH_LOOP
    def test_a_client_that_goes_takes_its_waiting_check_along(
        self, backend: str, queue: CheckQueue, held: Held
    ) -> None:
        """A check that has not begun when its client goes is never done."""

        async def gone() -> None:
            await anyio.lowlevel.checkpoint()
            assert queue.waiting == 1

        with pytest.raises(ProofAbandonedError):
            anyio.run(run_anyio, waited(queue.step(check(pytest.fail), gone)), backend=backend)
        assert (queue.running, queue.waiting) == (1, 0)

    @ON_EACH_LOOP
    def test_a_client_that_goes_stops_its_running_check(self, backend: str, queue: CheckQueue) -> None:
        """A check under way is told to stop, and gives its place back when it does."""
        held, job = Held(), Job()
        job.stop_with(held.released.set)

        async def gone() -> None:
            await anyio.to_thread.run_sync(held.started.wait, PATIENCE)

        with pytest.raises(ProofAbandonedError):
            anyio.run(run_anyio, waited(queue.step(check(held, job=job), gone)), backend=backend)
        queue.submit(check(nothing, "b")).result(PATIENCE)

    @ON_EACH_LOOP
    def test_an_error_of_the_watch_is_raised(self, backend: str, queue: CheckQueue, held: Held) -> None:
        """What watching for the client raises is raised as it is, and the check is given up."""

        async def gone() -> None:
            raise ConnectionError("no")

        with pytest.raises(ConnectionError):
            anyio.run(run_anyio, waited(queue.step(check(pytest.fail), gone)), backend=backend)
        assert queue.waiting == 0

    @ON_EACH_LOOP
    def test_a_cancelled_task_takes_its_check_along(
        self, backend: str, queue: CheckQueue, held: Held
    ) -> None:
        """When the task is cancelled, its check leaves the queue."""

        async def main() -> None:
            async with anyio.create_task_group() as tasks:

                async def gone() -> None:
                    tasks.cancel_scope.cancel()
                    await anyio.sleep_forever()

                tasks.start_soon(queue.step(check(pytest.fail), gone).awaited)
            assert queue.waiting == 0

        anyio.run(main, backend=backend)


class Model(RuleBasedStateMachine):
    """Checks that are submitted, let go and cancelled in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, limiter = pytest.MonkeyPatch(), WorkLimiter(4)
        self.patch.setattr(checks, "process_limiter", lambda: limiter)
        self.queue = CheckQueue(places=2, capacity=4)
        self.all: list[tuple[str, Held, Future[None]]] = []

    def under_way(self) -> list[tuple[str, Held, Future[None]]]:
        """Give those under way."""
        return [one for one in self.all if one[2].running()]

    @rule(
        identity=st.sampled_from("abcd"), peer=st.sampled_from(["::1", "10.0.0.1"]), registered=st.booleans()
    )
    def submit(self, identity: str, peer: str, registered: bool) -> None:
        """A check comes."""
        held = Held()
        future = self.queue.submit(check(held, identity, peer, registered=registered))
        self.all.append((identity, held, future))

    @precondition(lambda self: self.under_way())
    @rule(data=st.data())
    def let_go(self, data: st.DataObject) -> None:
        """A check ends."""
        _, held, future = data.draw(st.sampled_from(self.under_way()))
        held.released.set()
        assert future.exception(PATIENCE) is None

    @precondition(lambda self: self.all)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """Somebody stops waiting."""
        data.draw(st.sampled_from(self.all))[2].cancel()

    @invariant()
    def bounds_hold(self) -> None:
        """No more run than there are places, none of an identity twice, and no more wait than may."""
        names = [identity for identity, _, future in self.all if future.running()]
        assert len(names) <= 2
        assert len(set(names)) == len(names)
        assert self.queue.waiting <= 4

    def teardown(self) -> None:
        """Every future settles, and the queue is empty then."""
        for _, held, _ in self.all:
            held.released.set()
        for _, _, future in self.all:
            if not future.cancelled():
                assert isinstance(future.exception(PATIENCE), OverloadedError | None)
        assert (self.queue.running, self.queue.waiting) == (0, 0)
        self.patch.undo()


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=25, stateful_step_count=30)


def test_threads_hammer_it() -> None:
    """Submitted, cancelled and waited for from many threads at once, every check settles once."""
    queue = CheckQueue(places=2, capacity=20, max_wait=1000)
    running: list[str] = []
    worst: list[int] = []
    barrier = threading.Barrier(6)
    settled: list[list[Future[None]]] = []

    def run(name: str) -> None:
        assert name not in running
        running.append(name)
        worst.append(len(running))
        running.remove(name)

    def hammer(number: int) -> None:
        choose, futures = random.Random(number), list[Future[None]]()
        barrier.wait(PATIENCE)
        for _ in range(150):
            name, peer = choose.choice("abcdefgh"), f"10.0.0.{choose.randrange(4)}"
            futures.append(
                queue.submit(check(lambda name=name: run(name), name, peer, registered=choose.random() < 0.5))  # type: ignore[misc]
            )
            if choose.random() < 0.3:
                choose.choice(futures).cancel()
        settled.append(futures)

    threads = [threading.Thread(target=hammer, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    for future in itertools.chain(*settled):
        if not future.cancelled():
            assert isinstance(future.exception(PATIENCE), OverloadedError | None)
    assert (queue.running, queue.waiting, len(settled)) == (0, 0, 6)
    assert max(worst) <= 2


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_a_queue_of_its_own(
    queue: CheckQueue, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child forked while the queue is full starts with an empty one."""
    for _ in range(2):
        queue.submit(check())
    fork = multiprocessing.get_context("fork")
    answers = fork.SimpleQueue()

    def serve() -> None:
        monkeypatch.setattr(checks, "process_limiter", process_limiter)
        answers.put((queue.running, queue.waiting, queue.submit(check()).result(PATIENCE)))

    child = fork.Process(target=serve)
    child.start()
    child.join(PATIENCE)
    assert answers.get() == (0, 0, None)
    assert (queue.running, queue.waiting) == (1, 2)
