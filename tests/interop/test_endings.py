"""Connections that end in every way: nothing of them is left, for any that looks."""

import json
import os
import pathlib
import subprocess
import tempfile
import unittest

from websockets.sync.client import connect

from api import ApiServer, Client
from raw import CLOSE, CONTINUATION, TEXT, Raw, frame, request
from support import PATIENCE_S, PROGRAMS, eventually

SECRET = "a secret of more than thirty-two bytes"
# Connections that end in each way.
CONNECTIONS = 10
CHANNELS = [f"channel {number}" for number in range(5)]
SETTINGS = {
    # Of these a process can be asked how many it has.
    "CRORE_DESCRIPTORS": "regular",
    # Each ends in the way that is meant, however slow the machine is.
    "CRORE_LIMITS_PING_INTERVAL": "1h",
    "CRORE_LIMITS_HANDSHAKE_TIMEOUT": "1s",
    "CRORE_LIMITS_CLOSE_TIMEOUT": "1s",
    "CRORE_LIMITS_OUTBOX_BYTES_MAX": "262144",
    "CRORE_LIMITS_CONNECTIONS_PER_IP_MAX": "1000",
    "CRORE_LIMITS_CONNECTIONS_PER_USER_MAX": str(CONNECTIONS),
    "CRORE_RATE_LIMIT_ENABLED": "true",
    "CRORE_RATE_LIMIT_KEY": "user",
    "CRORE_RATE_LIMIT_ALGORITHM": "fixed_window",
    "CRORE_RATE_LIMIT_FIXED_WINDOW": "1h",
    "CRORE_RATE_LIMIT_FIXED_WINDOW_MESSAGES": "1000",
    "CRORE_RATE_LIMIT_ON_EXCEED": "close",
}


class Endings(unittest.TestCase):
    def start(self, **settings):
        self.server = self.enterContext(ApiServer(**SETTINGS | settings))
        self.http = self.enterContext(self.server.http())
        # It keeps one connection for all requests.
        self.http.get("/healthz")

    def state(self):
        """What the server has at the moment, as far as it shows."""
        families = self.server.metrics()
        value = lambda name: families[f"crore_{name}"].samples[0].value
        return {
            "descriptors": len(os.listdir(f"/proc/{self.server.process.pid}/fd")),
            "channels": self.http.get("/api/channels").json()["channels"],
            "connections of ann": self.http.get("/api/users/ann").json()["connections"],
            **{name: value(name) for name in ("connections", "connections_open", "connections_hot", "topics")},
        }

    def settles(self, before):
        eventually(lambda: self.state() == before, lambda: f"{self.state()} is left, of {before}")

    def ann(self, **options):
        """A connection with a name, channels, rooms, a place in the limits, and half a message."""
        client = self.enterContext(Raw(self.server.port, **options)).upgraded(headers=["X-User-ID: ann"])
        self.connection_id = client.hear()["connection_id"]
        for channel in CHANNELS:
            self.assertEqual(client.ask(type="subscribe", channel=channel)["type"], "subscribed")
        self.assertEqual(client.ask(type="join", channel="room")["type"], "joined")
        return client

    def assert_ends(self, client, code):
        self.assertEqual(client.end()[0], code)

    def all_ways(self):
        return {name.removeprefix("way_"): getattr(self, name) for name in dir(self) if name.startswith("way_")}

    # capability: 21 30 31 33
    def test_nothing_is_left_however_connections_end(self):
        self.start()
        with Client(self.server, "bob") as bob:
            bob.subscribe("all")
            before = self.state()
            self.assertEqual(before["connections_open"], 1)
            for name, way in self.all_ways().items():
                with self.subTest(name):
                    # All that the ways have sent would count for an hour.
                    self.http.post("/api/users/ann/rate-limit/reset")
                    for _ in range(CONNECTIONS):
                        way()
                    self.settles(before)
            self.http.post("/api/publish", json={"channel": "all", "data": "you are still here"})
            self.assertEqual(bob.receive()["data"], "you are still here")

    def way_a_close_frame_of_a_library(self):
        with connect(self.server.url + "ws", additional_headers={"X-User-ID": "ann"}) as client:
            client.recv(timeout=PATIENCE_S)
            for channel in CHANNELS:
                client.send(json.dumps({"type": "subscribe", "channel": channel}))
            client.close(4000, "enough")
            self.assertEqual(client.close_code, 4000)

    def way_a_message_that_asks_for_it(self):
        client = self.ann()
        client.say(type="disconnect")
        self.assert_ends(client, 1000)
        client.send(frame(CLOSE, b"\x03\xe8"))

    def way_an_end_of_the_stream(self):
        client = self.ann()
        client.send(frame(TEXT, b"half", fin=False))
        client.socket.close()

    def way_a_reset(self):
        client = self.ann()
        client.send(frame(TEXT, b"x" * 3000, length=5000))
        client.reset()

    def way_a_frame_without_a_mask(self):
        client = self.ann()
        client.send(frame(TEXT, b"{}", masked=False))
        self.assert_ends(client, 1002)

    def way_an_opcode_that_there_is_not(self):
        client = self.ann()
        client.send(frame(0xB))
        self.assert_ends(client, 1002)

    def way_text_that_is_none(self):
        client = self.ann()
        client.send(frame(TEXT, b"\xff"))
        self.assert_ends(client, 1007)

    def way_a_message_that_is_too_long(self):
        client = self.ann()
        client.send(frame(TEXT, b"x" * 1000, fin=False) + frame(CONTINUATION, b"x", length=1 << 20))
        self.assert_ends(client, 1009)

    def way_the_api_closes_a_connection(self):
        client = self.ann()
        self.http.post(f"/api/connections/{self.connection_id}/disconnect", json={"code": 4321})
        self.assert_ends(client, 4321)
        client.send(frame(CLOSE, b"\x10\xe1"))

    def way_the_api_closes_a_user_that_never_answers(self):
        client = self.ann()
        self.http.post("/api/users/ann/disconnect", json={"code": 1013})
        self.assert_ends(client, 1013)
        client.is_cut()

    def way_too_many_messages(self):
        client = self.ann()
        publish = {"type": "message", "channel": "nobody"}
        for _ in range(11):
            client.say(type="batch", messages=[publish] * 100)
        self.assert_ends(client, 4008)
        client.send(frame(CLOSE, b"\x0f\xa8"))
        # What she has sent counts for an hour, whether she has a connection or not.
        remembered = lambda: self.server.metrics()["crore_rate_limit_users"].samples[0].value
        before = remembered()
        self.http.post("/api/users/ann/rate-limit/reset")
        eventually(lambda: remembered() < before)

    def way_a_reader_that_does_not_read(self):
        client = self.ann(receive_bytes=4096)
        # Far more than the kernel takes for it and waits for it.
        for _ in range(40):
            self.http.post("/api/users/ann/send", json={"data": "x" * 200_000})
        client.is_cut()

    def way_half_a_request(self):
        client = self.enterContext(Raw(self.server.port))
        client.send(request()[:60])
        client.is_cut()

    def way_a_refused_request(self):
        client = self.enterContext(Raw(self.server.port))
        client.send(request(path="/nowhere"))
        self.assertIn(" 404 ", client.head())

    # capability: 21 22 27 30 84
    def test_who_is_closed_has_left_before_it_answers(self):
        rules = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "crore.toml"
        rules.write_text('[[channels]]\npattern = "room"\npresence = "list"\n')
        self.start(
            CRORE_CONFIG=str(rules),
            CRORE_LIMITS_CLOSE_TIMEOUT="1h",
            CRORE_LIMITS_CONNECTIONS_PER_USER_MAX="1",
            CRORE_TYPING_TIMEOUT="1h",
            CRORE_TYPING_INTERVAL_MIN="1ms",
        )
        ways = {
            "the API closes a user": lambda _: self.http.post("/api/users/ann/disconnect", json={}),
            "the API closes a connection": lambda _: self.http.post(
                f"/api/connections/{self.connection_id}/disconnect", json={}
            ),
            "it asks for it": lambda client: client.say(type="disconnect"),
            "it says too much": lambda client: [
                client.say(type="batch", messages=[{"type": "message", "channel": "nobody"}] * 100) for _ in range(11)
            ],
        }
        with Client(self.server, "bob") as bob:
            bob.subscribe("room")
            present = lambda: [
                user["user"] for user in bob.ask(type="presence", id=1, channel="room")["data"]["users"]
            ]
            eventually(lambda: present() == ["bob"])
            unanswered = []
            for name, way in ways.items():
                with self.subTest(name):
                    # She may have one connection, and those before it have not answered.
                    client = self.ann()
                    unanswered.append(client)
                    self.assertEqual(bob.receive()["type"], "join")
                    client.say(type="typing", channel="room", isTyping=True)
                    self.assertTrue(bob.receive()["isTyping"])
                    eventually(lambda: present() == ["ann", "bob"])
                    way(client)
                    self.assertIsNotNone(client.end()[0])
                    self.assertEqual(self.http.get("/api/users/ann").json()["connections"], [])
                    self.assertEqual(self.http.post("/api/users/ann/send", json={"data": 1}).status_code, 404)
                    self.assertFalse(bob.receive()["isTyping"])
                    left = bob.receive()
                    self.assertEqual((left["type"], left["from"]), ("leave", "ann"))
                    eventually(lambda: present() == ["bob"])
            # A connection is one until it has ended.
            self.assertEqual(self.state()["connections_open"], 1 + len(ways))
            for client in unanswered:
                client.send(frame(CLOSE, b"\x03\xe8"))
            eventually(lambda: self.state()["connections"] == 1)
            self.assertTrue(bob.nothing_came(), "nobody leaves twice")

    # capability: 21 23
    def test_nothing_is_left_of_who_answers_no_ping(self):
        self.start(CRORE_LIMITS_PING_INTERVAL="1s")
        with Client(self.server, "bob") as bob:
            before = self.state()
            silent = [self.ann() for _ in range(CONNECTIONS)]
            for client in silent:
                self.assertTrue(client.is_cut())
            self.settles(before)
            self.assertEqual(bob.ask(type="ping")["type"], "pong")

    # capability: 21 27
    def test_nothing_is_left_of_a_connection_too_many(self):
        self.start()
        with Client(self.server, "bob"):
            before = self.state()
            anns = [self.ann() for _ in range(CONNECTIONS)]
            for _ in range(CONNECTIONS):
                client = self.enterContext(Raw(self.server.port)).upgraded(headers=["X-User-ID: ann"])
                self.assert_ends(client, 4029)
                client.send(frame(CLOSE, b"\x0f\xbd"))
            self.assertEqual(len(self.state()["connections of ann"]), CONNECTIONS)
            for client in anns:
                client.reset()
            self.settles(before)

    # capability: 21 55 58 59
    def test_nothing_is_left_of_who_is_not_let_in_or_has_been_for_too_long(self):
        self.start(
            CRORE_AUTH_MODE="required",
            CRORE_AUTH_SECRET=SECRET,
            CRORE_AUTH_TIMEOUT="1s",
            CRORE_AUTH_LEEWAY="1s",
            CRORE_IDENTITY_TRUST_USER_HEADER=None,
        )
        before = self.state()
        query = lambda token: self.enterContext(Raw(self.server.port)).upgraded(path=f"/ws?token={token}")
        for _ in range(CONNECTIONS):
            self.assert_ends(query("garbage"), 4001)
        self.settles(before)
        nobody = [self.enterContext(Raw(self.server.port)).upgraded() for _ in range(CONNECTIONS)]
        for client in nobody:
            self.assert_ends(client, 4001)
        self.settles(before)
        token = self.token("ann", "2s")
        anns = [query(token) for _ in range(CONNECTIONS)]
        for client in anns:
            code, heard = client.end()
            self.assertEqual(code, 4001)
            self.assertEqual([json.loads(text)["type"] for _, text in heard], ["authenticated", "welcome", "error"])
        self.settles(before)

    def token(self, user, lasts):
        command = [PROGRAMS / "crore", "gen-token", "--user", user, "--expires", lasts]
        run = subprocess.run(command, env=self.server.environment, capture_output=True, text=True, check=True)
        return run.stdout.strip()


if __name__ == "__main__":
    unittest.main()
