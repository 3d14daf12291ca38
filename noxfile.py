"""The project's sessions: ``nox -s NAME``; without a name, tests, lint and typing."""

import os
import shutil
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.sessions = ["tests", "lint", "typing"]
nox.options.default_venv_backend = "virtualenv"

CLIPPY = ["clippy", "--all-targets", "--all-features", "--", "-D", "warnings"]
WORKERS = str((os.cpu_count() or 1) + 1)  # tests wait for servers a third of the time
PROJECT = nox.project.load_toml("pyproject.toml")


def group(name: str) -> list[str]:
    """List the requirements of a dependency group."""
    return list(nox.project.dependency_groups(PROJECT, name))


def companion(session: nox.Session) -> str:
    """Build the native companion's wheel."""
    session.install("maturin>=1.9,<2")
    wheels = Path(session.create_tmp()).resolve()
    for wheel in wheels.glob("*.whl"):
        wheel.unlink()
    session.run("maturin", "build", "--release", "--manifest-path", "accel/Cargo.toml", "--out", str(wheels))
    (wheel,) = wheels.glob("*.whl")
    return str(wheel)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the test suite in parallel, in random order, with branch coverage."""
    session.install(".[all]", *group("test"))
    session.run("pytest", "-n", WORKERS, "--cov=tuned_digest", *session.posargs)


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def pythons(session: nox.Session) -> None:
    """Run the test suite on each other Python from 3.11 to 3.14 that is installed."""
    if session.python == f"{sys.version_info.major}.{sys.version_info.minor}":
        session.skip("nox -s tests runs it on this one")
    session.install(".[all]", *group("test"))
    session.run("pytest", "-n", WORKERS, *session.posargs)


@nox.session
def minimums(session: nox.Session) -> None:
    """Run the test suite on the lowest direct versions that the metadata allows."""
    session.install("uv>=0.6")
    session.run(
        "uv",
        "pip",
        "install",
        "--python",
        session.virtualenv.location,
        "--resolution",
        "lowest-direct",
        ".[all]",
        env={"UV_SYSTEM_CERTS": "true"},  # trust what pip trusts
    )
    session.install(*group("test"))
    session.run("pytest", "-n", WORKERS, *session.posargs)


@nox.session
def native(session: nox.Session) -> None:
    """Build the native companion, and run its own tests and the whole test suite on it; needs Rust."""
    with session.chdir("accel"):
        for command in (["fmt", "--check"], CLIPPY, ["test", "--release"]):
            session.run("cargo", *command, external=True)
    wheel = companion(session)
    session.install(wheel, ".[all]", *group("test"))
    session.run("pytest", "accel/tests", "-c", "accel/pyproject.toml")
    session.run("pytest", "-n", WORKERS, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting and the direction of imports."""
    session.install("-e", ".[all]", *group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports")


@nox.session
def typing(session: nox.Session) -> None:
    """Check types with mypy --strict and pyright."""
    session.install("-e", ".[all]", *group("typing"), "nox")
    session.run("mypy")
    session.run("pyright")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation, warnings as errors."""
    session.install(".[all]", *group("docs"))
    session.run(
        "sphinx-build", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html", *session.posargs
    )


@nox.session
def demo(session: nox.Session) -> None:
    """Drive a real server on loopback with the real clients, and say what happens."""
    session.install(".[demo]")
    session.run("tuned-digest", "demo", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure what the project claims, side by side in one run."""
    session.install(".[all]", *group("test"), *group("bench"))
    if shutil.which("cargo"):
        session.install(companion(session))
    session.run("python", "-m", "bench", *session.posargs)
