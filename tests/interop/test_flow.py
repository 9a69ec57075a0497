"""Python's `websockets` reads more slowly than a backend publishes: what each channel's policy makes of it."""

import json
import socket
import tempfile
import unittest

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from api import ApiServer
from support import PATIENCE_S

CHANNELS = """
[limits]
outbox_bytes_max = 262144
slow_consumer = "disconnect"
# The reader comes to its close frame when all is published.
close_timeout = "60s"

[[channels]]
pattern = "news:*"
slow_consumer = "drop_newest"

[[channels]]
pattern = "log:*"
slow_consumer = "drop_oldest"

[[channels]]
pattern = "market:*"
slow_consumer = "conflate"
conflate_key = "symbol"

[[channels]]
pattern = "orders"
slow_consumer = "disconnect"
"""

# Ten megabytes: more than the kernels of both sides keep for a connection with a small window.
MESSAGES = 1000
PADDING = "x" * 10_000


class Slow:
    """A client that does not read but when it is asked to."""

    def __init__(self, server):
        raw = socket.socket()
        # Before the connection: it is what the window grows to.
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        raw.connect(("127.0.0.1", server.port))
        # One message is read ahead, no more.
        self.socket = connect(f"{server.url}ws", sock=raw, max_queue=1, ping_interval=None, compression=None)
        assert self.receive()["type"] == "welcome"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def receive(self):
        return json.loads(self.socket.recv(timeout=PATIENCE_S))

    def subscribe(self, channel):
        self.socket.send(json.dumps({"type": "subscribe", "channel": channel}))
        assert self.receive()["type"] == "subscribed"


class Flow(unittest.TestCase):
    def setUp(self):
        self.start(CHANNELS)

    def start(self, settings):
        file = self.enterContext(tempfile.NamedTemporaryFile("w", suffix=".toml"))
        file.write(settings)
        file.flush()
        self.server = self.enterContext(ApiServer(CRORE_CONFIG=file.name))
        self.http = self.enterContext(self.server.http())
        self.slow = self.enterContext(Slow(self.server))
        self.slow.subscribe("end")

    def everything(self):
        """All that the server has for the slow client: what was published has its end, and what that asks for, too."""
        self.http.post("/api/publish", json={"channel": "end", "data": "published"})
        self.slow.socket.send('{"type":"ping"}')
        messages, ends = [], 0
        while ends < 2:
            message = self.slow.receive()
            if message["type"] == "pong" or message.get("channel") == "end":
                ends += 1
            else:
                messages.append(message)
        return messages

    def publish(self, channel, numbers, **data):
        for number in numbers:
            body = {"n": number, "padding": PADDING, **{name: value(number) for name, value in data.items()}}
            response = self.http.post("/api/publish", json={"channel": channel, "data": body})
            self.assertEqual(response.status_code, 200, response.text)

    def counted(self, name):
        return self.server.metrics()[f"crore_{name}"].samples[0].value

    def accounted(self, messages, channel):
        """The numbers that have come; what is missing between them has been announced there."""
        numbers, expected = [], 0
        for message in messages:
            self.assertEqual(message["channel"], channel)
            if message["type"] == "gap":
                expected += message["dropped"]
            else:
                self.assertEqual(message["data"]["n"], expected)
                numbers.append(expected)
                expected += 1
        self.assertEqual(expected, MESSAGES)
        return numbers

    # capability: 66
    def test_the_newest_are_dropped_and_the_gap_is_announced(self):
        self.slow.subscribe("news:1")
        self.publish("news:1", range(MESSAGES))
        messages = self.everything()
        numbers = self.accounted(messages, "news:1")
        self.assertLess(len(numbers), MESSAGES)
        gaps = [message for message in messages if message["type"] == "gap"]
        self.assertEqual(set(gaps[0]), {"type", "channel", "dropped", "timestamp"})
        self.assertEqual(self.counted("messages_dropped"), MESSAGES - len(numbers))
        self.assertEqual(self.counted("gaps_announced"), len(gaps))
        self.publish("news:1", range(3))
        self.assertEqual([message["data"]["n"] for message in self.everything()], [0, 1, 2])

    # capability: 66
    def test_the_oldest_are_dropped_and_the_gap_is_announced(self):
        self.slow.subscribe("log:1")
        self.publish("log:1", range(MESSAGES))
        numbers = self.accounted(self.everything(), "log:1")
        self.assertLess(len(numbers), MESSAGES)
        self.assertEqual(numbers[-1], MESSAGES - 1)

    # capability: 66
    def test_of_each_symbol_the_newest_arrives(self):
        symbols = ["AAA", "BBB", "CCC"]
        self.slow.subscribe("market:1")
        self.publish("market:1", range(MESSAGES), symbol=lambda number: symbols[number % 3])
        messages = self.everything()
        self.assertLess(len(messages), MESSAGES)
        self.assertEqual({message["type"] for message in messages}, {"message"}, "what is replaced is no gap")
        for index, symbol in enumerate(symbols):
            numbers = [message["data"]["n"] for message in messages if message["data"]["symbol"] == symbol]
            self.assertEqual(numbers, sorted(numbers))
            self.assertEqual(numbers[-1], max(number for number in range(MESSAGES) if number % 3 == index))
        self.assertEqual(self.counted("messages_conflated"), MESSAGES - len(messages))
        self.assertEqual(self.counted("messages_dropped"), 0)

    # capability: 66 47
    def test_who_is_sent_batches_is_spared_what_is_replaced_all_the_same(self):
        self.slow.socket.send('{"type":"batch","enabled":true}')
        self.assertEqual(self.slow.receive()["data"], {"batch": True})
        self.slow.subscribe("market:1")
        self.publish("market:1", range(MESSAGES), symbol=lambda number: "AAA")
        self.slow.socket.send('{"type":"batch","enabled":false}')
        numbers = []
        while (message := self.slow.receive())["type"] != "response":
            batch = message["messages"] if message["type"] == "batch" else [message]
            numbers += [message["data"]["n"] for message in batch]
        self.assertEqual(numbers, sorted(set(numbers)))
        self.assertEqual(numbers[-1], MESSAGES - 1)
        self.assertEqual(self.counted("messages_conflated"), MESSAGES - len(numbers))
        self.assertEqual(self.counted("closed_slow"), 0)

    # capability: 66
    def test_a_channel_that_drops_costs_no_reply_and_no_connection(self):
        self.slow.subscribe("news:1")
        self.publish("news:1", range(MESSAGES))
        for number in range(20):
            self.slow.socket.send(json.dumps({"type": "unsubscribe", "id": number, "channel": f"other:{number}"}))
        replies = [message for message in self.everything() if message["type"] == "unsubscribed"]
        self.assertEqual([reply["id"] for reply in replies], list(range(20)))
        self.assertEqual(self.counted("closed_slow"), 0)

    # capability: 66
    def test_a_policy_for_all_channels_costs_no_reply_either(self):
        for policy in ("drop_newest", "drop_oldest"):
            kept = '[[channels]]\npattern = "kept:*"\nhistory = 100\n[[channels]]\npattern = "end"\nslow_consumer = "disconnect"\n'
            self.start(f'[limits]\noutbox_bytes_max = 262144\nslow_consumer = "{policy}"\n{kept}')
            self.publish("kept:1", range(10))
            self.slow.subscribe("any")
            self.publish("any", range(MESSAGES))
            messages = [{"type": "subscribe", "id": "kept", "channel": "kept:1", "recover": {"since": 0}}]
            messages += [{"type": "subscribe", "id": number, "channel": f"other:{number}"} for number in range(20)]
            self.slow.socket.send(json.dumps({"type": "batch", "messages": messages}))
            came = self.everything()
            # What was missed is answered when the client has read what waited.
            while sum(message.get("channel") == "kept:1" and message["type"] == "message" for message in came) < 10:
                came.append(self.slow.receive())
            replies = [message["id"] for message in came if message["type"] == "subscribed"]
            self.assertEqual(sorted(replies, key=str), sorted(["kept", *range(20)], key=str), policy)
            recovered = [message["data"]["n"] for message in came if message.get("channel") == "kept:1" and message["type"] == "message"]
            self.assertEqual(recovered, list(range(10)), policy)
            numbers = self.accounted([message for message in came if message.get("channel") == "any"], "any")
            self.assertLess(len(numbers), MESSAGES, policy)
            self.assertEqual(self.counted("closed_slow"), 0, policy)

    # capability: 66
    def test_who_is_too_slow_for_what_must_not_be_missing_is_disconnected(self):
        self.slow.subscribe("orders")
        self.publish("orders", range(MESSAGES))
        with self.assertRaises(ConnectionClosed) as closed:
            for number in range(MESSAGES):
                self.assertEqual(self.slow.receive()["data"]["n"], number)
        self.assertEqual(closed.exception.rcvd.code, 1013)
        self.assertEqual(self.counted("closed_slow"), 1)


if __name__ == "__main__":
    unittest.main()
