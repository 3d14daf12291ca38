"""Every nonce store there is: a new one is one more line here, and is held to all of them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tuned_digest.server import AsyncNonceStore, MemoryNonceStore, NonceStore

AnyStore = NonceStore | AsyncNonceStore

MakeStore = Callable[[pytest.FixtureRequest, Path], AbstractContextManager[AnyStore]]
"""Makes an empty store; the fixtures give it the servers that tests share, the path a directory of its own."""


@contextmanager
def memory(request: pytest.FixtureRequest, path: Path) -> Iterator[MemoryNonceStore]:
    """Make a store in memory."""
    yield MemoryNonceStore()


STORES: dict[str, MakeStore] = {
    "memory": memory,
}
