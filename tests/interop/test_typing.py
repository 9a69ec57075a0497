"""Who types and who has read what: events of a channel that are kept nowhere."""

import socket
import time
import urllib.request

from test_access import AccessCase

TIMEOUT_S = 1


class TypingCase(AccessCase):
    """A server that ends typing after a second, and one channel with Ann, and Bob who listens."""

    def setUp(self):
        super().setUp()
        self.serve_typing()

    def serve_typing(self, timeout="1s", interval_min="1ms", channels=None, more=""):
        self.channels = ""
        typing = f'[typing]\ntimeout = "{timeout}"\ninterval_min = "{interval_min}"'
        self.serve("metrics = true", more=f"{typing}\n{more}", mode='"optional"')
        self.ann, self.bob = self.enter("ann"), self.enter("bob")
        for socket in (self.ann, self.bob):
            self.assertIsNone(self.subscribe(socket, "chat"))

    def say(self, socket, kind="typing", channel="chat", **fields):
        """Nothing answers it."""
        self.send(socket, type=kind, channel=channel, **fields)

    def assert_hears(self, socket, is_typing, user="ann", channel="chat"):
        expected = {"type": "typing", "channel": channel, "from": user, "isTyping": is_typing}
        self.assertEqual(self.receive(socket), expected)

    def assert_hears_nothing(self, socket):
        self.assertEqual(self.ask(socket, type="ping")["type"], "pong")

    def metrics(self):
        with urllib.request.urlopen(f"{self.server.url.replace('ws', 'http', 1)}metrics") as response:
            lines = response.read().decode().splitlines()
        return {name: value for name, value in (line.split(" ", 1) for line in lines if not line.startswith("#"))}


class Typing(TypingCase):
    # capability: 50
    def test_others_learn_that_somebody_types_and_stops(self):
        self.say(self.ann, isTyping=True)
        self.assert_hears(self.bob, True)
        self.say(self.ann, isTyping=False)
        self.assert_hears(self.bob, False)
        self.say(self.ann, "typing.start")
        self.assert_hears(self.bob, True)
        self.say(self.ann, "typing.stop")
        self.assert_hears(self.bob, False)
        # Who does not type can't stop.
        self.say(self.ann, "typing.stop")
        self.assertEqual(self.publish(self.ann, "chat", "hi"), None, "and hears nothing of it")
        self.assertEqual(self.receive(self.bob)["data"], "hi")
        for is_typing in (True, False):
            reply = self.ask(self.ann, type="typing", channel="chat", isTyping=is_typing, id=5)
            self.assertEqual((reply["type"], reply["id"], reply["data"]), ("response", 5, {"typing": is_typing}))

    # capability: 50
    def test_the_server_ends_what_the_client_does_not(self):
        self.say(self.ann, isTyping=True)
        self.assert_hears(self.bob, True)
        started = time.monotonic()
        # As long as it comes again it goes on, and nobody is told twice.
        while time.monotonic() < started + 2 * TIMEOUT_S:
            self.say(self.ann, isTyping=True)
            time.sleep(TIMEOUT_S / 5)
        self.assert_hears_nothing(self.bob)
        stopped = time.monotonic()
        self.assert_hears(self.bob, False)
        self.assertLess(time.monotonic() - stopped, 10 * TIMEOUT_S)
        self.assertGreater(time.monotonic() - started, 2.5 * TIMEOUT_S)

    # capability: 50 21
    def test_it_ends_with_the_subscription_and_with_the_connection(self):
        self.say(self.ann, isTyping=True)
        self.assert_hears(self.bob, True)
        self.ask(self.ann, type="unsubscribe", channel="chat")
        self.assert_hears(self.bob, False)
        self.assertIsNone(self.subscribe(self.ann, "chat"))
        for end in (lambda: self.ann.close(), lambda: self.ann.socket.shutdown(socket.SHUT_RDWR)):
            self.say(self.ann, isTyping=True)
            self.assert_hears(self.bob, True)
            end()
            self.assert_hears(self.bob, False)
            self.ann = self.enter("ann")
            self.assertIsNone(self.subscribe(self.ann, "chat"))

    # capability: 50
    def test_it_takes_a_subscription(self):
        stranger = self.enter("eve")
        for message in ({"type": "typing", "isTyping": True}, {"type": "typing.start"}, {"type": "read", "ids": [1]}):
            reply = self.ask(stranger, **message, channel="chat", id=1)
            self.assertEqual((reply["code"], reply["detail"]), ("forbidden", "subscribe to the channel first"))
        self.assert_hears_nothing(self.bob)
        for wrong in ({}, {"isTyping": "yes"}, {"isTyping": None}):
            reply = self.ask(self.ann, type="typing", channel="chat", **wrong)
            self.assertEqual((reply["code"], reply["detail"]), ("invalid_message", "`isTyping` is true or false"))
        self.assertEqual(self.ask(self.ann, type="typing", isTyping=True)["code"], "invalid_message")

    # capability: 50
    def test_in_a_few_channels_at_once(self):
        channels = [f"room:{index}" for index in range(18)]
        for channel in channels:
            for socket in (self.ann, self.bob):
                self.assertIsNone(self.subscribe(socket, channel))
        batch = [{"type": "typing", "channel": channel, "isTyping": True} for channel in channels]
        self.send(self.ann, type="batch", messages=batch)
        events = [self.receive(self.bob) for _ in range(36)]
        started = [event["channel"] for event in events if event["isTyping"]]
        stopped = [event["channel"] for event in events if not event["isTyping"]]
        self.assertEqual((sorted(started), sorted(stopped)), (sorted(channels), sorted(channels)))
        # The two that were too many have ended two others at once.
        self.assertLess(events.index(next(event for event in events if not event["isTyping"])), 18)
        self.assert_hears_nothing(self.bob)

    # capability: 50 98
    def test_it_is_counted(self):
        self.say(self.ann, isTyping=True)
        self.assert_hears(self.bob, True)
        self.ask(self.ann, type="read", channel="chat", ids=[1], id=1)
        self.assertEqual(self.receive(self.bob)["type"], "read")
        metrics = self.metrics()
        counted = [metrics[f"crore_{name}_total"] for name in ("typing", "typing_throttled", "read_receipts")]
        self.assertEqual(counted, ["1", "0", "1"])


class Throttle(TypingCase):
    def setUp(self):
        AccessCase.setUp(self)

    # capability: 50
    def test_a_user_is_told_of_once_in_a_while_on_all_its_connections(self):
        self.serve_typing(timeout="30s", interval_min="30s")
        second = self.enter("ann")
        self.assertIsNone(self.subscribe(second, "chat"))
        self.assertIsNone(self.subscribe(second, "other"))
        self.assertIsNone(self.subscribe(self.bob, "other"))
        self.say(self.ann, isTyping=True)
        self.assert_hears(self.bob, True)
        self.assert_hears(second, True)
        for _ in range(10):
            # What is not handed on is acknowledged none the less.
            reply = self.ask(second, type="typing.start", channel="chat", id=1)
            self.assertEqual((reply["type"], reply["data"]), ("response", {"typing": True}))
            self.say(second, "typing.stop")
        self.assert_hears_nothing(self.bob)
        # Another channel, or another user, is another matter.
        self.say(second, isTyping=True, channel="other")
        self.assert_hears(self.bob, True, channel="other")
        self.say(self.bob, isTyping=True)
        self.assert_hears(self.ann, True, user="bob")
        self.say(self.ann, isTyping=False)
        self.assert_hears(self.bob, False)
        self.assertEqual(self.metrics()["crore_typing_throttled_total"], "10")

    # capability: 50 64
    def test_who_may_not_publish_does_not_type(self):
        self.serve_typing()
        self.channels = '[[channels]]\npattern = "chat"\nmay_publish = "role:writer"'
        self.server.stop()
        self.serve("", mode='"optional"')
        reader, writer = self.enter("ann"), self.enter("bob", roles="writer")
        for socket in (reader, writer):
            self.assertIsNone(self.subscribe(socket, "chat"))
        for message in ({"type": "typing", "isTyping": True}, {"type": "read", "ids": [1]}):
            self.assert_forbidden(self.ask(reader, **message, channel="chat"), "`may_publish`")
        self.say(writer, isTyping=True)
        self.assert_hears(reader, True, user="bob")

    # capability: 50 51 60
    def test_both_count_against_the_rate_limit(self):
        limit = "[rate_limit]\nenabled = true\nmessages_per_second = 1\nburst = 10"
        self.serve_typing(more=limit)
        codes = []
        for _ in range(20):
            codes.append(self.ask(self.ann, type="read", channel="chat", ids=["a"], id=1).get("code"))
        self.assertIn("rate_limited", codes)
        self.assertLess(codes.count(None), 15)


class Receipts(TypingCase):
    # capability: 51
    def test_others_learn_who_has_read_what(self):
        self.say(self.ann, "read", ids=["m1", 7, "é"])
        receipt = self.receive(self.bob)
        self.assertEqual(receipt, {"type": "read", "channel": "chat", "from": "ann", "ids": ["m1", 7, "é"]})
        reply = self.ask(self.ann, type="read", channel="chat", ids=[1], id="r")
        self.assertEqual((reply["type"], reply["id"], reply["data"]), ("response", "r", {"read": True}))
        self.assertEqual(self.receive(self.bob)["ids"], [1])

    # capability: 51
    def test_a_receipt_names_messages(self):
        for wrong in (None, [], "m1", [None], [["m1"]], [{"id": 1}], ["x" * 127], list(range(101))):
            with self.subTest(str(wrong)[:20]):
                reply = self.ask(self.ann, type="read", channel="chat", ids=wrong, id=1)
                self.assertEqual((reply["code"], reply["id"]), ("invalid_message", 1))
        self.assert_hears_nothing(self.bob)

    # capability: 50 51 47
    def test_in_a_batch(self):
        messages = [
            {"type": "typing", "channel": "chat", "isTyping": True},
            {"type": "read", "channel": "chat", "ids": [1]},
            {"type": "typing", "channel": "chat", "isTyping": False},
            {"type": "message", "channel": "chat", "data": "hi"},
        ]
        self.send(self.ann, type="batch", messages=messages)
        told = [self.receive(self.bob) for _ in messages]
        self.assertEqual([event["type"] for event in told], ["typing", "read", "typing", "message"])
