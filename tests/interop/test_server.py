"""Python's `websockets` and plain HTTP against the `crore` server on two cores."""

import signal
import unittest
import urllib.error
import urllib.request

from websockets.exceptions import ConnectionClosedOK, InvalidStatus
from websockets.sync.client import connect

from support import PATIENCE_S, Messages, Server


class Crore(Messages, unittest.TestCase):
    def setUp(self):
        self.server = self.enterContext(Server("crore", "--listen", "127.0.0.1:{port}", "--cores", 2))
        self.http = f"http://127.0.0.1:{self.server.port}"

    def client(self, path="ws"):
        """A connection that has been welcomed."""
        socket = self.enterContext(connect(self.server.url + path))
        self.assertEqual(self.receive(socket)["type"], "welcome")
        return socket

    def subscribe(self, socket, channel):
        self.send(socket, type="subscribe", id=f"to {channel}", channel=channel)
        reply = self.receive(socket)
        self.assertEqual((reply["type"], reply["id"], reply["channel"]), ("subscribed", f"to {channel}", channel))

    # capability: 4 8 82
    def test_http(self):
        with urllib.request.urlopen(f"{self.http}/healthz", timeout=PATIENCE_S) as health:
            self.assertEqual(health.status, 200)
        with urllib.request.urlopen(self.http, timeout=PATIENCE_S) as page:
            self.assertTrue(page.headers["Content-Type"].startswith("text/html"))
            self.assertIn("<title>Crore</title>", page.read().decode())
        with self.assertRaises(urllib.error.HTTPError) as missing:
            urllib.request.urlopen(f"{self.http}/missing", timeout=PATIENCE_S)
        self.assertEqual(missing.exception.code, 404)
        with self.assertRaises(InvalidStatus) as refused:
            connect(self.server.url + "missing")
        self.assertEqual(refused.exception.response.status_code, 404)

    # capability: 4 38
    def test_either_path_leads_to_the_same_channels(self):
        sockets = [self.client(""), self.client("ws"), self.client("ws?query=1")]
        for socket in sockets:
            self.subscribe(socket, "news")
        self.send(sockets[0], type="publish", channel="news", data={"n": 1}, id=1)
        for socket in sockets[1:]:
            message = self.receive(socket)
            self.assertEqual((message["type"], message["channel"], message["data"]), ("message", "news", {"n": 1}))
        # Who publishes is told that it has worked, and not what it has said itself.
        self.assertEqual(self.receive(sockets[0])["data"], {"published": True})

    # capability: 31 34 46
    def test_mistakes_are_answered_and_survived(self):
        socket = self.client()
        for mistake in ("{", "[1]", '{"type": "dance", "id": 7}', '{"type": "subscribe"}'):
            socket.send(mistake)
            self.assertEqual(self.receive(socket)["type"], "error")
        self.send(socket, type="ping", id=8)
        pong = self.receive(socket)
        self.assertEqual((pong["type"], pong["id"]), ("pong", 8))

    # capability: 17 29
    def test_a_stop_says_goodbye(self):
        sockets = [self.client() for _ in range(20)]
        for socket in sockets:
            self.send(socket, type="join", channel="room")
            while self.receive(socket)["type"] != "joined":
                pass
        self.assertEqual(self.server.stop(signal.SIGTERM), 0)
        for socket in sockets:
            with self.assertRaises(ConnectionClosedOK) as closed:
                while True:
                    # All leave, and nobody is told so of each.
                    self.assertEqual(self.receive(socket)["type"], "join")
            self.assertEqual(closed.exception.rcvd.code, 1001)
            self.assertTrue(closed.exception.rcvd_then_sent)


if __name__ == "__main__":
    unittest.main()
