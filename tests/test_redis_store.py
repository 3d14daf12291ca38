"""The stores on real Redis and Valkey servers: runs, crashes, failovers, clusters, and what is refused."""

import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis
import redis.asyncio
from anyio import wait_all_tasks_blocked
from anyio.from_thread import start_blocking_portal
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from tuned_digest import ArgumentError, MissingExtraError
from tuned_digest.errors import StoreUnavailableError
from tuned_digest.server import Grant
from tuned_digest.server.stores import redis as redis_store
from tuned_digest.server.stores.redis import AsyncRedisNonceStore, RedisNonceStore

from .redis_servers import PROGRAMS, TIMEOUT, Launch, RedisServer, eventually, free_port
from .test_every_store import CHALLENGE, CREATE, NEXT, Called

KINDS = ("sync", "async")
SLOTS = 16384
MASTER = "mymaster"  # what the sentinel calls the server it watches

AOF = ("--save", "", "--appendonly", "yes", "--appendfsync", "everysec")


@contextmanager
def opened(kind: str, make: Callable[[Any, Any], Any], **settings: Any) -> Iterator[Called]:
    """Make a store of either kind on a client, which is made of the module and the options it is given."""
    if kind == "sync":
        client = make(redis, {"socket_timeout": TIMEOUT, "retry": Retry(NoBackoff(), 1)})
        try:
            yield Called(RedisNonceStore(client, **settings), lambda: None)
        finally:
            client.close()
        return
    with start_blocking_portal() as portal:

        async def made() -> Any:
            return make(redis.asyncio, {"socket_timeout": TIMEOUT, "retry": AsyncRetry(NoBackoff(), 1)})

        client = portal.call(made)
        try:
            yield Called(AsyncRedisNonceStore(client, **settings), portal.call)
        finally:
            portal.call(_closed, client)


async def _closed(client: Any) -> None:
    """Close a client, and those of its sentinels."""
    await client.aclose()
    pool: Any = getattr(client, "connection_pool", None)
    for sentinel in pool.sentinel_manager.sentinels if hasattr(pool, "sentinel_manager") else ():
        await sentinel.aclose()
    await wait_all_tasks_blocked()  # a turn of the loop later the sockets are closed


def opened_at(kind: str, server: RedisServer, **settings: Any) -> AbstractContextManager[Called]:
    """Make a store of either kind on one server."""
    return opened(kind, lambda module, options: module.Redis(port=server.port, **options), **settings)


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> str:
    """One program after the other."""
    return str(request.param)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """One kind of store after the other."""
    return str(request.param)


@pytest.fixture
def server(request: pytest.FixtureRequest, program: str) -> Iterator[RedisServer]:
    """The server of this program that tests share, empty, and set back afterwards."""
    server: RedisServer = request.getfixturevalue(f"{program}_server")
    server.admin.flushall()
    yield server
    server.admin.client_unpause()
    server.admin.config_set("maxmemory", 0)
    server.admin.config_set("maxmemory-policy", "noeviction")


@pytest.fixture
def store(kind: str, server: RedisServer) -> Iterator[Called]:
    """A store of this kind on that server."""
    with opened_at(kind, server) as store:
        yield store


def issued(store: Called) -> str:
    """Issue a next nonce."""
    nonce: str
    (nonce,) = store.issue(NEXT)
    return nonce


def asks(store: Called, nonce: str) -> list[Callable[[], object]]:
    """Give what a store can be asked for."""
    return [lambda: store.issue(NEXT), lambda: store.take(nonce), lambda: store.spend("b", 60)]


def serves(store: Called) -> bool:
    """Find out whether a nonce is issued and taken, which may be refused."""
    return bool(store.take(issued(store)) == NEXT)


# What is kept, for how long, and what it takes.


def test_nonces_of_a_response_share_a_slot(store: Called, server: RedisServer) -> None:
    """Nonces of one call begin alike, 24 random bytes and more are their own, and calls spread over slots."""
    nonces = [store.issue(NEXT, CREATE) for _ in range(20)]
    assert all(one[:4] == two[:4] and one[4:] != two[4:] for one, two in nonces)
    slots = [key_slot(key) for key in server.admin.scan_iter()]
    assert len(slots) == 40
    assert 10 < len(set(slots)) <= 20


@pytest.mark.parametrize(("grant", "seconds"), [(NEXT, 86400), (CHALLENGE, 300)])
def test_a_nonce_goes_stale_in_the_server(
    store: Called, server: RedisServer, grant: Grant, seconds: int
) -> None:
    """A next nonce is kept for 24 hours, a challenge's for five minutes."""
    store.issue(grant)
    (key,) = server.admin.keys()
    assert seconds - 10 < server.admin.pttl(key) / 1000 <= seconds


def test_a_stale_nonce_is_unknown(kind: str, server: RedisServer) -> None:
    """A nonce is gone when its lifetime is over."""
    with opened_at(kind, server, lifetime=0.0001) as store:
        store.start()
        nonce = issued(store)
        eventually(lambda: not server.admin.exists(*(server.admin.keys() or ["none"])))
        assert store.take(nonce) is None


def test_a_spent_name_is_kept_for_as_long_as_is_said(store: Called, server: RedisServer) -> None:
    """A name is remembered for the seconds given, and forgotten then."""
    store.spend("a", 60)
    assert 50_000 < server.admin.pttl("{tuned-digest}:a") <= 60_000
    assert store.spend("b", 0) is not None
    eventually(lambda: not server.admin.exists("{tuned-digest}:b"))
    assert store.spend("b", 60) is not None


def test_an_emptied_server_begins_another_epoch(store: Called, server: RedisServer) -> None:
    """Whoever empties the server does not make spent names good again under their epoch."""
    epoch = store.spend("a", 60)
    server.admin.flushall()
    assert store.spend("a", 60) not in (epoch, None)


def test_a_request_takes_two_operations(store: Called, server: RedisServer) -> None:
    """Taking a nonce is one command and one round trip, and issuing all of a response's is another."""
    one, _ = store.issue(NEXT, CREATE)
    server.admin.config_resetstat()
    assert store.take(one) == NEXT
    store.issue(NEXT, CREATE)
    commands = server.admin.info("commandstats")
    inside = ("cmdstat_info", "cmdstat_getdel", "cmdstat_set", "cmdstat_config")
    sent = {name: stats["calls"] for name, stats in commands.items() if not name.startswith(inside)}
    assert sent == {"cmdstat_evalsha": 2}


def test_a_nonce_of_another_form_is_not_asked_for(store: Called, server: RedisServer) -> None:
    """What cannot be a nonce of this store is unknown, without asking the server."""
    store.start()
    server.admin.config_resetstat()
    for nonce in ("", "A" * 42, "A" * 44, "A" * 512, "é" * 43, "A" * 42 + "\n", "}" * 43, "A" * 43 + "\n"):
        assert store.take(nonce) is None
    assert "cmdstat_evalsha" not in server.admin.info("commandstats")


def test_namespaces_know_nothing_of_each_other(kind: str, server: RedisServer) -> None:
    """A nonce is good, and a name spent, in its own namespace alone."""
    with opened_at(kind, server, namespace="a") as one, opened_at(kind, server, namespace="b") as two:
        nonce = issued(one)
        assert two.take(nonce) is None
        assert one.take(nonce) == NEXT
        assert one.spend("x", 60)
        assert two.spend("x", 60)


def test_a_client_that_decodes_answers_serves_as_well(kind: str, server: RedisServer) -> None:
    """An application's own client, with ``decode_responses=True``, can be shared."""
    with opened(
        kind,
        lambda module, options: module.Redis(port=server.port, decode_responses=True, **options),
    ) as store:
        assert serves(store)
        assert store.spend("a", 60)


@pytest.mark.parametrize("kept", [b"", b"AQ", b"\xff*"])
def test_what_another_version_kept_is_unknown(store: Called, server: RedisServer, kept: bytes) -> None:
    """A grant that cannot be read is none."""
    nonce = issued(store)
    (key,) = server.admin.keys()
    server.admin.setrange(key, 16, b"*" * 8)
    server.admin.set(key, server.admin.get(key)[:16] + kept)
    assert store.take(nonce) is None


def test_a_server_that_forgot_its_scripts_is_sent_them(store: Called, server: RedisServer) -> None:
    """A script is sent again when the server does not know it, within the same call."""
    nonce = issued(store)
    server.admin.script_flush()
    assert store.take(nonce) == NEXT


# Servers that lose their latest writes.


@pytest.mark.parametrize("persistence", ["none", "aof", "snapshot"])
def test_no_nonce_is_taken_twice_over_a_crash(
    program: str, kind: str, persistence: str, launch: Launch
) -> None:
    """A killed server brings nonces back, or does not: none of them is good in its next run."""
    server = launch(program, *(AOF if persistence == "aof" else ()))
    with opened_at(kind, server) as store:
        nonces = [nonce for _ in range(100) for nonce in store.issue(NEXT, CREATE)]
        epoch = store.spend("a", 600)
        if persistence == "snapshot":
            server.admin.save()
        assert store.take(nonces[0]) == NEXT
        taken, half = threading.Semaphore(0), len(nonces) // 2

        def take(nonce: str) -> object:
            try:
                return store.take(nonce)
            except StoreUnavailableError as error:
                return error
            finally:
                taken.release()

        with ThreadPoolExecutor(4) as threads:
            outcomes = [threads.submit(take, nonce) for nonce in nonces[1:]]
            for _ in range(half):
                taken.acquire()
            server.kill()
        first = [outcome.result() for outcome in outcomes]
        assert sum(isinstance(outcome, Grant) for outcome in first) >= half
        for ask in asks(store, nonces[0]):
            with pytest.raises(StoreUnavailableError, match="Redis cannot be used"):
                ask()
        server.start()
        assert server.admin.dbsize() == {"none": 0, "snapshot": 202}.get(persistence, server.admin.dbsize())
        assert [nonce for nonce in nonces if store.take(nonce) is not None] == []
        assert store.spend("b", 60) != epoch
        assert serves(store)


def test_a_replica_that_takes_over_knows_no_earlier_nonce(program: str, kind: str, launch: Launch) -> None:
    """A nonce taken from a primary, unknown to its replica, is not good there; nor is the primary's epoch."""
    primary, replica = launch(program), launch(program)
    replica.follow(primary)
    with opened_at(kind, primary) as old, opened_at(kind, replica) as new:
        one, two = old.issue(NEXT, NEXT)
        epoch = old.spend("a", 60)
        replica.caught_up(primary)
        with pytest.raises(StoreUnavailableError, match=r"(?i)read only replica"):
            new.take(one)
        replica.promote()  # before it has heard of the next line
        assert old.take(one) == NEXT
        assert replica.admin.dbsize() == 4
        assert [new.take(one), new.take(two)] == [None, None]
        assert old.take(two) == NEXT
        assert new.spend("b", 60) not in (epoch, None)
        assert serves(new)


def test_a_primary_that_was_a_replica_meanwhile_knows_no_earlier_nonce(
    program: str, kind: str, launch: Launch
) -> None:
    """A primary keeps its run id while it is demoted and promoted again, and its old nonces are unknown."""
    primary, other = launch(program), launch(program)
    other.follow(primary)
    with opened_at(kind, primary) as store:
        nonce = issued(store)
        epoch = store.spend("a", 60)
        other.caught_up(primary)
        other.promote()
        assert store.take(nonce) == NEXT
        run = primary.admin.info("server")["run_id"]
        primary.follow(other)
        primary.promote()
        assert primary.admin.info("server")["run_id"] == run
        assert primary.admin.dbsize() == 3  # it is back
        assert store.take(nonce) is None
        assert store.spend("b", 60) not in (epoch, None)
        assert serves(store)


def test_a_sentinel_s_failover_is_followed(program: str, launch: Launch, tmp_path: Path) -> None:
    """Stores behind a sentinel fail closed while there is no primary, and serve at the next one."""
    primary, replica = launch(program), launch(program)
    replica.follow(primary)
    settings = tmp_path / "sentinel.conf"
    settings.write_text(
        f"sentinel monitor {MASTER} 127.0.0.1 {primary.port} 1\n"
        f"sentinel down-after-milliseconds {MASTER} 200\n"
        f"sentinel failover-timeout {MASTER} 2000\n"
    )
    sentinel = launch(program, str(settings), "--sentinel")
    eventually(lambda: _is_known(sentinel))

    def behind(module: Any, options: Any) -> Any:
        return module.Sentinel([("127.0.0.1", sentinel.port)], **options).master_for(MASTER, **options)

    with opened("sync", behind) as one, opened("async", behind) as two:
        nonces = [(store, issued(store), issued(store)) for store in (one, two)]
        replica.caught_up(primary)
        for store, taken, _ in nonces:
            assert store.take(taken) == NEXT
        replica.caught_up(primary)
        assert replica.admin.dbsize() == len(nonces)
        primary.kill()
        for store, _, kept in nonces:
            with pytest.raises(StoreUnavailableError):
                store.take(kept)
        for store, *issued_before in nonces:
            assert eventually(lambda store=store: serves(store))  # type: ignore[misc]
            assert [store.take(nonce) for nonce in issued_before] == [None, None]


def _is_known(sentinel: RedisServer) -> bool:
    replicas = sentinel.admin.sentinel_slaves(MASTER)
    return any(replica["flags"] == "slave" and replica["master-link-status"] == "ok" for replica in replicas)


# A cluster.


def test_a_cluster_serves(program: str, launch: Launch) -> None:
    """Nonces spread over all primaries; while one is missing a store fails closed, and serves again after."""
    nodes = clustered(program, launch)

    def client(module: Any, options: Any) -> Any:
        return module.RedisCluster(host="127.0.0.1", port=nodes[0].port, **options)

    with opened("sync", client) as one, opened("async", client) as two:
        for store in (one, two):
            store.start()
            nonces = [store.issue(NEXT, CREATE) for _ in range(30)]
            assert all(node.admin.dbsize() > 0 for node in nodes)
            assert [store.take(nonce) for pair in nonces for nonce in pair] == [NEXT, CREATE] * 30
            assert {store.take(nonce) for pair in nonces for nonce in pair} == {None}
            epochs = {store.spend(f"{id(store)} {number}", 60) for number in range(10)}
            assert len(epochs) == 1
            assert epochs != {None}
            nodes[2].admin.config_set("maxmemory-policy", "volatile-ttl")
            with pytest.raises(ArgumentError, match="maxmemory-policy volatile-ttl"):
                store.start()
            nodes[2].admin.config_set("maxmemory-policy", "noeviction")
        nodes[2].kill()
        for store in (one, two):
            eventually(lambda store=store: _is_refused(store))  # type: ignore[misc]
        nodes[2].start()
        for store in (one, two):
            for _ in range(30):
                assert eventually(lambda store=store: serves(store))  # type: ignore[misc]


def clustered(program: str, launch: Launch) -> list[RedisServer]:
    """Start three primaries that share all slots out."""
    buses = [free_port() for _ in range(3)]
    options = ("--save", "", "--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port")
    nodes = [launch(program, *options, str(bus)) for bus in buses]
    for number, node in enumerate(nodes):
        first, last = SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1
        node.admin.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
        node.admin.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port, buses[0])
    for node in nodes:
        eventually(lambda node=node: _is_whole(node))  # type: ignore[misc]
    return nodes


def _is_whole(node: RedisServer) -> bool:
    state = node.admin.execute_command("CLUSTER INFO")
    return bool(state["cluster_state"] == "ok" and state["cluster_known_nodes"] == "3")


def _is_refused(store: Called) -> bool:
    try:
        issued(store)
    except StoreUnavailableError:
        return True
    return False


# What is refused.


def test_a_server_that_evicts_is_refused(store: Called, server: RedisServer) -> None:
    """At the start and at the first use it is an error when the server may drop keys, and serves once set."""
    server.admin.config_set("maxmemory-policy", "allkeys-lru")
    for ask in [store.start, *asks(store, "A" * 43)]:
        with pytest.raises(ArgumentError, match="set maxmemory-policy noeviction, in"):
            ask()
    server.admin.config_set("maxmemory-policy", "noeviction")
    assert serves(store)


def test_a_server_is_checked_once(store: Called, server: RedisServer) -> None:
    """The first use in a process checks the server, and no other does."""
    assert serves(store)
    server.admin.config_resetstat()
    assert serves(store)
    assert server.admin.info("commandstats")["cmdstat_evalsha"]["calls"] == 2
    store.start()
    assert server.admin.info("commandstats")["cmdstat_evalsha"]["calls"] == 4


@pytest.mark.parametrize("version", ["6.0.16", "5.0.14"])
def test_a_server_without_getdel_is_refused(version: str) -> None:
    """A server older than Redis 6.2 is an error that says so."""

    class Old(redis.Redis):
        def info(self, *arguments: Any, **options: Any) -> Any:
            return {"redis_version": version, "maxmemory_policy": "noeviction"}

    with Old(socket_timeout=1) as client, pytest.raises(ArgumentError, match=f"too old: {version}"):
        RedisNonceStore(client).start()


def test_a_full_server_is_unavailable(store: Called, server: RedisServer) -> None:
    """A server without room issues nothing and drops nothing, and what was issued is still taken."""
    nonce = issued(store)
    issue, _, spend = asks(store, nonce)
    server.admin.config_set("maxmemory", 1)
    for ask in (issue, spend):
        with pytest.raises(StoreUnavailableError, match="maxmemory"):
            ask()
    assert store.take(nonce) == NEXT
    server.admin.config_set("maxmemory", 0)
    assert serves(store)


def test_a_server_that_hangs_is_unavailable(kind: str, server: RedisServer) -> None:
    """A server that does not answer is given up; a nonce that it was asked for is taken once at most."""

    def client(module: Any, options: Any) -> Any:
        return module.Redis(port=server.port, **{**options, "socket_timeout": 0.2})

    with opened(kind, client) as store:
        nonce = issued(store)
        server.admin.execute_command("CLIENT", "PAUSE", 60_000, "WRITE")
        for ask in asks(store, nonce):
            with pytest.raises(StoreUnavailableError):
                ask()
        server.admin.client_unpause()
        assert eventually(lambda: serves(store))
        assert sum(store.take(nonce) is not None for _ in range(3)) <= 1


def test_a_server_that_is_not_there_is_unavailable(kind: str) -> None:
    """A connection refused at the start is the store's own error."""
    port = free_port()
    with opened(kind, lambda module, options: module.Redis(port=port, **options)) as store:
        with pytest.raises(StoreUnavailableError) as caught:
            store.start()
        assert isinstance(caught.value.__cause__, redis.ConnectionError)


def test_a_user_without_the_right_to_run_scripts_is_found_at_the_start(
    kind: str, server: RedisServer
) -> None:
    """What the server's access rules forbid is found at the start, and the documented ones suffice."""
    commands = ["+evalsha", "+eval", "+info", "+set", "+get", "+getdel"]
    server.admin.execute_command("ACL", "SETUSER", "u", "on", ">p", "~*ns*", *commands, "-eval", "-evalsha")
    server.admin.script_flush()

    def client(module: Any, options: Any) -> Any:
        return module.Redis(port=server.port, username="u", password="p", **options)

    with opened(kind, client, namespace="ns") as store:
        with pytest.raises(StoreUnavailableError, match=r"(?i)no permissions"):
            store.start()
        server.admin.execute_command("ACL", "SETUSER", "u", "+eval", "+evalsha")
        assert serves(store)
        assert store.spend("a", 60)
    server.admin.acl_deluser("u")


@pytest.mark.parametrize(
    ("store", "client", "message"),
    [
        (RedisNonceStore, redis.asyncio.Redis(), r"redis.client.Redis or redis.cluster.RedisCluster"),
        (AsyncRedisNonceStore, redis.Redis(), r"redis.asyncio.client.Redis or "),
        (RedisNonceStore, redis.Redis, "is an object of"),
        (RedisNonceStore, redis.Redis(socket_timeout=None), "socket_timeout=1"),
        (AsyncRedisNonceStore, redis.asyncio.Redis(socket_timeout=None), "socket_timeout=1"),
        (AsyncRedisNonceStore, redis.asyncio.RedisCluster(host="x", socket_timeout=None), "socket_timeout=1"),
    ],
)
def test_a_client_that_will_not_do_is_refused(store: Any, client: Any, message: str) -> None:
    """A client of the other kind, a class, and a client that may wait for ever are errors at once."""
    with pytest.raises(ArgumentError, match=message):
        store(client)


def test_a_client_from_a_url_is_accepted() -> None:
    """Where the redis package has a timeout of its own, a client need not be given one."""
    connection: Any = redis.Redis().connection_pool.make_connection()
    has_timeout = connection.socket_timeout is not None
    client = redis.Redis.from_url("redis://127.0.0.1")
    if has_timeout:
        RedisNonceStore(client)
    else:
        with pytest.raises(ArgumentError):
            RedisNonceStore(client)


@pytest.mark.parametrize("namespace", ["", "a b", "{a}", "é", "a" * 65, "a\n"])
def test_a_namespace_that_will_not_do_is_refused(namespace: str) -> None:
    """A namespace is a short printable string without what steers slots."""
    with pytest.raises(ArgumentError, match="a namespace has"):
        RedisNonceStore(redis.Redis(socket_timeout=1), namespace=namespace)


@pytest.mark.parametrize("seconds", [0, -1, 10**9, float("inf"), float("nan")])
@pytest.mark.parametrize("name", ["lifetime", "challenge_lifetime"])
def test_a_lifetime_that_will_not_do_is_refused(name: str, seconds: float) -> None:
    """A lifetime is positive and finite."""
    with pytest.raises(ArgumentError, match="lifetimes are"):
        RedisNonceStore(redis.Redis(socket_timeout=1), **{name: seconds})  # type: ignore[arg-type]


def test_without_the_redis_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing the module where redis is not installed says what to install."""
    module = "tuned_digest.server.stores.redis"
    monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(MissingExtraError, match=r"tuned-digest\[redis\]") as caught:
        importlib.import_module(module)
    assert caught.value.extra == "redis"


def test_more_calls_than_connections_wait_for_one(redis_server: RedisServer) -> None:
    """A burst that is larger than the client's pool is served, a few at a time."""

    async def burst() -> int:
        async with redis.asyncio.Redis(
            port=redis_server.port, socket_timeout=TIMEOUT, max_connections=2
        ) as client:
            store, issued = AsyncRedisNonceStore(client, namespace="burst"), list[str]()

            async def issue() -> None:
                issued.extend(await store.issue(NEXT))

            async with anyio.create_task_group() as tasks:
                for _ in range(50):
                    tasks.start_soon(issue)
            return len(set(issued))

    assert anyio.run(burst) == 50


def test_a_call_waits_so_long_for_a_connection(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that gets no connection in time is refused, as when the server hangs."""
    monkeypatch.setattr(redis_store, "_PATIENCE", 0.01)

    async def late() -> None:
        async with redis.asyncio.Redis(port=redis_server.port, socket_timeout=TIMEOUT) as client:
            store = AsyncRedisNonceStore(client, namespace="late")
            await store.start()
            await store.issue(NEXT)
            assert store._places is not None
            for _ in range(redis_store._AT_ONCE):
                await store._places.acquire()
            await store.take("A" * 43)

    with pytest.raises(StoreUnavailableError, match="no place at the nonce store was free"):
        anyio.run(late)
