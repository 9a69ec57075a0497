"""Batches that the `crore` server sends to whom has asked for them: Python's `websockets`."""

import json
import unittest

from websockets.exceptions import ConnectionClosed

from api import ApiServer, Client
from support import PATIENCE_S


class Batching(Client):
    """A client that has asked for batches."""

    def __init__(self, server):
        super().__init__(server)
        answer = self.ask(type="batch", enabled=True, id=0)
        assert (answer["type"], answer["id"], answer["data"]) == ("response", 0, {"batch": True}), answer

    def send(self, *messages):
        """All of it at once, so that it is answered in one turn."""
        self.socket.send(json.dumps({"type": "batch", "messages": messages}))

    def several(self):
        """The messages of what comes next, which is a batch if they are several."""
        message = self.receive()
        if message["type"] != "batch":
            return [message]
        assert set(message) == {"type", "messages"} and len(message["messages"]) > 1, message
        return message["messages"]

    def subscribe(self, channel):
        self.socket.send(json.dumps({"type": "subscribe", "channel": channel}))
        assert [message["type"] for message in self.several()] == ["subscribed"]


def message(channel, number, **more):
    return {"type": "message", "channel": channel, "data": number, **more}


class Batches(unittest.TestCase):
    def serve(self, **variables):
        self.server = self.enterContext(ApiServer(**variables))

    def client(self, kind=Batching):
        return self.enterContext(kind(self.server))

    def counted(self, name):
        return self.server.metrics()[f"crore_{name}"].samples[0].value

    # capability: 47
    def test_ten_messages_are_one_and_the_rest_waits_no_longer_than_it_may(self):
        self.serve()
        reader, other, writer = self.client(), self.client(Client), self.client()
        reader.subscribe("a")
        other.subscribe("a")
        writer.send(*(message("a", number) for number in range(25)))
        batches = [reader.several() for _ in range(3)]
        self.assertEqual([len(batch) for batch in batches], [10, 10, 5])
        self.assertEqual([one["data"] for batch in batches for one in batch], list(range(25)))
        for one in batches[0]:
            self.assertEqual(set(one), {"type", "channel", "from", "data", "timestamp"})
        # Who has not asked for it hears the same, one by one.
        self.assertEqual([other.receive()["data"] for _ in range(25)], list(range(25)))
        self.assertEqual(self.counted("messages_coalesced"), 25)

    # capability: 47
    def test_replies_errors_and_what_others_say_keep_their_order(self):
        self.serve(CRORE_OUTBOUND_BATCH_MESSAGES_MAX="1000", CRORE_OUTBOUND_BATCH_DELAY="1s")
        client = self.client()
        client.subscribe("a")
        asked = []
        for number in range(0, 60, 3):
            asked += [
                message("a", number),
                {"type": "request", "method": "time", "id": number + 1},
                {"type": "nonsense", "id": number + 2},
            ]
        client.send(*asked)
        heard = []
        while len(heard) < len(asked):
            heard += client.several()
        kinds = [(one["type"], one.get("id", one.get("data"))) for one in heard]
        # What is published leaves at the end of the turn, behind what is for the client alone.
        replies = [kind for kind in kinds if kind[0] in ("response", "error")]
        expected = [("error" if number % 3 == 2 else "response", number) for number in range(60) if number % 3]
        self.assertEqual(replies, expected)
        published = [kind for kind in kinds if kind[0] == "message"]
        self.assertEqual(published, [("message", number) for number in range(0, 60, 3)])
        self.assertEqual(len(kinds), len(asked))

    # capability: 47
    def test_the_end_of_a_connection_or_of_batches_waits_for_nothing(self):
        self.serve(CRORE_OUTBOUND_BATCH_DELAY="1h")
        client = self.client()
        client.send(*({"type": "ping", "id": number} for number in range(3)), {"type": "batch", "enabled": False, "id": 3})
        self.assertEqual([one["id"] for one in client.several()], [0, 1, 2])
        self.assertEqual(client.receive()["data"], {"batch": False})
        self.assertEqual(client.ask(type="ping", id=4)["id"], 4)
        client.ask(type="batch", enabled=True)
        client.send(*({"type": "ping", "id": number} for number in range(3)), {"type": "disconnect"})
        self.assertEqual([one["id"] for one in client.several()], [0, 1, 2])
        with self.assertRaises(ConnectionClosed) as closed:
            client.receive()
        self.assertEqual(closed.exception.rcvd.code, 1000)

    # capability: 47
    def test_a_signal_of_life_carries_what_came_before_it(self):
        self.serve(CRORE_OUTBOUND_BATCH_DELAY="1h")
        client = self.client()
        client.send({"type": "ping", "id": 0}, {"type": "ping", "id": 1})
        pong = client.socket.ping()
        self.assertEqual([one["id"] for one in client.several()], [0, 1])
        self.assertTrue(pong.wait(PATIENCE_S))

    # capability: 47
    def test_what_is_large_comes_alone_and_in_its_place(self):
        self.serve(CRORE_OUTBOUND_BATCH_DELAY="500ms")
        client = self.client()
        client.subscribe("a")
        large = "x" * 20_000
        client.send(message("a", 0), message("a", 1), message("a", large), message("a", 2), message("a", 3))
        self.assertEqual([one["data"] for one in client.several()], [0, 1])
        self.assertEqual([one["data"] for one in client.several()], [large])
        self.assertEqual([one["data"] for one in client.several()], [2, 3])
        # Ten of 4 KB are more than one batch may hold.
        client.send(*(message("a", f"{number}{'x' * 4000}") for number in range(10)))
        heard = []
        while len(heard) < 10:
            batch = client.several()
            self.assertLess(sum(len(one["data"]) for one in batch), 16 * 1024)
            heard += batch
        self.assertEqual([int(one["data"][0]) for one in heard], list(range(10)))

    # capability: 47
    def test_what_is_neither_is_refused(self):
        self.serve()
        client = self.client(Client)
        for fields in ({"enabled": 1}, {"enabled": True, "messages": [{"type": "ping"}]}, {}):
            self.assertEqual(client.ask(type="batch", **fields)["code"], "invalid_message")


if __name__ == "__main__":
    unittest.main()
