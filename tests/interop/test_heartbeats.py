"""Idle connections: pinged, measured, kept alive through proxies that cut what is silent, and cut when they are gone."""

import json
import select
import socket
import subprocess
import threading
import time
import tomllib
import unittest
import urllib.request

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from raw import PING, PONG, Raw, frame
from support import PATIENCE_S, PROGRAMS, Server

# Of a proxy that is in a hurry, and many times the interval of the pings that are to come through it.
PROXY_TIMEOUT_S = 8


class Proxy:
    """A relay to a port that cuts a connection on which nothing has come for PROXY_TIMEOUT_S, in either direction."""

    def __init__(self, port):
        self.to = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "ws://127.0.0.1:%d/ws" % self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()

    def serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.relay, args=(client,), daemon=True).start()

    def relay(self, client):
        with client, socket.create_connection(("127.0.0.1", self.to)) as server:
            other = {client: server, server: client}
            while ready := select.select(other, [], [], PROXY_TIMEOUT_S)[0]:
                for end in ready:
                    data = end.recv(65_536)
                    if not data:
                        return
                    other[end].sendall(data)


class Heartbeats(unittest.TestCase):
    def start(self, **settings):
        variables = {f"CRORE_{name.upper()}": str(value) for name, value in settings.items()}
        arguments = ("--listen", "127.0.0.1:{port}", "--cores", 2)
        self.server = self.enterContext(
            Server("crore", *arguments, variables={"CRORE_HTTP_METRICS": "true", **variables})
        )
        return self.server

    def metric(self, name):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.server.port}/metrics", timeout=PATIENCE_S) as metrics:
            lines = metrics.read().decode().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))

    def open(self, url):
        client = self.enterContext(connect(url))
        client.recv(timeout=PATIENCE_S)
        return client

    def is_served(self, client):
        client.send('{"type":"ping","id":7}')
        self.assertEqual(json.loads(client.recv(timeout=PATIENCE_S))["id"], 7)

    # capability: 23
    def test_who_answers_stays_and_who_does_not_is_cut(self):
        self.start(limits_ping_interval="3s")
        client = self.open(self.server.url + "ws")
        silent = self.enterContext(Raw(self.server.port)).upgraded()
        silent.hear()
        code, frames = silent.end()
        self.assertIsNone(code, "without a close frame: who does not answer would not answer that, either")
        self.assertEqual([opcode for opcode, _ in frames], [PING], "cut when the next one was due")
        self.assertEqual(self.metric("crore_closed_ping_timeout_total"), 1)
        self.is_served(client)

    # capability: 16 23
    def test_any_sign_of_life_counts(self):
        self.start(limits_ping_interval="3s")
        client = self.enterContext(Raw(self.server.port)).upgraded()
        client.hear()
        for answer in (lambda payload: frame(PONG, payload), lambda _: frame(PONG), lambda _: frame(PING)):
            for _ in range(2):
                while (heard := client.frame())[0] != PING:
                    self.assertEqual(heard[0], PONG)
                client.send(answer(heard[1]))
        self.assertEqual(self.metric("crore_closed_ping_timeout_total"), 0)

    # capability: 23
    def test_the_default_is_thirty_seconds(self):
        default = subprocess.run([PROGRAMS / "crore", "default-config"], capture_output=True, text=True, check=True)
        self.assertEqual(tomllib.loads(default.stdout)["limits"]["ping_interval"], "30s")

    # capability: 26
    def test_a_proxy_that_cuts_the_silent_does_not_cut_who_is_pinged(self):
        proxies = [self.enterContext(Proxy(self.start(limits_ping_interval=each).port)) for each in ("1s", "1h")]
        pinged, silent = [self.open(proxy.url) for proxy in proxies]
        begun = time.monotonic()
        with self.assertRaises(ConnectionClosed):
            silent.recv(timeout=PATIENCE_S)
        while time.monotonic() < begun + 2 * PROXY_TIMEOUT_S:
            time.sleep(0.5)
        self.is_served(pinged)


if __name__ == "__main__":
    unittest.main()
