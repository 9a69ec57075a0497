"""Python's `websockets` against the limits of the `crore` server: rates, batches, validation, hostile clients."""

import contextlib
import json
import math
import os
import threading
import time
import unittest
import urllib.request
from socket import SHUT_RDWR
from unittest import mock

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from support import PATIENCE_S, Messages, Server, eventually

# Long enough that no window ends within a test.
WINDOW = "1h"


class Limited(Messages, unittest.TestCase):
    def start(self, **settings):
        """A server with settings as variables: rate_limit_enabled=True is CRORE_RATE_LIMIT_ENABLED=true."""
        variables = {f"CRORE_{name.upper()}": str(value).lower() for name, value in settings.items()}
        with mock.patch.dict(os.environ, variables):
            self.server = self.enterContext(Server("crore", "--listen", "127.0.0.1:{port}", "--cores", 2))

    def client(self, user=None):
        """A connection that has been welcomed."""
        headers = {"X-User-ID": user} if user else None
        # The client's own bound on what it receives is no part of these tests.
        socket = self.enterContext(
            connect(self.server.url + "ws", additional_headers=headers, max_size=None, compression=None)
        )
        self.assertEqual(self.receive(socket)["type"], "welcome")
        return socket

    def refused(self, socket, text):
        """What the server says to a text that it refuses, which it survives."""
        socket.send(text)
        error = self.receive(socket)
        self.assertEqual(error["type"], "error", text[:100])
        self.assertEqual(self.ask(socket, type="ping", id="alive")["id"], "alive")
        return error

    def closed(self, socket):
        """The code and the reason with which the server closes, and the messages before."""
        messages = []
        with self.assertRaises(ConnectionClosed) as closed:
            while True:
                messages.append(self.receive(socket))
        return closed.exception.rcvd.code, closed.exception.rcvd.reason, messages

    def metric(self, name):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.server.port}/metrics", timeout=PATIENCE_S) as metrics:
            lines = metrics.read().decode().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


class Rates(Limited):
    # capability: 24 60
    def test_a_bucket_refuses_what_is_too_much_and_never_a_ping(self):
        # One a second, so that a slow machine does not let much more through.
        self.start(rate_limit_enabled=True, rate_limit_messages_per_second=1, http_metrics=True)
        socket = self.client()
        begin = time.monotonic()
        for number in range(100):
            self.send(socket, type="publish", channel="news", id=number)
        replies = [self.receive(socket) for _ in range(100)]
        took_s = time.monotonic() - begin
        self.assertEqual([reply["id"] for reply in replies], list(range(100)))
        admitted = [reply for reply in replies if reply["type"] == "response"]
        self.assertTrue(20 <= len(admitted) <= 21 + took_s, f"{len(admitted)} in {took_s} s")
        self.assertEqual(replies[:20], admitted[:20])
        for reply in replies:
            if reply not in admitted:
                self.assertEqual((reply["code"], reply["error"]), ("rate_limited", "Rate limit exceeded"))
        self.assertEqual(self.metric("crore_messages_rate_limited_total"), 100 - len(admitted))
        for number in range(100):
            self.send(socket, type="ping", id=number)
        for number in range(100):
            pong = self.receive(socket)
            self.assertEqual((pong["type"], pong["id"]), ("pong", number))
        # The bucket fills again.
        eventually(lambda: self.ask(socket, type="publish", channel="news")["type"] != "error")

    # capability: 60
    def test_a_server_without_a_limit_refuses_nothing(self):
        self.start()
        socket = self.client()
        for number in range(500):
            self.send(socket, type="publish", channel="news", id=number)
        for _ in range(500):
            self.assertEqual(self.receive(socket)["type"], "response")

    # capability: 61
    def test_a_sliding_window_closes_with_1008(self):
        self.start(
            rate_limit_enabled=True,
            rate_limit_algorithm="sliding_window",
            rate_limit_on_exceed="close",
            rate_limit_close_code=1008,
        )
        socket = self.client()
        with contextlib.suppress(ConnectionClosed):
            for number in range(150):
                self.send(socket, type="publish", channel="news", id=number)
        code, reason, messages = self.closed(socket)
        self.assertEqual((code, reason), (1008, "Rate limit exceeded"))
        # Within the fifty seconds in which all of them count.
        self.assertEqual([message["type"] for message in messages], ["response"] * 100 + ["error"])
        self.assertEqual((messages[-1]["id"], messages[-1]["code"]), (100, "rate_limited"))

    # capability: 62
    def test_a_fixed_window_begins_anew(self):
        self.start(rate_limit_enabled=True, rate_limit_algorithm="fixed_window")
        socket = self.client()
        deadline = time.monotonic() + PATIENCE_S
        # Eleven at once are ten and an error, unless a second goes by in their midst.
        while True:
            for number in range(11):
                self.send(socket, type="message", channel="news", id=number)
            kinds = [self.receive(socket)["type"] for _ in range(11)]
            if kinds == ["response"] * 10 + ["error"]:
                break
            self.assertLess(time.monotonic(), deadline)
            time.sleep(1.1)
        time.sleep(1.1)
        self.assertEqual(self.ask(socket, type="message", channel="news", id=0)["type"], "response")

    # capability: 60
    def test_too_much_closes_with_4008_if_configured(self):
        self.start(
            rate_limit_enabled=True,
            rate_limit_algorithm="fixed_window",
            rate_limit_fixed_window=WINDOW,
            rate_limit_on_exceed="close",
        )
        socket = self.client()
        # A batch counts as what is in it, and ends where the connection does.
        self.send(socket, type="batch", messages=[{"type": "publish", "channel": "a", "id": n} for n in range(50)])
        code, reason, messages = self.closed(socket)
        self.assertEqual((code, reason), (4008, "Rate limit exceeded"))
        self.assertEqual([message["id"] for message in messages], list(range(11)))
        self.assertEqual(messages[-1]["code"], "rate_limited")

    # capability: 46 60
    def test_whatever_comes_counts(self):
        self.start(rate_limit_enabled=True, rate_limit_algorithm="fixed_window", rate_limit_fixed_window=WINDOW)
        for bad, code in (
            (b"\x00", "binary_unsupported"),
            ("{", "invalid_json"),
            ("[]", "invalid_message"),
            ('{"type":"dance"}', "unknown_type"),
            ('{"type":"batch","messages":[]}', "invalid_message"),
            ('{"type":"batch","messages":[{"type":"dance"}]}', "unknown_type"),
            ('{"type":"subscribe"}', "invalid_message"),
        ):
            socket = self.client()
            for expected in [code] * 10 + ["rate_limited"]:
                socket.send(bad)
                self.assertEqual(self.receive(socket)["code"], expected, bad)

    # capability: 60
    def test_a_user_has_one_limit_for_all_connections(self):
        self.start(
            rate_limit_enabled=True,
            rate_limit_algorithm="fixed_window",
            rate_limit_fixed_window=WINDOW,
            rate_limit_key="user",
            identity_trust_user_header=True,
            http_metrics=True,
        )
        # Enough for both cores to have some of them.
        anns = [self.client("ann") for _ in range(8)]
        kinds = [self.ask(ann, type="publish", channel="news")["type"] for ann in anns for _ in range(2)]
        self.assertEqual(kinds, ["response"] * 10 + ["error"] * 6)
        # Others are others, and who has no name is the only one of its kind.
        for other in (self.client("bob"), self.client(), self.client()):
            self.assertEqual(self.ask(other, type="publish", channel="news")["type"], "response")
        self.assertEqual(self.metric("crore_rate_limit_users"), 2)

    # capability: 60 61 62
    def test_to_come_back_is_no_way_around_the_limit_of_a_user(self):
        short = {"rate_limit_messages_per_second": 1, "rate_limit_burst": 5, "rate_limit_fixed_window": "3s"}
        for algorithm, most in (("token_bucket", 5), ("sliding_window", 100), ("fixed_window", 10)):
            with self.subTest(algorithm):
                limit = {"rate_limit_enabled": True, "rate_limit_key": "user", "rate_limit_algorithm": algorithm}
                self.start(**limit, **short, identity_trust_user_header=True, http_metrics=True)
                start, admitted = time.monotonic(), 0
                for _ in range(10):
                    with self.client("ann") as ann:
                        kinds = [self.ask(ann, type="publish", channel="news")["type"] for _ in range(most)]
                    admitted += kinds.count("response")
                # A busy machine takes its time, in which more may come.
                seconds = math.ceil(time.monotonic() - start)
                more = {"token_bucket": seconds, "sliding_window": 0, "fixed_window": seconds // 3 * most}[algorithm]
                self.assertTrue(most <= admitted <= most + more, (admitted, seconds))
                self.assertEqual(self.metric("crore_rate_limit_users"), 1)

    # capability: 60
    def test_a_user_is_forgotten_when_nothing_would_be_different(self):
        self.start(
            rate_limit_enabled=True,
            rate_limit_key="user",
            rate_limit_messages_per_second=100,
            rate_limit_users_max=1,
            identity_trust_user_header=True,
            http_metrics=True,
        )
        with self.client("ann") as ann:
            self.ask(ann, type="publish", channel="news")
            self.assertEqual(self.metric("crore_rate_limit_users"), 1)
            time.sleep(0.1)
        eventually(lambda: self.metric("crore_rate_limit_users") != 1)

    # capability: 60
    def test_users_for_whom_there_is_no_room_are_limited_by_connection(self):
        self.start(
            rate_limit_enabled=True,
            rate_limit_algorithm="fixed_window",
            rate_limit_fixed_window=WINDOW,
            rate_limit_key="user",
            rate_limit_users_max=1,
            identity_trust_user_header=True,
            http_metrics=True,
        )
        # A 256th part of the table has room for one user each.
        for user in range(600):
            with self.client(str(user)) as socket:
                self.assertEqual(self.ask(socket, type="publish", channel="news")["type"], "response")
        remembered = self.metric("crore_rate_limit_users")
        self.assertLessEqual(remembered, 256)
        self.assertEqual(self.metric("crore_rate_limit_unkept_total"), 600 - remembered)
        for user in range(20):
            with self.client(f"more {user}") as socket:
                kinds = [self.ask(socket, type="publish", channel="news")["type"] for _ in range(12)]
            self.assertEqual(kinds, ["response"] * 10 + ["error"] * 2)


class Batches(Limited):
    def setUp(self):
        self.start()

    # capability: 47
    def test_messages_of_a_batch_are_answered_one_by_one_in_order(self):
        sender, other = self.client(), self.client()
        self.assertEqual(self.ask(other, type="subscribe", channel="news")["type"], "subscribed")
        self.send(
            sender,
            type="batch",
            id="a batch has no answer",
            messages=[
                {"type": "ping", "id": 1},
                {"type": "subscribe", "id": 2, "channel": "mine"},
                {"type": "request", "id": 3, "method": "channels"},
                {"type": "message", "id": 4, "channel": "news", "data": {"n": 1}},
                {"type": "dance", "id": 5},
                {"type": "publish", "id": 6, "channel": "news", "data": {"n": 2}},
                17,
                {"type": "unsubscribe", "id": 7, "channel": "mine"},
                {"type": "request", "id": 8, "method": "channels"},
            ],
        )
        replies = [self.receive(sender) for _ in range(9)]
        self.assertEqual([reply.get("id") for reply in replies], [1, 2, 3, 4, 5, 6, None, 7, 8])
        kinds = ["pong", "subscribed", "response", "response", "error", "response", "error", "unsubscribed", "response"]
        self.assertEqual([reply["type"] for reply in replies], kinds)
        self.assertEqual((replies[4]["code"], replies[6]["code"]), ("unknown_type", "invalid_message"))
        self.assertEqual(replies[2]["data"], {"channels": ["mine"]})
        self.assertEqual(replies[8]["data"], {"channels": []})
        self.assertEqual([self.receive(other)["data"] for _ in range(2)], [{"n": 1}, {"n": 2}])
        self.assertEqual(self.ask(sender, type="ping", id="last")["id"], "last")

    # capability: 47
    def test_a_batch_that_is_none_is_refused_as_a_whole(self):
        sender, other = self.client(), self.client()
        self.assertEqual(self.ask(other, type="subscribe", channel="news")["type"], "subscribed")
        publish = {"type": "publish", "channel": "news"}
        for messages, code in (
            (None, "invalid_message"),
            ({}, "invalid_message"),
            ([], "invalid_message"),
            ([publish] * 101, "batch_too_long"),
            ([1] * 500_000, "batch_too_long"),
        ):
            batch = {"type": "batch", "id": 7, "messages": messages}
            error = self.refused(sender, json.dumps(batch, separators=(",", ":")))
            self.assertEqual((error["id"], error["code"], error["error"]), (7, code, "Invalid message"))
        self.send(sender, type="batch", messages=[publish] * 100)
        for _ in range(100):
            self.assertEqual(self.receive(sender)["type"], "response")
        for _ in range(100):
            self.assertEqual(self.receive(other)["type"], "message")
        self.assertEqual(self.ask(other, type="ping", id="no more")["id"], "no more")

    # capability: 47
    def test_a_batch_is_no_part_of_a_batch(self):
        socket = self.client()
        inner = {"type": "batch", "id": 1, "messages": [{"type": "ping"}]}
        self.send(socket, type="batch", messages=[inner, {"type": "ping", "id": 2}])
        error, pong = self.receive(socket), self.receive(socket)
        self.assertEqual((error["id"], error["code"]), (1, "invalid_message"))
        self.assertEqual((pong["type"], pong["id"]), ("pong", 2))

    # capability: 47
    def test_nothing_is_done_behind_a_disconnect(self):
        sender, other = self.client(), self.client()
        self.assertEqual(self.ask(other, type="subscribe", channel="news")["type"], "subscribed")
        publish = [{"type": "publish", "channel": "news", "data": n} for n in range(2)]
        self.send(sender, type="batch", messages=[publish[0], {"type": "disconnect"}, publish[1]])
        code, _, messages = self.closed(sender)
        self.assertEqual((code, [message["type"] for message in messages]), (1000, ["response"]))
        self.assertEqual(self.receive(other)["data"], 0)
        self.assertEqual(self.ask(other, type="ping", id="no more")["id"], "no more")


class Validation(Limited):
    def setUp(self):
        self.start()

    # capability: 46
    def test_what_is_no_json_and_what_is_no_message(self):
        socket = self.client()
        no_json = ("", "{", "hi", "{'type':'ping'}", '{"type":"ping"} {}', '{"type":"ping","data":01}', "[" * 100_000)
        for text in no_json:
            error = self.refused(socket, text)
            self.assertEqual((error["code"], error["error"]), ("invalid_json", "Invalid JSON"), text[:100])
        no_message = ("[]", "7", "null", '"a"', "{}", '{"type":7}', '{"type":"a","type":"a"}', '{"type":"a","id":{}}')
        for text in no_message:
            error = self.refused(socket, text)
            self.assertEqual((error["code"], error["error"]), ("invalid_message", "Invalid message"), text)

    # capability: 46
    def test_depth_is_bounded(self):
        socket, other = self.client(), self.client()
        self.ask(other, type="subscribe", channel="deep")

        def nested(levels):
            return '{"type":"publish","channel":"deep","data":' + "[" * levels + "]" * levels + "}"

        socket.send(nested(63))
        self.assertEqual(self.receive(socket)["data"], {"published": True})
        self.assertIn("[" * 63 + "]" * 63, other.recv(timeout=PATIENCE_S))
        for levels in (64, 1000, 500_000):
            error = self.refused(socket, nested(levels))
            self.assertEqual(error["detail"], "it is nested deeper than `limits.json_depth_max`")

    # capability: 46
    def test_odd_values_are_handed_on_as_they_came_and_odd_names_are_refused(self):
        socket, other = self.client(), self.client()
        self.ask(other, type="subscribe", channel="odd")
        # Keys that come twice are JSON by its grammar, and the receiver's to judge.
        for data in ("1e308", "-0.0", "9" * 308, '{"a":1,"a":2}', '"\\ud83d\\ude00"'):
            socket.send('{"type":"publish","channel":"odd","data":' + data + "}")
            self.assertEqual(self.receive(socket)["data"], {"published": True}, data[:100])
            self.assertIn(f'"data":{data},', other.recv(timeout=PATIENCE_S))
        # What many receivers could not read is nobody's to hand on.
        for data in ("1e999999", "9" * 5000, '"\\ud800"', '{"\\udfff":[]}', '"\\ude00\\ud83d"'):
            for text in (
                '{"type":"publish","channel":"odd","id":5,"data":' + data + "}",
                '{"type":"subscribe","channel":"odd","id":5,"metadata":' + data + "}",
                '{"type":"batch","id":5,"messages":[{"type":"message","channel":"odd","data":' + data + "}]}",
            ):
                error = self.refused(socket, text)
                self.assertEqual((error["code"], error["error"], error["id"]), ("invalid_json", "Invalid JSON", 5), text[:100])
                self.assertIn("surrogate" if "ud" in data else "double", error["detail"])
        for text in ('{"type":"subscribe","channel":"\\ud800"}', '{"type":"\\ud800"}', '{"type":"ping","id":1e400}'):
            error = self.refused(socket, text)
            self.assertEqual((error["code"], "id" in error), ("invalid_json", False), text)
        for text, code in (
            ('{"type":"subscribe","channel":"a\\u0000"}', "invalid_channel"),
            ('{"type":"subscribe","channel":1e99}', "invalid_channel"),
            ('{"type":"subscribe","channel":""}', "invalid_channel"),
            ('{"type":"ping","id":' + "9" * 5000 + "}", "invalid_message"),
            ('{"type":"subscribe","channel":"a","channel":"b"}', "invalid_message"),
        ):
            error = self.refused(socket, text)
            self.assertEqual((error["code"], error["error"]), (code, "Invalid message"), text[:100])


class Hostile(Limited):
    # capability: 31 60
    def test_a_flood_leaves_others_alone(self):
        self.start(rate_limit_enabled=True, rate_limit_messages_per_second=1)
        reader, victim = self.client(), self.client()
        self.assertEqual(self.ask(reader, type="subscribe", channel="square")["type"], "subscribed")
        begin, stop = time.monotonic(), threading.Event()

        def flood(socket, reads):
            text = json.dumps({"type": "publish", "channel": "square", "data": "x" * 100})
            with contextlib.suppress(ConnectionClosed):
                while not stop.is_set():
                    for _ in range(50):
                        socket.send(text)
                    for _ in range(50 if reads else 0):
                        socket.recv(timeout=PATIENCE_S)

        sockets = [self.client() for _ in range(3)]
        floods = [threading.Thread(target=flood, args=(socket, socket != sockets[0])) for socket in sockets]
        for thread in floods:
            thread.start()
        try:
            for _ in range(20):
                self.assertEqual(self.receive(reader)["type"], "message")
            for number in range(100):
                pong = self.ask(victim, type="ping", id=number)
                self.assertEqual((pong["type"], pong["id"]), ("pong", number))
        finally:
            stop.set()
            # The server reads no more of who reads nothing, so that this one may wait to send.
            sockets[0].socket.shutdown(SHUT_RDWR)
            for thread in floods:
                thread.join()
        self.send(reader, type="ping")
        heard = 20
        while self.receive(reader)["type"] == "message":
            heard += 1
        took_s = time.monotonic() - begin
        self.assertLessEqual(heard, 3 * (21 + took_s), f"in {took_s} s")

    # capability: 31
    def test_a_hundred_thousand_subscriptions(self):
        self.start()
        socket, victim = self.client(), self.client()
        outcomes = {}
        for start in range(0, 100_000, 100):
            channels = [f"channel {number}" for number in range(start, start + 100)]
            self.send(socket, type="batch", messages=[{"type": "subscribe", "channel": name} for name in channels])
            for _ in channels:
                reply = self.receive(socket)
                outcome = reply.get("code", reply["type"])
                outcomes[outcome] = outcomes.get(outcome, 0) + 1
        self.assertEqual(outcomes, {"subscribed": 1024, "too_many_subscriptions": 100_000 - 1024})
        self.assertEqual(self.ask(victim, type="ping", id=1)["id"], 1)
        self.assertEqual(self.ask(socket, type="publish", channel="channel 0")["type"], "response")

    # capability: 31
    def test_a_channel_name_of_ten_megabytes(self):
        text = json.dumps({"type": "subscribe", "id": 1, "channel": "x" * 10_000_000})
        self.start()
        victim, socket = self.client(), self.client()
        with contextlib.suppress(ConnectionClosed):
            socket.send(text)
        self.assertEqual(self.closed(socket)[0], 1009)
        self.assertEqual(self.ask(victim, type="ping", id=1)["id"], 1)
        # Where so long a message may come, the name is still too long.
        self.start(limits_message_bytes_max=16 << 20)
        error = self.refused(self.client(), text)
        self.assertEqual((error["id"], error["code"], error["error"]), (1, "invalid_channel", "Invalid message"))


if __name__ == "__main__":
    unittest.main()
