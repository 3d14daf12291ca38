"""What the Redis stores run inside the server: scripts, each one step to everybody else.

A server that loses its latest writes, at a restart or when a replica takes over, brings back what was taken.
So what is kept begins with the mark of the run that kept it, and is good in that run alone. The script that
uses a key reads the mark as well: whatever connection of a pool it comes by, and whatever the server was a
moment before. Whether a write has reached a replica (``WAIT``) is not asked.
"""

from __future__ import annotations

__all__ = ["ISSUE", "SPEND", "TAKE", "Script", "asked", "evaluated"]

import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import NoScriptError, RedisClusterException, RedisError

from ..._runtime.steps import Here, Steps
from ...errors import StoreUnavailableError

_FAILURES = (RedisError, RedisClusterException, OSError)  # the second is not one of the first

# run_id is another one after each start. A primary that is demoted, and promoted again, keeps it, and what it
# holds then comes from the primary in between; but master_replid is another one after each promotion
# (redis.io, "Redis replication": "Every time an instance restarts from scratch as a master, or a replica is
# promoted to master, a new replication ID is generated"). Nobody chooses either: 16 digits tell them apart.
# Where INFO lacks one of them the script fails. Both take 12 to 20 microseconds.
_RUN = """
local function run()
  local id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
  local history = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
  return string.sub(redis.sha1hex(id .. history), 1, 16)
end
"""


class Script:
    """Hold a script, and the digest that a server knows it by.

    Args:
        body: What it does; it may call ``run``.
    """

    def __init__(self, body: str) -> None:
        self.text = _RUN + body
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


# Keys; for each what to keep, and for how many milliseconds.
ISSUE = Script("""
local now = run()
for number, key in ipairs(KEYS) do
  redis.call('SET', key, now .. ARGV[2 * number - 1], 'PX', ARGV[2 * number])
end
""")

# A key; gives what was kept, or nil.
TAKE = Script("""
local kept = redis.call('GETDEL', KEYS[1])
if kept and string.sub(kept, 1, 16) == run() then
  return string.sub(kept, 17)
end
""")

# A name's key and the epoch's; milliseconds, and what makes another epoch. Gives the epoch, or nil. It is
# kept beside the names so that whoever empties the server begins another one.
SPEND = Script("""
local now, epoch = run(), redis.call('GET', KEYS[2])
if not epoch or string.sub(epoch, 1, 16) ~= now then
  epoch = now .. ARGV[2]
  redis.call('SET', KEYS[2], epoch)
end
if redis.call('SET', KEYS[1], '', 'NX', 'PX', ARGV[1]) then
  return epoch
end
""")


def evaluated(
    client: Any, script: Script, keys: Sequence[str], arguments: Sequence[str | int] = ()
) -> Steps[str | None]:
    """Run a script, and send it where the server does not know it yet.

    Args:
        client: Of the redis package, sync or async.
        script: The script.
        keys: The keys it uses, all of one slot.
        arguments: Its arguments.

    Returns:
        Its answer.

    Raises:
        StoreUnavailableError: If the server cannot be reached, or does not run it.
    """
    given = (len(keys), *keys, *arguments)
    try:
        answer = yield from asked(functools.partial(client.evalsha, script.digest, *given))
    except StoreUnavailableError as failure:
        if not isinstance(failure.__cause__, NoScriptError):
            raise
        answer = yield from asked(functools.partial(client.eval, script.text, *given))
    return answer.decode("ascii", "replace") if isinstance(answer, bytes) else answer


def asked(call: Callable[[], object]) -> Steps[Any]:
    """Ask the server.

    Args:
        call: Sends a command.

    Returns:
        The answer.

    Raises:
        StoreUnavailableError: If there is none, or it is an error.
    """
    try:
        return (yield Here(call))
    except _FAILURES as error:
        raise StoreUnavailableError(
            f"Redis cannot be used: {error}. If this does not pass, look at the server, and at the address, "
            "password and rights that the client has"
        ) from error
