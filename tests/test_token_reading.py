"""Tokens are read step by step, also by who asks for one step alone."""

import sys

import pytest

from tuned_digest import MissingExtraError, TunedDigestError
from tuned_digest._tokens import reading
from tuned_digest.errors import TokenError

from .tokens import Holder


def test_a_key_answers_for_its_own_algorithm() -> None:
    """A token that names another algorithm than its key's is refused before its signature is looked at."""
    token = reading.read_token(Holder("ES256").sign({}))
    with pytest.raises(TokenError) as caught:
        token.claims_by(Holder().public)
    assert (caught.value.step, caught.value.status) == (3, 401)


def test_joserfc_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without joserfc no signature is checked, and the error names the extra."""
    holder = Holder()
    token = reading.read_token(holder.sign({}))
    monkeypatch.setitem(sys.modules, "joserfc", None)
    monkeypatch.setattr(reading, "_jose", reading._jose.__wrapped__)
    with pytest.raises(MissingExtraError) as caught:
        token.claims_by(holder.public)
    assert isinstance(caught.value, TunedDigestError)
    assert caught.value.extra == "tokens"
