"""Where clients are, for Python's `websockets`: behind proxies, limited by address, logged, and sent away at the end."""

import json
import re
import socket
import struct
import tempfile
import time
import unittest
import urllib.request

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from support import PATIENCE_S, Server, eventually

RETRY_AFTER_S = range(5, 31)


class Address(unittest.TestCase):
    def start(self, **settings):
        """A server with settings as they are called in the environment, without their prefix."""
        self.log = self.enterContext(tempfile.TemporaryFile("w+"))
        environment = {f"CRORE_{name}": str(value) for name, value in settings.items()}
        arguments = ("--listen", "127.0.0.1:{port}", "--cores", 2)
        server = Server("crore", *arguments, variables={"CRORE_LOG_FORMAT": "json", **environment}, stderr=self.log)
        self.server = self.enterContext(server)

    def client(self, **headers):
        """An open connection and its welcome. Names of headers have underscores for their dashes."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        client = self.enterContext(connect(self.server.url + "ws", additional_headers=headers))
        client.welcome = json.loads(client.recv(timeout=PATIENCE_S))
        return client

    def refused(self, **headers):
        """The answer to one that is not let in."""
        with self.assertRaises(InvalidStatus) as refused:
            self.client(**headers)
        return refused.exception.response

    def connect_for(self, address, headers=None):
        """Through HAProxy, as far as the server can tell: its header, then the client's own bytes."""
        raw = socket.create_connection(("127.0.0.1", self.server.port), timeout=PATIENCE_S)
        family, addresses = (0x11, struct.pack("!4s4sHH", socket.inet_aton(address), bytes(4), 4711, 80)) if address else (0, b"")
        raw.sendall(b"\r\n\r\n\0\r\nQUIT\n\x21" + struct.pack("!BH", family, len(addresses)) + addresses)
        return self.enterContext(connect(self.server.url + "ws", sock=raw, additional_headers=headers))

    def metric(self, name):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.server.port}/metrics", timeout=PATIENCE_S) as answer:
            return float(re.search(rf"^{name} (\S+)$", answer.read().decode(), re.MULTILINE).group(1))

    def logged(self, event):
        self.log.seek(0)
        lines = [json.loads(line) for line in self.log.read().splitlines() if line.endswith("}")]
        return [line for line in lines if line["message"] == event]

    # capability: 27
    def test_an_address_has_as_many_connections_as_it_may(self):
        self.start(TRUSTED_PROXIES="127.0.0.0/8", LIMITS_CONNECTIONS_PER_IP_MAX=3, HTTP_METRICS="true")
        sockets = [self.client(X_Forwarded_For="6.6.6.6, 198.51.100.1") for _ in range(3)]
        answer = self.refused(X_Forwarded_For="7.7.7.7, 198.51.100.1, 127.0.0.2")
        self.assertEqual(answer.status_code, 429)
        self.assertIn(int(answer.headers["Retry-After"]), RETRY_AFTER_S)
        self.assertEqual(self.metric("crore_refused_address_total"), 1)
        self.client(X_Forwarded_For="198.51.100.2")
        # Plain requests are not among them.
        with urllib.request.urlopen(f"http://127.0.0.1:{self.server.port}/healthz", timeout=PATIENCE_S) as health:
            self.assertEqual(health.status, 200)
        # Whoever goes makes room, in either way.
        sockets[0].close()
        sockets[1].socket.close()

        def let_in():
            try:
                return self.client(X_Forwarded_For="198.51.100.1")
            except InvalidStatus:
                return None

        eventually(let_in)
        eventually(let_in)
        self.assertEqual(self.refused(X_Forwarded_For="198.51.100.1").status_code, 429)

    # capability: 27
    def test_a_site_of_ipv6_is_one_address(self):
        self.start(TRUSTED_PROXIES="127.0.0.1", LIMITS_CONNECTIONS_PER_IP_MAX=2, CLIENT_ADDRESS_HEADER="forwarded")
        for host in (1, 2):
            self.client(Forwarded=f'for="[2001:db8:0:1::{host}]:4711";proto=https')
        self.assertEqual(self.refused(Forwarded='for="[2001:db8:0:1::3]"').status_code, 429)
        self.client(Forwarded='for="[2001:db8:0:2::3]"')

    # capability: 10 27
    def test_a_quote_that_nobody_closes_hides_no_address(self):
        self.start(TRUSTED_PROXIES="127.0.0.1", LIMITS_CONNECTIONS_PER_IP_MAX=1, CLIENT_ADDRESS_HEADER="forwarded")
        # What the client sends, and then what its proxy adds.
        added = 'for="198.51.100.9:4711";proto=https'
        self.client(Forwarded=added)
        for number, forged in enumerate(('for=1.2.3.{};x="', 'for="1.2.3.{}', 'for=1.2.3.{};x="\\', "for=1.2.3.{}")):
            self.assertEqual(self.refused(Forwarded=f"{forged.format(number)}, {added}").status_code, 429, forged)

    # capability: 10
    def test_an_ipv4_mapped_network_of_proxies_is_the_one_of_ipv4(self):
        self.start(TRUSTED_PROXIES="::ffff:127.0.0.0/104", LIMITS_CONNECTIONS_PER_IP_MAX=1)
        for host in (1, 2):
            self.client(X_Forwarded_For=f"198.51.100.{host}")

    # capability: 27
    def test_nobody_untrusted_says_where_it_is(self):
        self.start(TRUSTED_PROXIES="10.0.0.0/8", LIMITS_CONNECTIONS_PER_IP_MAX=1)
        self.client(X_Forwarded_For="198.51.100.1")
        self.assertEqual(self.refused(X_Forwarded_For="198.51.100.2").status_code, 429)

    # capability: 9
    def test_a_user_is_named_by_trusted_proxies_alone(self):
        for proxies, named in (("10.0.0.0/8", False), ("127.0.0.1", True)):
            self.start(TRUSTED_PROXIES=proxies, IDENTITY_TRUST_USER_HEADER="true")
            welcome = self.client(X_User_ID="ann").welcome
            expected = "ann" if named else welcome["connection_id"]
            self.assertEqual(welcome["user_id"], expected)

    # capability: 9
    def test_a_user_is_named_once_or_not_at_all(self):
        self.start(TRUSTED_PROXIES="127.0.0.1", IDENTITY_TRUST_USER_HEADER="true")
        for names in (("admin", "ann"), ("ann", "ann"), ("", "ann")):
            headers = [("X-User-ID", name) for name in names]
            with self.assertRaises(InvalidStatus) as refused:
                self.enterContext(connect(self.server.url + "ws", additional_headers=headers))
            response = refused.exception.response
            self.assertEqual((response.status_code, b"once" in response.body), (400, True))
        # What is sent to a connection by its identifier is for nobody else.
        response = self.refused(X_User_ID=self.client().welcome["connection_id"])
        self.assertEqual((response.status_code, b"identifier" in response.body), (400, True))

    # capability: 10 99
    def test_connections_are_logged_with_user_address_and_end(self):
        self.start(
            TRUSTED_PROXIES="127.0.0.1",
            CLIENT_ADDRESS_HEADER="x-real-ip",
            IDENTITY_TRUST_USER_HEADER="true",
            LOG_CONNECTIONS="true",
        )
        client = self.client(X_User_ID="ann", X_Real_IP="198.51.100.1")
        client.close(4000, "enough")
        eventually(lambda: self.logged("closed"))
        [opened], [closed] = self.logged("open"), self.logged("closed")
        for event in (opened, closed):
            self.assertEqual(event["connection"], client.welcome["connection_id"])
            self.assertEqual((event["user"], event["address"]), ("ann", "198.51.100.1"))
        self.assertEqual((closed["code"], closed["reason"], closed["cause"]), (4000, "enough", "Peer"))
        self.assertIsInstance(closed["duration_ms"], int)

    def test_connections_are_not_logged_unless_somebody_wants_that(self):
        self.start()
        self.client().close()
        self.server.stop()
        self.assertEqual((self.logged("open"), self.logged("closed")), ([], []))
        self.assertTrue(self.logged("stopped"))

    # capability: 27 28
    def test_a_storm_is_told_when_to_come_back(self):
        self.start(LIMITS_UPGRADES_PER_SECOND_MAX=2, HTTP_METRICS="true")
        answers = []
        for _ in range(60):
            try:
                self.client()
            except InvalidStatus as refused:
                answers.append(refused.response)
        self.assertTrue(answers)
        for answer in answers:
            self.assertEqual(answer.status_code, 503)
            self.assertIn(int(answer.headers["Retry-After"]), RETRY_AFTER_S)
        self.assertEqual(self.metric("crore_refused_pace_total"), len(answers))

    # capability: 10 27
    def test_a_proxy_on_the_way_says_whose_a_connection_is(self):
        self.start(PROXY_PROTOCOL="required", TRUSTED_PROXIES="127.0.0.1", LIMITS_CONNECTIONS_PER_IP_MAX=1)

        self.connect_for("192.0.2.1")
        self.connect_for("192.0.2.2")
        with self.assertRaises(InvalidStatus) as refused:
            self.connect_for("192.0.2.1")
        self.assertEqual(refused.exception.response.status_code, 429)
        # Whoever has no header gets no answer.
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=PATIENCE_S) as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            try:
                self.assertEqual(plain.recv(1), b"")
            except ConnectionResetError:
                pass

    # capability: 9 10
    def test_behind_a_proxy_protocol_the_proxy_alone_is_believed(self):
        self.start(
            PROXY_PROTOCOL="required",
            TRUSTED_PROXIES="127.0.0.1,10.0.0.0/8",
            IDENTITY_TRUST_USER_HEADER="true",
            LOG_CONNECTIONS="true",
        )
        headers = {"X-User-ID": "ann", "X-Forwarded-For": "9.9.9.9"}
        for address, user, logged in (
            # The proxy has written the first header; the second is as the client has sent it.
            ("203.0.113.5", "ann", "203.0.113.5"),
            # Another proxy, which has written the second.
            ("10.7.7.7", "ann", "9.9.9.9"),
            # Nobody knows who has written either.
            (None, None, "127.0.0.1"),
        ):
            welcome = json.loads(self.connect_for(address, headers).recv(timeout=PATIENCE_S))
            self.assertEqual(welcome["user_id"], user or welcome["connection_id"], address)
            opened = [line for line in self.logged("open") if line["connection"] == welcome["connection_id"]]
            self.assertEqual([line["address"] for line in opened], [logged])

    # capability: 29
    def test_a_restart_is_spread_and_says_when_to_come_back(self):
        self.start(SHUTDOWN_SPREAD="2s", SHUTDOWN_RECONNECT_DELAY="20s")
        sockets = [self.client() for _ in range(20)]
        for client in sockets:
            client.send('{"type":"join","channel":"room"}')
            while json.loads(client.recv(timeout=PATIENCE_S))["type"] != "joined":
                pass
        begun = time.monotonic()
        self.server.process.terminate()
        ends, told = [], []
        for client in sockets:
            with self.assertRaises(ConnectionClosed) as closed:
                while True:
                    told.append(json.loads(client.recv(timeout=PATIENCE_S))["type"])
            ends.append(time.monotonic() - begun)
            self.assertEqual(closed.exception.rcvd.code, 1012)
            self.assertEqual(re.search(r"reconnect in (\d+)-(\d+) s", closed.exception.rcvd.reason).groups(), ("1", "20"))
        self.assertGreater(max(ends), 1.5, "the last of them goes at the end of the time")
        self.assertIn("leave", told, "who stays for a while hears who has gone")
        self.server.stopped = True
        self.assertEqual(self.server.process.wait(PATIENCE_S), 0)


if __name__ == "__main__":
    unittest.main()
