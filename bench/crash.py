"""Kill workers and stores under load: is a request accepted twice, and how soon is service back."""

import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.redis_servers import NO_PERSISTENCE, RedisServer, eventually
from tests.verifying import signed

from tuned_digest import Ed25519Signer
from tuned_digest._wire.credentials import write_credentials

from .api import MASTER
from .table import held, row, served
from .wire import Answer, Connection

KILLS = 20
CLIENTS = 16
WORKERS = 4
CLAIMED = 2.0  # seconds from the store's first answer to the first request that is accepted
WARM = 100  # requests accepted between two kills, at least
AWAY = (0.05, 0.5)  # seconds for which a store is away
PATIENCE = 8.0  # seconds for an answer; its outcome is unknown then
DEADLINE = 30.0  # seconds for service to be back
PAUSE = 0.02  # seconds before a client that was refused tries again
REPLAYED = 100  # of the latest accepted, of all, and of those whose outcome is unknown: after each kill
FAILOVERS = 150.0  # seconds for failovers
_DOWN_AFTER = 200  # milliseconds after which a sentinel takes a primary for dead
STATELESS = "stateless+"
PERSISTENCES = ("no persistence", "AOF everysec")
LOSSY = "AOF, its end lost"  # kill -9 loses nothing that was written; a machine without power does
AOF = ("--save", "", "--appendonly", "yes", "--appendfsync", "everysec", "--repl-diskless-sync-delay", "0")


@dataclass
class Told:
    """What the answers to one credential say, in all its sends."""

    accepted: int = 0
    decided: float = float("inf")  # when the first answer came that says its nonce is spent or unknown


@dataclass
class Ledger:
    """Count what became of every credential that was ever sent."""

    told: dict[str, Told] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    answers: Counter[int] = field(default_factory=Counter)
    lost: int = 0
    twice: int = 0
    late: int = 0
    without: int = 0
    strays: Counter[str] = field(default_factory=Counter)
    away: float | None = None
    killed: float = 0.0
    back: "asyncio.Future[float] | None" = None

    def note(self, authorization: str, began: float, answer: Answer | None) -> None:
        """Note the answer to one send, None where the connection broke."""
        told = self._find(authorization)
        if answer is None:
            self.lost += 1
            return
        self.answers[answer.status] += 1
        if answer.status == 503 and b"retry-after" not in answer.head.lower():
            self.strays["503 without Retry-After"] += 1
        if answer.status not in (200, 401, 503):
            self.strays[str(answer.status)] += 1
        self._note_away(began, answer)
        if answer.status == 200:
            self._note_accepted(authorization, told, began)
        if answer.status in (200, 401):
            told.decided = min(told.decided, time.perf_counter())

    def _find(self, authorization: str) -> Told:
        if authorization not in self.told:
            self.told[authorization] = Told()
            self.order.append(authorization)
        return self.told[authorization]

    def _note_away(self, began: float, answer: Answer) -> None:
        if self.away is not None and began > self.away:
            self.without += 1
            if answer.status != 503:
                self.strays[f"{answer.status} without a store"] += 1

    def _note_accepted(self, authorization: str, told: Told, began: float) -> None:
        told.accepted += 1
        self.accepted.append(authorization)
        self.twice += told.accepted == 2
        self.late += began > told.decided
        if self.back is not None and not self.back.done() and began > self.killed:
            self.back.set_result(time.perf_counter())

    def open(self) -> list[str]:
        """Give those whose outcome is unknown: the answer was lost, or a 503."""
        return [name for name in self.order if self.told[name].decided == float("inf")]

    def sample(self) -> list[str]:
        """Give those to send again when service is back."""
        latest = self.accepted[-REPLAYED:]
        some = random.sample(self.order, min(REPLAYED, len(self.order)))
        return [*latest, *some, *self.open()[-2 * REPLAYED :]]

    def begin(self) -> None:
        """Expect the first request that is accepted, of those sent from now."""
        self.killed = time.perf_counter()
        self.back = asyncio.get_running_loop().create_future()


class Line:
    """A connection that is made again when it broke."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Connection | None = None

    async def send(self, authorization: str = "", path: str = "/") -> Answer | None:
        """Send a request; None where no answer comes."""
        try:
            async with asyncio.timeout(PATIENCE):
                if self._connection is None:
                    self._connection = await Connection(self._url).__aenter__()
                return await self._connection.send(path, authorization)
        except (OSError, EOFError, TimeoutError):
            await self.close()
            return None

    async def close(self) -> None:
        """Close it, at once."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.__aexit__(None, None, None)


class Load:
    """Clients that chain their requests, and send every one of them twice."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.ledger = Ledger()
        self._lines = [Line(url) for _ in range(CLIENTS)]

    async def chain(self) -> None:
        """Be one client, until cancelled."""
        one, two, signer = Line(self._url), Line(self._url), Ed25519Signer.generate()
        nonce = None
        try:
            while True:
                nonce = nonce or await self._challenge(one)
                if nonce is not None:
                    authorization = write_credentials(signed(*nonce, path="/", signer=signer))
                    nonce = await self._twice(one, two, authorization)
                    await self._send(two, random.choice(self.ledger.order[-1000:]))
                if nonce is None:
                    await asyncio.sleep(PAUSE)
        finally:
            await one.close()
            await two.close()

    async def _challenge(self, line: Line) -> Any:
        answer = await line.send()
        return answer.nonce if answer is not None else None

    async def _twice(self, one: Line, two: Line, authorization: str) -> Any:
        """Send a request over two connections, at once or one after the other; give the next nonce."""
        if random.random() < 0.5:
            answers = await asyncio.gather(*(self._send(line, authorization) for line in (one, two)))
        else:
            answers = [await self._send(line, authorization) for line in (one, two)]
        brought = [answer for answer in answers if answer is not None and answer.nonce is not None]
        return min(brought, key=lambda answer: answer.status).nonce if brought else None

    async def _send(self, line: Line, authorization: str) -> Answer | None:
        began = time.perf_counter()
        answer = await line.send(authorization)
        self.ledger.note(authorization, began, answer)
        return answer

    async def replay(self, authorizations: Sequence[str]) -> None:
        """Send credentials again, over as many connections as there are clients."""
        left = list(authorizations)
        random.shuffle(left)

        async def some(line: Line) -> None:
            while left:
                await self._send(line, left.pop())

        await asyncio.gather(*map(some, self._lines))

    async def warm(self) -> None:
        """Wait until some more are accepted."""
        wanted = len(self.ledger.accepted) + WARM
        end = time.perf_counter() + DEADLINE
        while len(self.ledger.accepted) < wanted:
            assert time.perf_counter() < end, f"no service: {self.ledger.answers}, {self.ledger.lost} lost"
            await asyncio.sleep(PAUSE)

    async def recovered(self, up: float) -> float:
        """Wait until a request is accepted, send old ones again, and give the seconds since `up`."""
        assert self.ledger.back is not None
        try:
            back = await asyncio.wait_for(self.ledger.back, DEADLINE)
        except TimeoutError:
            return float("inf")
        await self.replay(self.ledger.sample())
        return max(0.0, back - up)

    async def pids(self) -> set[int]:
        """Find all worker processes, by asking over new connections."""
        found: set[int] = set()
        async with asyncio.timeout(DEADLINE):
            while len(found) < WORKERS:
                lines = [Line(self._url) for _ in range(WORKERS)]
                for answer in await asyncio.gather(*(line.send(path="/pulse") for line in lines)):
                    found |= {json.loads(answer.body)["pid"]} if answer is not None else set()
                for line in lines:
                    await line.close()
        return found


@asynccontextmanager
async def loaded(url: str) -> AsyncIterator[Load]:
    """Load a server."""
    load = Load(url)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(load.chain()) for _ in range(CLIENTS)]
        yield load
        for task in tasks:
            task.cancel()


Kill = Callable[[Load], Awaitable[float]]
"""Kills something under load, and gives the seconds until service is back."""


async def kill_worker(load: Load) -> float:
    """Kill one worker, as by ``kill -9``; the others serve on."""
    victim = random.choice(sorted(await load.pids()))
    await load.warm()
    os.kill(victim, signal.SIGKILL)
    load.ledger.begin()
    return await load.recovered(load.ledger.killed)


async def kill_server(
    server: RedisServer, lose: Callable[[], Callable[[], None]] | None, load: Load
) -> float:
    """Kill a store's server, and start it again on the same port and the same files.

    Args:
        server: The server.
        lose: Marks what is written from now on as lost; gives what loses it.
        load: The load.

    Returns:
        Seconds from its first answer to the first request accepted.
    """
    await load.warm()
    forget = lose() if lose is not None else None
    if forget is not None:
        await load.warm()
    await asyncio.to_thread(server.kill)
    load.ledger.begin()
    load.ledger.away = load.ledger.killed
    await asyncio.sleep(random.uniform(*AWAY))
    load.ledger.away = None
    if forget is not None:
        forget()
    return await load.recovered(await asyncio.to_thread(_seen, server.start))


def _seen(wait: Callable[[], object]) -> float:
    """Wait for something, and tell when it was: the loop may be busy for a while then."""
    wait()
    return time.perf_counter()


def lose_tail(directory: Path) -> Callable[[], None]:
    """Lose what is written to the log from now on, as a machine does that loses its power."""
    (log,) = directory.glob("appendonlydir/*.incr.aof")
    size = log.stat().st_size
    return lambda: os.truncate(log, size)


def killed(name: str, store: str, kill: Kill, *, kills: int = KILLS, seconds: float = float("inf")) -> None:
    """Kill many times, and print the row."""

    async def run() -> tuple[list[float], Ledger]:
        recoveries: list[float] = []
        end = time.perf_counter() + seconds
        with served("bench.api", str(WORKERS), store) as url:
            async with loaded(url) as load:
                await load.pids()  # uvicorn ends all workers when one cannot start, as without the store
                while len(recoveries) < kills and time.perf_counter() < end:
                    recoveries.append(await kill(load))
                await load.replay(load.ledger.order[-2000:])
                await load.replay(load.ledger.open())
        return recoveries, load.ledger

    recoveries, ledger = asyncio.run(run())
    slowest, faults = max(recoveries), (ledger.twice, ledger.late, sum(ledger.strays.values()))
    row(
        f"{name}: {len(recoveries)} times",
        f"{ledger.twice} twice, {ledger.late} late, back in {slowest:.2f} s",
        f"none, {CLAIMED:.0f} s or less",
        not any(faults) and slowest <= CLAIMED,
    )
    print(
        f"    {len(ledger.order)} credentials, {ledger.answers.total()} answers {dict(ledger.answers)}, "
        f"{ledger.lost} lost; {ledger.without} while the store was away; unexpected: {dict(ledger.strays)}; "
        f"median {sorted(recoveries)[len(recoveries) // 2]:.2f} s",
        flush=True,
    )


class Watched:
    """A primary, its replica, and a sentinel that makes the one that is left the primary."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.primary, self.replica = (RedisServer("redis", directory / name) for name in ("one", "two"))
        self.replica.follow(self.primary)
        settings = directory / "sentinel.conf"
        settings.write_text(
            f"sentinel monitor {MASTER} 127.0.0.1 {self.primary.port} 1\n"
            f"sentinel down-after-milliseconds {MASTER} {_DOWN_AFTER}\n"
            f"sentinel failover-timeout {MASTER} 2000\n"
        )
        self.sentinel = RedisServer("redis", directory / "sentinel", str(settings), "--sentinel")
        for server in (self.primary, self.replica, self.sentinel):
            stack.callback(server.close)
        # Else it looks at replicas every 10 s, and waits 8 s before it demotes a primary that came back.
        self.sentinel.admin.execute_command("SENTINEL", "DEBUG", "info-period", 500, "publish-period", 500)
        eventually(self.is_whole)

    def is_whole(self) -> bool:
        """Tell whether the sentinel knows the primary, and a replica that has all of it."""
        address = self.sentinel.admin.sentinel_get_master_addr_by_name(MASTER)
        replicas = self.sentinel.admin.sentinel_slaves(MASTER)
        return (
            bool(address)
            and address[1] == self.primary.port
            and any(
                replica["port"] == self.replica.port
                and replica["flags"] == "slave"
                and replica["master-link-status"] == "ok"
                for replica in replicas
            )
        )

    def is_promoted(self) -> bool:
        """Tell whether the replica is the primary now."""
        return bool(self.replica.admin.info("replication")["role"] == "master")

    async def kill(self, load: Load) -> float:
        """Kill the primary, its replica some requests behind; it returns as a replica of the new one."""
        await load.warm()
        self.primary.admin.execute_command("ACL", "SETUSER", "default", "-psync", "-sync")
        self.primary.admin.execute_command("CLIENT", "KILL", "TYPE", "replica")
        await load.warm()
        await asyncio.to_thread(self.primary.kill)
        load.ledger.begin()
        load.ledger.away = load.ledger.killed
        await asyncio.sleep(_DOWN_AFTER / 2000)
        load.ledger.away = None
        seconds = await load.recovered(await asyncio.to_thread(_seen, partial(eventually, self.is_promoted)))
        self.primary, self.replica = self.replica, self.primary
        await asyncio.to_thread(self.replica.start)
        await asyncio.to_thread(eventually, self.is_whole)
        return seconds


@contextmanager
def running(program: str, *options: str) -> Iterator[tuple[RedisServer, Path]]:
    """Run a server whose files are on a disk."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        server = RedisServer(program, Path(directory, "server"), *options)
        try:
            yield server, Path(directory, "server")
        finally:
            server.close()


def workers(over: str = "") -> None:
    """Kill workers that share a file."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        killed(f"{_words(over)}SQLite: kill -9 of a worker", f"{over}sqlite:{directory}/nonces", kill_worker)


def servers(program: str, persistence: str, over: str = "") -> None:
    """Kill Redis or Valkey."""
    options = NO_PERSISTENCE if persistence == PERSISTENCES[0] else AOF
    with running(program, *options) as (server, directory):
        lose = partial(lose_tail, directory) if persistence == LOSSY else None
        killed(
            f"{_words(over)}{program.capitalize()}, {persistence}: kill -9",
            f"{over}redis://127.0.0.1:{server.port}",
            partial(kill_server, server, lose),
        )


def failovers(over: str = "") -> None:
    """Kill the primary that a sentinel watches."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory, ExitStack() as stack:
        watched = Watched(Path(directory), stack)
        store = f"{over}sentinel:{watched.sentinel.port}"
        killed(
            f"{_words(over)}Redis, failover by Sentinel to a replica behind",
            store,
            watched.kill,
            seconds=FAILOVERS,
        )


def _words(over: str) -> str:
    return "stateless over " if over else ""


ROWS: dict[str, Callable[[], None]] = {
    "crash workers": workers,
    "crash workers stateless": partial(workers, STATELESS),
    **{f"crash redis {kind}": partial(servers, "redis", kind) for kind in (*PERSISTENCES, LOSSY)},
    **{
        f"crash redis {kind} stateless": partial(servers, "redis", kind, STATELESS)
        for kind in (*PERSISTENCES, LOSSY)
    },
    **{f"crash valkey {kind}": partial(servers, "valkey", kind) for kind in PERSISTENCES},
    "crash failover": failovers,
    "crash failover stateless": partial(failovers, STATELESS),
}


def crash() -> None:
    """Measure all rows."""
    for measure in ROWS.values():
        measure()


def main(arguments: Sequence[str]) -> int:
    """Measure all rows, or those whose name holds an argument."""
    for name, measure in ROWS.items():
        if not arguments or any(argument in name for argument in arguments):
            measure()
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
