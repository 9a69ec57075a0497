"""Messages that wait for the key of a token, and those behind them: Python's `websockets` against the `crore` server."""

import http.server
import socket
import threading
import time
import unittest
import urllib.request

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from support import PATIENCE_S
from test_auth import AuthCase, Provider, token


class SlowProvider(Provider):
    """Answers when it may."""

    def do_GET(self):
        self.gate.wait(PATIENCE_S)
        super().do_GET()


class Inbound(AuthCase):
    def setUp(self):
        super().setUp()
        self.provider = type("TheProvider", (SlowProvider,), {"gate": threading.Event()})
        listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.provider)
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        self.addCleanup(listener.server_close)
        self.addCleanup(listener.shutdown)
        self.addCleanup(self.provider.gate.set)
        self.url = f'"http://127.0.0.1:{listener.server_port}/keys"'
        self.first = self.add_key("first")
        self.provider.gate.set()

    def add_key(self, name):
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        self.provider.keys = [*self.provider.keys, public | {"kid": name, "use": "sig", "alg": "RS256"}]
        return token("ann", key, "RS256", headers={"kid": name})

    def start(self, limits=""):
        more = f"[limits]\n{limits}"
        self.serve(secret=None, jwks_url=self.url, jwks_refresh_min='"1s"', http="metrics = true", more=more)

    def open(self):
        """A connection with a token, for which a second one's key has to be fetched."""
        socket = self.connect(f"?token={self.first}", compression=None)
        self.assert_authenticated(socket)
        time.sleep(1.2)
        self.provider.gate.clear()
        second = self.add_key("second")
        self.send(socket, type="refresh", id="refresh", token=second)
        return socket

    def counted(self, name):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.server.port}/metrics", timeout=PATIENCE_S) as answer:
            lines = answer.read().decode().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith(f"crore_{name} ")))

    # capability: 65
    def test_a_thousand_messages_wait_and_more_are_dropped_with_the_documented_text(self):
        self.start('inbound_overload = "drop"')
        socket = self.open()
        numbers = range(1100)
        for start in numbers[::100]:
            messages = [{"type": "request", "method": "time", "id": n} for n in numbers[start : start + 100]]
            self.send(socket, type="batch", messages=messages)
        for number in numbers[1000:]:
            self.assertEqual(
                self.receive(socket),
                {
                    "type": "error",
                    "id": number,
                    "code": "overloaded",
                    "error": "Server overloaded, please slow down",
                },
            )
        self.provider.gate.set()
        self.assertEqual(self.receive(socket)["id"], "refresh")
        for number in numbers[:1000]:
            self.assertEqual(self.receive(socket)["id"], number)
        self.assertEqual(self.counted("messages_overloaded_total"), 100)
        self.assertEqual(self.counted("inbound_pauses_total"), 0)

    # capability: 65
    def test_reading_stops_before_anything_is_dropped(self):
        self.start()
        sent, padding = [], "x" * 60_000
        waiting = self.open()
        waiting.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)

        def talk():
            for number in range(300):
                self.send(waiting, type="request", method="time", id=number, data=padding)
                sent.append(number)

        talker = threading.Thread(target=talk, daemon=True)
        talker.start()
        # 18 MB are more than the kernel takes of a peer that does not read: the talker comes to a stop.
        before = -1
        while before != len(sent):
            before = len(sent)
            time.sleep(0.2)
        self.assertLess(before, 300)
        self.provider.gate.set()
        self.assertEqual(self.receive(waiting)["type"], "authenticated")
        for number in range(300):
            self.assertEqual(self.receive(waiting)["id"], number)
        talker.join(PATIENCE_S)
        self.assertEqual(self.counted("inbound_pauses_total"), 1)
        self.assertEqual(self.counted("messages_overloaded_total"), 0)

    # capability: 65 55
    def test_what_is_said_behind_a_token_is_said_by_its_user(self):
        """Whether its key is known or not; and of a stranger nothing is kept, whatever the setting."""
        for overload in ("pause", "drop"):
            with self.subTest(overload):
                self.provider.gate.set()
                self.provider.keys = self.provider.keys[:1]
                self.start(f'inbound_overload = "{overload}"')
                time.sleep(1.2)
                second = self.add_key("second")
                self.provider.gate.clear()
                by_message, by_query = self.connect(), self.connect(f"?token={second}")
                self.send(by_message, type="auth", id="auth", token=second)
                for client in (by_message, by_query):
                    for number in range(20):
                        self.send(client, type="request", method="whoami", id=number)
                while self.counted("inbound_pauses_total") < 2:
                    time.sleep(0.05)
                self.provider.gate.set()
                for client in (by_message, by_query):
                    self.assertEqual(self.receive(client)["type"], "authenticated")
                    self.assertEqual(self.receive(client)["type"], "welcome")
                    for number in range(20):
                        answer = self.receive(client)
                        self.assertEqual((answer["id"], answer["data"]["user_id"]), (number, "ann"))


if __name__ == "__main__":
    unittest.main()
