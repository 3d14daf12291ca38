"""The rows of a server under attack and under load, on every store."""

import asyncio
import json
import socket
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.redis_servers import RedisServer
from tests.verifying import signed

from tuned_digest import Ed25519Signer, Tuning
from tuned_digest._wire.credentials import write_credentials
from tuned_digest.proof.argon2 import ACCESS_TUNING

from .table import row, served
from .wire import Answer, Caller, Connection

MIB = 2**20
SMALL = "$argon2d$v=19$m=8,t=1,p=1"
ROUNDS = 20
REFUSED = 500


@contextmanager
def shared_stores() -> Iterator[dict[str, Callable[[], str]]]:
    """Start what the stores of several processes need; give each store's name for `bench.api`, empty."""
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as directory,
        closing(RedisServer("redis", Path(directory, "redis"))) as redis,
        closing(RedisServer("valkey", Path(directory, "valkey"))) as valkey,
    ):
        files = (f"sqlite:{directory}/{number}.db" for number in range(1000))
        plain: dict[str, Callable[[], str]] = {
            "SQLite": lambda: next(files),
            "Redis": lambda: f"redis://127.0.0.1:{redis.port}/0",
            "Valkey": lambda: f"redis://127.0.0.1:{valkey.port}/0",
        }
        sealed = {f"stateless over {name}": partial(_sealed, make) for name, make in plain.items()}
        yield plain | sealed


def _sealed(make: Callable[[], str]) -> str:
    return f"stateless+{make()}"


def replay() -> None:
    """One signed request sent 1,000 times at once over 100 connections, to 4 processes, 20 times."""
    with shared_stores() as stores:
        for name, make in stores.items():
            with served("bench.api", "4", make()) as url:
                accepted = asyncio.run(_replayed(url))
            row(
                f"{name}: 1,000 times one request, 4 processes",
                f"accepted {sorted(set(accepted))} in {len(accepted)} rounds",
                "exactly 1",
                set(accepted) == {1},
            )


async def _replayed(url: str) -> list[int]:
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(Connection(url)) for _ in range(100)]
        caller, accepted = Caller(connections[0]), []
        for _ in range(ROUNDS):
            authorization = await caller.authorization()

            async def send(connection: Connection, authorization: str = authorization) -> list[Answer]:
                return [await connection.send("/", authorization) for _ in range(10)]

            answers = await asyncio.gather(*map(send, connections))
            accepted.append(sum(answer.status == 200 for some in answers for answer in some))
        return accepted


def workers() -> None:
    """Requests a second of 16 chained clients, with 1, 2 and 4 processes."""
    with shared_stores() as stores:
        alone: dict[str, Callable[[], str]] = {"memory": lambda: "memory", "stateless": lambda: "stateless"}
        every = alone | stores
        for name, make in every.items():
            rates = []
            for count in (1, 2, 4) if name in stores else (1,):
                with served("bench.api", str(count), make()) as url:
                    rates.append(asyncio.run(_rate(url)))
            measured = " / ".join(f"{rate:.0f}" for rate in rates)
            row(f"{name}: requests a second, 1 / 2 / 4 processes", measured, "reported", True)


async def _rate(url: str, *, seconds: float = 3, clients: int = 16) -> float:
    end = time.perf_counter() + seconds

    async def chain() -> int:
        count = 0
        async with Connection(url) as connection:
            caller = Caller(connection)
            await caller.call()
            while time.perf_counter() < end:
                answer = await caller.call()
                count += answer.status == 200
        return count

    return sum(await asyncio.gather(*(chain() for _ in range(clients)))) / seconds


def flood() -> None:
    """100,000 requests without credentials: what they cost in memory, and what chains suffer."""
    for store in ("stateless", "memory"):
        with served("bench.api", "1", store) as url:
            before, rate, after, broken = asyncio.run(_flooded(url))
            bare = asyncio.run(_anonymous(url, "/bare", 20_000))
        grown = (after["resident"] - before["resident"]) / MIB
        row(
            f"{store} store: resident memory after 100,000 anonymous requests",
            f"{grown:+.1f} MiB",
            "flat (under 2 MiB)" if store == "stateless" else "reported",
            store != "stateless" or grown < 2,
        )
        row(f"{store} store: honest chains broken by them", str(broken), "none", not broken)
        row(
            f"{store} store: anonymous requests a second, to no middleware",
            f"{rate / bare:.2f}",
            "reported",
            True,
        )


async def _flooded(url: str) -> tuple[dict[str, Any], float, dict[str, Any], int]:
    async with Connection(url) as connection:
        caller = Caller(connection)
        await caller.call()
        await _anonymous(url, "/", 5_000)  # what the process takes once is not what the flood costs
        before = await _pulse(connection)
        rate = await _anonymous(url, "/", 100_000)
        broken = sum([(await caller.call()).status != 200 for _ in range(10)])
        return before, rate, await _pulse(connection), broken


async def _anonymous(url: str, path: str, requests: int, *, connections: int = 20) -> float:
    async def send() -> None:
        async with Connection(url) as connection:
            for _ in range(requests // connections):
                await connection.send(path)

    started = time.perf_counter()
    await asyncio.gather(*(send() for _ in range(connections)))
    return requests / (time.perf_counter() - started)


async def _pulse(connection: Connection) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((await connection.send("/pulse")).body)
    return told


def refusals() -> None:
    """CPU of a refused request, to an accepted one at the access tuning."""
    with served("bench.api", "1", "memory", str(ACCESS_TUNING)) as url:
        costs = asyncio.run(_refused(url))
    accepted = costs.pop("accepted")
    for name, cost in costs.items():
        measured = f"{cost * 1e6:.0f} us, 1/{accepted / cost:.0f}"
        row(f"CPU of a refusal: {name}", measured, "1/50 or less", cost <= accepted / 50)


async def _refused(url: str) -> dict[str, float]:
    small, signer = Tuning.parse(SMALL), Ed25519Signer.generate()

    def unknown(**request: Any) -> str:
        return write_credentials(signed("A" * 43, small, signer=signer, **request))

    async with Connection(url) as connection:

        async def cost(authorizations: list[str], status: int, path: str = "/") -> float:
            before = await _pulse(connection)
            for authorization in authorizations:
                answer = await connection.send(path, authorization)
                assert answer.status == status, answer
            return float((await _pulse(connection))["cpu"] - before["cpu"]) / len(authorizations)

        async def challenged(method: str, count: int) -> list[tuple[str, Tuning]]:
            answers = [await connection.send("/", method=method) for _ in range(count)]
            return [answer.nonce for answer in answers if answer.nonce]

        async def accepted() -> float:
            nonces = await challenged("GET", 10)
            return await cost(
                [
                    write_credentials(signed(nonce, tuning, path="/", signer=signer))
                    for nonce, tuning in nonces
                ],
                200,
            )

        async def wrong_action() -> float:
            nonces = await challenged("POST", REFUSED)
            return await cost(
                [write_credentials(signed(nonce, small, path="/", signer=signer)) for nonce, _ in nonces], 401
            )

        return {
            "accepted": await accepted(),
            "bad field": await cost(["tuned-digest-signature identity=A;nonce=;response"] * REFUSED, 400),
            "bad signature": await cost([unknown()[:-6] + "AAAAAA"] * REFUSED, 401),
            "unknown identity": await cost([unknown()] * REFUSED, 401, "/closed"),
            "unknown nonce": await cost([unknown()] * REFUSED, 401),
            "wrong action": await wrong_action(),
        }


def resets() -> None:
    """16 signed requests over a wrong hash, each connection reset at once: what they cost, who waits."""
    with served("bench.api", "1", "memory", str(ACCESS_TUNING)) as url:
        spent, waited, alone = asyncio.run(_reset(url))
    row(
        "16 junk requests, each reset at once: an honest wait, to a check",
        f"{waited:.2f} s, {waited / alone:.1f} checks; {spent:.2f} s of the server's CPU",
        "under 2 checks, and its own",
        waited < 3 * alone,
    )


async def _reset(url: str) -> tuple[float, float, float]:
    async with Connection(url) as connection:
        caller = Caller(connection)
        await caller.call()
        prepared = await caller.authorization()
        started = time.perf_counter()
        assert (await connection.send("/", prepared)).status == 200
        alone = time.perf_counter() - started
        prepared = await Caller(connection).authorization()
        before = await _pulse(connection)
        for _ in range(16):
            await _send_and_reset(url, await _junk(connection))
        started = time.perf_counter()
        assert (await connection.send("/", prepared)).status == 200
        waited = time.perf_counter() - started
        return (await _pulse(connection))["cpu"] - before["cpu"], waited, alone


async def _junk(connection: Connection) -> str:
    """Sign a random hash, under a key of its own: no work, and the server has to compute it to know."""
    nonce, _ = (await connection.send("/")).nonce or ("", None)
    return write_credentials(signed(nonce, Tuning.parse(SMALL), path="/junk", signer=None))


async def _send_and_reset(url: str, authorization: str) -> None:
    address = urlsplit(url)
    with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: {authorization}\r\n\r\n".encode())
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await asyncio.sleep(0)


async def _paced(rate: float, seconds: float, send: Callable[[int], Awaitable[None]]) -> None:
    """Send at a rate, whether earlier ones were answered or not."""
    started = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, started + number / rate - time.perf_counter()))
            tasks.create_task(_awaited(send(number)))


async def _awaited(sending: Awaitable[None]) -> None:
    await sending


def overload() -> None:
    """Four times the rate that can be verified, for 30 s: throughput, memory, the loop, and the refusals."""
    with served("bench.api", "1", "memory", str(ACCESS_TUNING)) as url:
        capacity = asyncio.run(_capacity(url))
        checked, seconds, answers, bare_503, pulse = asyncio.run(_overloaded(url, 4 * capacity))
    ratio = checked / seconds / capacity
    row(
        "overload: checks a second under 4 times the load, to the peak",
        f"{checked / seconds:.1f} of {capacity:.1f}, {ratio:.2f}",
        "0.9 or more",
        ratio >= 0.9,
    )
    row(
        "overload: answers",
        f"{dict(answers)}, {bare_503} without Retry-After",
        "401 and 503 alone",
        not bare_503 and set(answers) <= {401, 503},
    )
    row("overload: peak memory", f"{pulse['peak'] / MIB:.0f} MiB", "reported", True)
    row(
        "overload: the loop's largest stall",
        f"{pulse['stall'] * 1000:.1f} ms",
        "under 30 ms",
        pulse["stall"] < 0.03,
    )


async def _capacity(url: str, *, clients: int = 8, requests: int = 20) -> float:
    """Measure how many checks a second there are when clients wait for their answers."""

    async def send(authorizations: list[str]) -> None:
        async with Connection(url) as connection:
            for authorization in authorizations:
                await connection.send("/", authorization)

    async with Connection(url) as connection:
        prepared = [[await _junk(connection) for _ in range(requests)] for _ in range(clients)]
        started = time.perf_counter()
        await asyncio.gather(*map(send, prepared))
        return clients * requests / (time.perf_counter() - started)


async def _overloaded(
    url: str, rate: float, seconds: float = 30
) -> tuple[int, float, Counter[int], int, dict[str, Any]]:
    """Send what was signed before, each over a connection of its own: the cores are the server's."""
    answers: Counter[int] = Counter()
    bare_503 = 0

    async def send(number: int) -> None:
        nonlocal bare_503
        async with Connection(url) as connection:
            answer = await connection.send("/", prepared[number])
            answers[answer.status] += 1
            bare_503 += answer.status == 503 and b"retry-after" not in answer.head.lower()

    async with Connection(url) as connection:
        prepared = [await _junk(connection) for _ in range(int(rate * seconds))]
        before = await _pulse(connection)
        started = time.perf_counter()
        sending = asyncio.create_task(_paced(rate, seconds, send))
        await asyncio.sleep(seconds)
        after, elapsed = await _pulse(connection), time.perf_counter() - started
        await sending
        return after["checked"] - before["checked"], elapsed, answers, bare_503, after


def junk() -> None:
    """Nine requests in ten are signed over a wrong hash: what honest clients keep of their rate."""
    with served("bench.api", "1", "memory", str(ACCESS_TUNING)) as url:
        alone = asyncio.run(_honest(url, attackers=0))
        one, many = (asyncio.run(_honest(url, attackers=18, addresses=count)) for count in (1, 18))
    row(
        "9 in 10 are junk, from one address: honest rate kept",
        f"{one / alone:.2f}",
        "0.5 or more",
        one >= alone / 2,
    )
    row(
        "9 in 10 are junk, from 18 addresses: honest rate kept",
        f"{many / alone:.2f}",
        "0.5 or more",
        many >= alone / 2,
    )


async def _honest(
    url: str, *, attackers: int, addresses: int = 1, clients: int = 2, requests: int = 20
) -> float:
    """Give the honest clients' requests a second; their work is done before."""
    async with AsyncExitStack() as stack:
        prepared = []
        for number in range(clients):
            connection = await stack.enter_async_context(Connection(url, f"127.0.1.{number + 1}"))
            signer = Ed25519Signer.generate()
            nonces = [(await connection.send("/")).nonce for _ in range(requests)]
            prepared.append((connection, [_solved(nonce, signer) for nonce in nonces if nonce]))
        attacking = [
            asyncio.create_task(_attack(url, f"127.0.2.{number % addresses + 1}"))
            for number in range(attackers)
        ]

        async def send(connection: Connection, authorizations: list[str]) -> None:
            for authorization in authorizations:
                assert (await connection.send("/", authorization)).status == 200

        await asyncio.sleep(1 if attackers else 0)
        started = time.perf_counter()
        await asyncio.gather(*(send(*one) for one in prepared))
        elapsed = time.perf_counter() - started
        for task in attacking:
            task.cancel()
        await asyncio.gather(*attacking, return_exceptions=True)
        return clients * requests / elapsed


def _solved(nonce: tuple[str, Tuning], signer: Ed25519Signer) -> str:
    return write_credentials(signed(*nonce, path="/", signer=signer))


async def _attack(url: str, address: str) -> None:
    async with Connection(url, address) as connection:
        while True:
            await connection.send("/", await _junk(connection))


ROWS: dict[str, Callable[[], None]] = {
    "replay": replay,
    "workers": workers,
    "flood": flood,
    "refusals": refusals,
    "resets": resets,
    "server overload": overload,
    "junk": junk,
}
