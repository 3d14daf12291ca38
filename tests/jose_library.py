"""The npm library jose, a judge of tokens that shares no code with Python; one process for each batch."""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

_DEADLINE = 120  # seconds
_INSTALL = (
    *("npm", "install", "--no-audit", "--no-fund", "jose@latest"),
    *("--fetch-timeout=20000", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"),  # milliseconds
)
_PROGRAM = """
import { webcrypto } from "node:crypto";
import { readFileSync } from "node:fs";

globalThis.crypto ??= webcrypto; // node 18 has it by this name alone
const jose = await import("jose");

const tasks = {
  verified: async ({ token, jwk, algorithm }) => {
    const key = await jose.importJWK(jwk, algorithm);
    const { payload, protectedHeader } = await jose.jwtVerify(token, key, { algorithms: [algorithm] });
    return { header: protectedHeader, claims: payload };
  },
  signed: async ({ jwk, header, claims }) => {
    const key = await jose.importJWK(jwk, header.alg);
    return await new jose.SignJWT(claims).setProtectedHeader(header).sign(key);
  },
  thumbprint: async ({ jwk }) => await jose.calculateJwkThumbprint(jwk),
};

const answers = [];
for (const [task, given] of JSON.parse(readFileSync(0, "utf8"))) {
  try {
    answers.push({ answer: await tasks[task](given) });
  } catch (error) {
    answers.push({ error: String(error) });
  }
}
console.log(JSON.stringify(answers));
"""

Task = tuple[str, Mapping[str, Any]]


class Jose:
    """Ask the library, which lies in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        for program in ("node", "npm"):
            if shutil.which(program) is None:
                pytest.skip(f"{program} is not installed")
        done = subprocess.run(_INSTALL, cwd=directory, capture_output=True, timeout=_DEADLINE, check=False)
        if done.returncode != 0:
            pytest.skip(f"npm cannot install jose: {' '.join(done.stderr.decode().split())[:200]}")
        self._program = directory / "program.mjs"
        self._program.write_text(_PROGRAM)

    def ask(self, tasks: Sequence[Task]) -> list[Any]:
        """Give the answer to each task.

        Args:
            tasks: ``verified`` takes token, jwk and algorithm, and gives header and claims; ``signed`` takes
                a private jwk, header and claims, and gives a token; ``thumbprint`` takes a jwk.

        Returns:
            The answers. An error of the library is a failure of the test.
        """
        answers = self.try_to(tasks)
        assert [answer for answer in answers if "error" in answer] == []
        return [answer["answer"] for answer in answers]

    def try_to(self, tasks: Sequence[Task]) -> list[dict[str, Any]]:
        """Give ``{"answer": ...}`` or ``{"error": ...}`` for each task."""
        done = subprocess.run(
            ["node", self._program],
            input=json.dumps(tasks),
            capture_output=True,
            text=True,
            timeout=_DEADLINE,
            check=True,
        )
        answers: list[dict[str, Any]] = json.loads(done.stdout)
        return answers


@pytest.fixture(scope="session")
def jose(tmp_path_factory: pytest.TempPathFactory) -> Jose:
    """The library, installed once for all tests."""
    return Jose(tmp_path_factory.mktemp("jose"))
