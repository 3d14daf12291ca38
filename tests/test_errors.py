"""The errors: one root, evidence that survives pickling, and classes that client libraries catch."""

import inspect
import pickle
import re
from typing import Any

import httpx
import pytest
import requests

from tuned_digest import Ed25519Signer, Resources, errors
from tuned_digest._client.library_errors import as_library_error
from tuned_digest.errors import MissingExtraError, RefusedError, TunedDigestError

from .clients import Connect
from .field_server import verified
from .ledger import Ledger
from .serving import serve

CLASSES: list[type[TunedDigestError]] = [getattr(errors, name) for name in errors.__all__]
EVIDENCE = {
    "str": "evidence",
    "int": 7,
    "float": 7.5,
    "bytes": b"evidence",
    "tuple[tuple[str, str], ...]": (("a", "b"),),
}
FAMILIES: list[type[Exception]] = [httpx.RequestError, requests.RequestException]

# ImportError and OSError cannot be bases of one class; no exchange raises the one.
PAIRS = [
    (cls, family)
    for cls in CLASSES
    for family in FAMILIES
    if not (issubclass(cls, ImportError) and issubclass(family, OSError))
]


def made(cls: type[TunedDigestError]) -> TunedDigestError:
    """Make an error with every piece of evidence its class takes."""
    parameters = list(inspect.signature(cls).parameters.values())[1:]
    return cls("what was wrong", **{one.name: EVIDENCE[one.annotation] for one in parameters})


def test_the_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    """The module's docstring shows each class under its base, with the built-in one beside it."""
    assert errors.__doc__ is not None
    path: list[str] = []
    drawn: dict[str, tuple[str | None, str | None]] = {}
    for line in errors.__doc__.splitlines():
        match = re.match(r"    ([\u2502\u251c\u2500\u2514 ]*)(\w+Error)(?: \((\w+)\))?(?:  |$)", line)
        if match:
            path = [*path[: len(match[1]) // 4], match[2]]
            drawn[match[2]] = (path[-2] if len(path) > 1 else None, match[3])
    defined = {
        cls.__name__: (
            next((base.__name__ for base in cls.__bases__ if issubclass(base, TunedDigestError)), None),
            next((base.__name__ for base in cls.__bases__ if base.__module__ == "builtins"), None),
        )
        for cls in CLASSES
    }
    assert drawn == defined | {"TunedDigestError": (None, None)}


@pytest.mark.parametrize("cls", CLASSES)
def test_an_error_pickles_with_its_evidence(cls: type[TunedDigestError]) -> None:
    """An error comes back from another process with its class, message and evidence."""
    error = made(cls)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert str(again) == "what was wrong"
    assert vars(again) == vars(error)
    assert set(vars(error)) == {name for name in inspect.signature(cls).parameters if name != "message"}


@pytest.mark.parametrize("cls", CLASSES)
def test_evidence_is_optional(cls: type[TunedDigestError]) -> None:
    """Every error can be made of its message alone."""
    assert str(cls("what was wrong")) == "what was wrong"


@pytest.mark.parametrize(("cls", "family"), PAIRS)
def test_a_library_error_is_of_both_families(cls: type[TunedDigestError], family: type[Exception]) -> None:
    """``except`` clauses for the library, for the package and for the class each catch it."""
    request = object()
    error = as_library_error(made(cls), family, request=request)
    for caught in (cls, TunedDigestError, family, *cls.__bases__):
        assert isinstance(error, caught)
    assert type(error).__name__ == cls.__name__
    assert str(error) == "what was wrong"
    assert vars(made(cls)).items() <= vars(error).items()
    assert error.request is request  # type: ignore[attr-defined]


@pytest.mark.parametrize(("cls", "family"), PAIRS)
def test_a_library_error_pickles(cls: type[TunedDigestError], family: type[Exception]) -> None:
    """What comes back is of the same class with its message and evidence, without the request."""
    error = as_library_error(made(cls), family, request=object())
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == "what was wrong"
    assert vars(made(cls)).items() <= vars(again).items()


def test_a_response_is_set_where_there_is_one() -> None:
    """A rejection carries the response it is about, as requests' own errors do."""
    response = requests.Response()
    error = as_library_error(
        TunedDigestError("m"), requests.RequestException, request=None, response=response
    )
    assert isinstance(error, requests.RequestException)
    assert error.response is response


def test_a_refusal_in_the_field_is_of_both_families(
    connect: Connect, ledger: Ledger, signer: Ed25519Signer
) -> None:
    """An origin that refuses a good answer is reported by an error with evidence, which pickles."""
    nobody = verified(accounts=lambda identity: None)
    options = {"resources": Resources(refusals_allowed=1), "_clock": lambda: 7.0}
    with ledger.watch(serve(nobody)) as server, connect(server.url, signer, **options) as client:
        assert client.send("GET", server.url).status == 401
        with pytest.raises(RefusedError, match="unknown identity") as raised:
            client.send("GET", server.url)
        assert isinstance(raised.value, client.library_error)
        error: Any = raised.value
        assert error.response.status_code == 401
        assert str(error.request.url).startswith(server.url)
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        for one in (error, again):
            evidence = (one.origin, one.refusals, one.reason, one.seconds)
            assert evidence == (server.url, 1, "unknown identity", 60.0)
    assert server.statuses == [401, 401, 401]


def test_what_cannot_be_of_both_families_stays_what_it_is() -> None:
    """A missing extra is an ImportError, which no OSError can be: requests' callers get it as it is."""
    error = MissingExtraError("bcrypt is not installed", extra="ssh")
    assert as_library_error(error, requests.RequestException) is error
