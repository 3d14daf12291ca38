"""What requests cost in round trips, and the vectors as every client sends them."""

import base64
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from tuned_digest import Ed25519Signer
from tuned_digest.server.asgi import Receive, Scope, Send

from .clients import Client, Connect
from .field_server import scripted, verified
from .serving import Served, serve

VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text())


class TestVectors:
    @pytest.mark.parametrize(
        "vector",
        # A million tries are made once, in test_vectors.
        [one for one in VECTORS["argon2"] + VECTORS["blake3"] if one["name"] != "open/asym-cost-20"],
        ids=lambda vector: vector["name"],
    )
    def test_known_answers_leave_every_client_to_the_last_character(
        self, connect: Connect, vector: dict[str, Any]
    ) -> None:
        """Every client answers every vector's challenge with the vector's Authorization field."""
        signer = Ed25519Signer.from_seed(_decoded(vector["seed"]))
        salt = _decoded(vector.get("salt", "A" * 22))
        scheme, _, _ = vector["www_authenticate"].partition(" ")
        asked = (401, [("WWW-Authenticate", vector["www_authenticate"])], b"")
        with (
            serve(scripted(asked, (200, [], b""))) as served,
            connect(served.url, signer, schemes=[scheme.lower()], _randomness=lambda size: salt) as client,
        ):
            client.send(vector["method"], served.url + vector["path"], body=_decoded(vector["body"]))
        assert [seen.target for seen in served.requests] == [vector["path"]] * 2
        assert served.requests[0].field("Authorization") == []
        assert served.requests[1].field("Authorization") == [vector["authorization"]]


class TestChains:
    def test_a_chain_costs_one_round_trip_each(self, client: Client, server: Served) -> None:
        """200 requests after the first cost exactly 200 round trips, 401s counted."""
        client.send("GET", f"{server.url}/first")
        before = len(server.requests)
        for number in range(200):
            assert client.send("GET", f"{server.url}/{number}").status == 200
        assert len(server.requests) - before == 200

    def test_concurrent_workers_are_challenged_once_each_at_most(
        self, client: Client, server: Served
    ) -> None:
        """32 workers doing 640 requests cost at most 640 + 32 round trips."""
        statuses: list[int] = []

        def work() -> None:
            statuses.extend(client.send("GET", f"{server.url}/{number}").status for number in range(20))

        workers = [threading.Thread(target=work) for _ in range(32)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert statuses == [200] * 640
        assert len(server.requests) <= 640 + 32

    def test_a_view_for_an_action_shares_nonces(self, blobs: Served, connect: Connect) -> None:
        """A create under `for_action` uses the create nonce that an ordinary response brought."""
        with connect(blobs.url, Ed25519Signer.generate()) as client:
            client.send("GET", f"{blobs.url}/blobs/welcome")
            created = client.send(
                "PUT", f"{blobs.url}/blobs/new", body=b"x", auth=client.auth.for_action("create")
            )
            assert client.send("GET", f"{blobs.url}/blobs/new").content == b"x"
        assert created.status == 201
        assert blobs.statuses == [401, 200, 201, 200]

    def test_a_wrong_guess_costs_one_more(self, connect: Connect, blobs: Served) -> None:
        """A PUT taken for an update is challenged once when the server finds it a create."""
        with connect(blobs.url, Ed25519Signer.generate()) as client:
            client.send("GET", f"{blobs.url}/blobs/welcome")
            assert client.send("PUT", f"{blobs.url}/blobs/new", body=b"x").status == 201
            assert client.send("PATCH", f"{blobs.url}/blobs/new", body=b"y").status == 200
            assert client.send("POST", f"{blobs.url}/blobs", body=b"z").status == 201
            assert client.send("DELETE", f"{blobs.url}/blobs/new").status == 204
        assert blobs.statuses == [401, 200, 401, 201, 200, 401, 201, 204]

    def test_a_query_is_a_signed_read(self, client: Client, server: Served) -> None:
        """A QUERY is signed with its body, and goes on with the nonces of reads."""
        client.send("GET", f"{server.url}/first")
        result = client.send("QUERY", f"{server.url}/search", body=b"a and b")
        echo = json.loads(result.content)
        assert (result.status, echo["method"], echo["size"]) == (200, "QUERY", 7)
        assert echo["caller"] is not None
        assert server.statuses == [401, 200, 200]

    def test_a_query_answers_its_challenge(self, client: Client, server: Served) -> None:
        """A QUERY that comes first is challenged, and sent again whole."""
        result = client.send("QUERY", f"{server.url}/search", body=b"a and b")
        assert json.loads(result.content)["size"] == 7
        assert server.story == ["QUERY /search 401", "QUERY /search 200"]


class TestNextNonces:
    @pytest.mark.parametrize("status", [200, 204, 400, 404, 429])
    def test_next_nonces_are_harvested_whatever_the_status(
        self, client: Client, server: Served, status: int
    ) -> None:
        """A response of any status but 401 and 5xx brings the nonce of the next request."""
        assert client.send("GET", f"{server.url}/status?status={status}").status == status
        assert client.send("GET", f"{server.url}/after").status == 200
        assert server.statuses == [401, status, 200]

    def test_a_server_error_costs_the_chain(self, client: Client, server: Served) -> None:
        """A 500 brings no next nonce, and the next request recovers with one more round trip."""
        client.send("GET", f"{server.url}/status?status=500")
        assert client.send("GET", f"{server.url}/after").status == 200
        assert server.statuses == [401, 500, 401, 200]

    def test_a_restarted_server_costs_one_round_trip(self, connect: Connect, signer: Ed25519Signer) -> None:
        """A chained nonce the server does not know is answered with a challenge, and that once."""
        apps = [verified(), verified()]

        async def restarting(scope: Scope, receive: Receive, send: Send) -> None:
            await apps[0](scope, receive, send)

        with serve(restarting) as served, connect(served.url, signer) as client:
            client.send("GET", f"{served.url}/before")
            apps.pop(0)
            assert client.send("GET", f"{served.url}/after").status == 200
        assert served.statuses == [401, 200, 401, 200]


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4))
