"""What Hypothesis draws: the protocol's values, and text made to break readers."""

from hypothesis import strategies as st

from tuned_digest import SearchCost, Tuning, Work
from tuned_digest._wire.grammar import ACTIONS, Dialect

_FRAGMENTS = (
    *(
        '"',
        "\\",
        "=",
        ",",
        ";",
        ":",
        " ",
        "\t",
        "$",
        "-",
        "/",
        "@",
        "[",
        "]",
        "%",
        "#",
        "?",
        "\r\n",
        "\0",
        "é",
    ),
    *(
        "tuned-digest-signature",
        "asym-tuned-digest-signature",
        "TUNED-DIGEST-SIGNATURE",
        "Basic",
        "Negotiate",
    ),
    *("nonce=", "algorithm=", "actions=", "nextnonce=", "argon=", "blake3=", "scopes="),
    *("identity=", "response=", "signature=", "realm=", "covers=", "read", "update", "create"),
    *("$argon2d$v=19$m=8,t=1,p=1", "$argon2id$v=19$m=64,t=1,p=9", "blake3$1", "blake3$0", "1", "33", "AAAA"),
    *("https://", "http:", "xn--", "::1", "127.0.0.1", ".", "-----BEGIN ", "PRIVATE KEY", "-----", "\n"),
)


def adversarial() -> st.SearchStrategy[str]:
    """Draw text made of the grammar's own characters and words, or any text at all."""
    return st.lists(st.sampled_from(_FRAGMENTS), max_size=30).map("".join) | st.text(max_size=80)


def nonces() -> st.SearchStrategy[str]:
    """Draw nonces a client must return unchanged: either base64 alphabet, padding or none."""
    alphabet = "ABCXYZabcxyz0189+/-_"
    return st.builds(
        str.__add__, st.text(alphabet, min_size=1, max_size=60), st.sampled_from(("", "", "=", "=="))
    )


def actions() -> st.SearchStrategy[frozenset[str]]:
    """Draw the actions of a challenge or the scope of a next nonce."""
    return st.frozensets(st.sampled_from(ACTIONS), min_size=1)


def dialects() -> st.SearchStrategy[Dialect]:
    """Draw either dialect."""
    return st.sampled_from(("deployed", "list"))


def tunings() -> st.SearchStrategy[Tuning]:
    """Draw any tuning RFC 9106 allows."""

    def with_lanes(lanes: int) -> st.SearchStrategy[Tuning]:
        return st.builds(
            Tuning,
            st.sampled_from(("argon2d", "argon2i", "argon2id")),
            st.integers(8 * lanes, 2**32 - 1),
            st.integers(1, 2**32 - 1),
            st.just(lanes),
        )

    return st.integers(1, 2**24 - 1).flatmap(with_lanes)


def costs() -> st.SearchStrategy[SearchCost]:
    """Draw any search cost."""
    return st.builds(SearchCost, st.integers(1, 32))


def works() -> st.SearchStrategy[dict[str, Work]]:
    """Draw the work of one nonce by scheme: under either or both, in either order."""
    kinds = st.lists(st.sampled_from((tunings(), costs())), min_size=1, max_size=2, unique_by=id)
    return kinds.flatmap(lambda drawn: st.tuples(*drawn)).map(
        lambda drawn: {work.scheme: work for work in drawn}
    )
