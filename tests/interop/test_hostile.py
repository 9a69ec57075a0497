"""Clients that mean it no good, at every step of a connection. Each gets its documented answer, and a neighbour who
behaves is served all the while."""

import base64
import contextlib
import json
import random
import socket
import ssl
import threading
import time
import unittest
import urllib.request

import jwt
from websockets.sync.client import connect

from raw import CLOSE, CONTINUATION, PING, PONG, TEXT, Raw, frame, request
from support import PATIENCE_S, Server

SECRET = "a secret of more than thirty-two bytes"
# Of each kind at the same time: more than a core has receive buffers (256).
CROWD = 300
# Answers that a neighbour gets while the others are at it.
ANSWERS = 20


def token(user="ann", lasts_s=600, **claims):
    return jwt.encode({"user_id": user, "exp": time.time() + lasts_s, **claims}, SECRET, "HS256")


class Neighbour:
    """Asks and is answered, one question after the other, from a thread of its own."""

    def __init__(self, url):
        self.socket = connect(url)
        # With a token it is told first who it is.
        while json.loads(self.socket.recv(timeout=PATIENCE_S))["type"] != "welcome":
            pass
        self.answers = 0
        self.more = threading.Condition()
        self.leaves = False
        self.error = None
        self.thread = threading.Thread(target=self.ask)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.leaves = True
        self.thread.join()
        self.socket.close()
        if self.error:
            raise self.error

    def ask(self):
        try:
            while not self.leaves:
                self.ask_once(self.answers)
                with self.more:
                    self.answers += 1
                    self.more.notify_all()
        except Exception as error:
            with self.more:
                self.error = error
                self.more.notify_all()

    def ask_once(self, number):
        channel = f"home of {self.socket.local_address}"
        for kind in ("subscribe", "message", "unsubscribe"):
            self.socket.send(json.dumps({"type": kind, "channel": channel, "id": number, "data": number}))
        heard = [json.loads(self.socket.recv(timeout=PATIENCE_S)) for _ in range(4)]
        kinds = [message["type"] for message in heard if message["channel" if message["type"] == "message" else "id"]
                 in (channel, number)]
        # The answer and the echo of a publication come in either order.
        assert sorted(kinds) == ["message", "response", "subscribed", "unsubscribed"], heard

    def is_served(self):
        """Waits for more answers than there are now."""
        with self.more:
            enough = self.answers + ANSWERS
            self.more.wait_for(lambda: self.error or self.answers >= enough, PATIENCE_S)
            assert self.error is None and self.answers >= enough, f"{self.answers} of {enough}: {self.error}"


class HostileCase(unittest.TestCase):
    def start(self, query="", **settings):
        """A server with settings as variables, and a neighbour on each of its two cores, more or less."""
        variables = {f"CRORE_{name.upper()}": str(value).lower() for name, value in settings.items()}
        arguments = ("--listen", "127.0.0.1:{port}", "--cores", 2)
        self.server = self.enterContext(
            Server("crore", *arguments, variables={"CRORE_HTTP_METRICS": "true", **variables})
        )
        self.neighbours = [self.enterContext(Neighbour(f"{self.server.url}ws{query}")) for _ in range(2)]

    def raw(self, **options):
        return self.enterContext(Raw(self.server.port, **options))

    def others_are_served(self):
        for neighbour in self.neighbours:
            neighbour.is_served()

    def metric(self, name):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.server.port}/metrics", timeout=PATIENCE_S) as metrics:
            lines = metrics.read().decode().splitlines()
        return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name} "))


class Slow(HostileCase):
    """Who takes for ever at some step is cut when its time is up, and a crowd of them changes nothing."""

    def crowd_is_cut(self, make, metric):
        before = self.metric(metric)
        crowd = [make() for _ in range(CROWD)]
        self.others_are_served()
        for client in crowd:
            self.assertTrue(client.is_cut())
        self.assertEqual(self.metric(metric) - before, CROWD)
        self.others_are_served()

    # capability: 31 33
    def test_who_says_nothing_or_half_of_a_request(self):
        self.start(limits_handshake_timeout="3s")
        for part in (b"", b"GET /ws HT", request()[:-2]):
            with self.subTest(part=part):

                def make():
                    client = self.raw()
                    client.send(part)
                    return client

                self.crowd_is_cut(make, "crore_closed_timeout_total")

    # capability: 31 33
    def test_whose_request_comes_byte_by_byte(self):
        self.start(limits_handshake_timeout="3s")
        crowd = [self.raw() for _ in range(20)]
        sent, deadline = 0, time.monotonic() + PATIENCE_S
        # A byte now and then does not buy more time.
        while crowd:
            self.assertLess(time.monotonic(), deadline)
            byte = request(headers=["X-More: " + "x" * 5000])[sent : sent + 1]
            sent += 1
            for client in list(crowd):
                try:
                    client.send(byte)
                except ConnectionError:
                    crowd.remove(client)
            time.sleep(0.2)
        self.assertGreater(sent, 5)
        self.assertEqual(self.metric("crore_closed_timeout_total"), 20)
        self.others_are_served()

    # capability: 31 33 55
    def test_who_does_not_say_who_it_is(self):
        self.start(query=f"?token={token()}", auth_mode="required", auth_secret=SECRET, auth_timeout="3s")
        crowd = [self.raw().upgraded() for _ in range(CROWD)]
        self.others_are_served()
        for client in crowd:
            code, heard = client.end()
            self.assertEqual((code, json.loads(heard[-1][1])["error"]), (4001, "Authentication timeout"))
        self.others_are_served()

    # capability: 23 31 33
    def test_who_stops_within_a_frame_or_a_message(self):
        self.start(limits_ping_interval="4s")
        message = frame(TEXT, b"x" * 1000, length=100_000)
        fragments = frame(TEXT, b"{", fin=False) + frame(CONTINUATION, b'"a":', fin=False)
        for part in (b"\x81", message[:6], message, fragments):
            with self.subTest(part=part[:10]):

                def make():
                    client = self.raw().upgraded()
                    client.send(part)
                    return client

                self.crowd_is_cut(make, "crore_closed_ping_timeout_total")

    # capability: 31 33
    def test_a_message_that_never_ends_takes_what_has_come_of_it(self):
        self.start(limits_ping_interval="10s")
        crowd = [self.raw().upgraded() for _ in range(CROWD)]
        # Each announces a megabyte, and sends a byte now and then: it lives, as any slow client does.
        for client in crowd:
            client.send(frame(TEXT, b"{", length=1_000_000))
        deadline = time.monotonic() + 25
        while time.monotonic() < deadline:
            for client in crowd:
                client.send(b"x")
            time.sleep(0.5)
        self.others_are_served()
        partial = self.metric('crore_connection_memory_bytes{class="partial"}')
        self.assertLess(partial, CROWD * 20_000, "not what was announced")
        self.assertEqual(self.metric("crore_connections_open"), CROWD + len(self.neighbours))

    # capability: 31 33
    def test_who_does_not_answer_the_close(self):
        self.start(limits_close_timeout="2s")

        def make():
            client = self.raw().upgraded()
            client.say(type="disconnect")
            return client

        self.crowd_is_cut(make, "crore_closed_timeout_total")

    # capability: 31 33 66
    def test_who_never_reads(self):
        self.start(limits_outbox_bytes_max=65536)
        reader, before = self.raw(receive_bytes=4096).upgraded(), self.metric("crore_closed_slow_total")
        reader.say(type="subscribe", channel="flood")
        writer = self.enterContext(connect(self.server.url + "ws"))
        writer.recv(timeout=PATIENCE_S)
        deadline = time.monotonic() + PATIENCE_S
        while self.metric("crore_closed_slow_total") == before:
            self.assertLess(time.monotonic(), deadline)
            for _ in range(20):
                writer.send(json.dumps({"type": "publish", "channel": "flood", "data": "x" * 50_000}))
                self.assertEqual(json.loads(writer.recv(timeout=PATIENCE_S))["data"], {"published": True})
        self.assertTrue(reader.is_cut())
        self.others_are_served()


class Endless(HostileCase):
    # capability: 31
    def test_fragments_for_ever(self):
        self.start(limits_fragments_max=1000)
        for piece, most in ((b"", 1000), (b"x" * 2000, 1 << 20)):
            client = self.raw().upgraded()
            more = frame(CONTINUATION, piece, fin=False) * 100
            with contextlib.suppress(ConnectionError):
                client.send(frame(TEXT, b"", fin=False))
                for _ in range(100):
                    client.send(more)
            code, _ = client.end()
            self.assertIn(code, (1009, None), "None if the close frame was lost to the reset behind it")
        self.assertEqual(self.metric("crore_closed_protocol_total"), 2)
        self.others_are_served()

    # capability: 16 31
    def test_pings_without_end(self):
        self.start()
        client = self.raw().upgraded()
        for number in range(2000):
            client.send(frame(PING, b"%d" % number))
        seen = -1
        # Of those that came together the last one may be answered alone (RFC 6455, section 5.5.3).
        while seen < 1999:
            opcode, payload = client.frame()
            if opcode == PONG:
                self.assertGreater(int(payload), seen)
                seen = int(payload)
        self.others_are_served()

    # capability: 3 31
    def test_requests_that_are_none(self):
        self.start()
        chance = random.Random(5)
        valid = request()
        for number in range(300):
            text = bytearray(valid)
            for _ in range(chance.randint(1, 8)):
                text[chance.randrange(len(text))] = chance.randrange(256)
            client = self.raw()
            client.send(bytes(text))
            client.socket.shutdown(socket.SHUT_WR)
            answer = b""
            with contextlib.suppress(ConnectionError):
                while part := client.socket.recv(65_536):
                    answer += part
            if answer:
                self.assertRegex(answer, rb"^HTTP/1\.1 (101|4\d\d|505|200) ", f"request {number} of the seed 5")
        self.others_are_served()

    # capability: 7 31
    def test_who_speaks_tls(self):
        self.start()
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        for _ in range(20):
            plain = socket.create_connection(("127.0.0.1", self.server.port), timeout=PATIENCE_S)
            with plain, self.assertRaises((ssl.SSLError, ConnectionError)):
                context.wrap_socket(plain, server_hostname="localhost")
        self.others_are_served()


class Tokens(HostileCase):
    def setUp(self):
        self.start(query=f"?token={token()}", auth_mode="required", auth_secret=SECRET)

    def part(self, value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    def forgeries(self):
        """Tokens of every kind that is not one: seeded, so that each run tries the same."""
        chance = random.Random(4)
        head, claims, signature = token().split(".")
        algorithms = ("none", "None", "nOnE", "", "HS256 ", "hs256", "RS256", "ES256", "EdDSA", "HS999", None, 7, ["HS256"])
        for algorithm in algorithms:
            yield f"{self.part({'typ': 'JWT', 'alg': algorithm})}.{claims}.{signature}"
            yield f"{self.part({'typ': 'JWT', 'alg': algorithm})}.{claims}."
        for more in (
            {"kid": "../../../../dev/null"},
            {"jku": "http://127.0.0.1:1/keys"},
            {"jwk": {"kty": "oct", "k": "AA"}},
            {"x5u": "http://127.0.0.1:1/"},
            {"crit": ["exp"]},
            {"b64": False, "crit": ["b64"]},
        ):
            # Signed by somebody, and the key comes along.
            yield jwt.encode({"user_id": "eve", "exp": time.time() + 60}, "\0" * 32, "HS256", more)
        for payload in ([], "text", 7, None, {}, {"exp": "soon"}, {"exp": -1}, {"exp": 1e400}, {"user_id": {"a": 1}}):
            yield f"{head}.{self.part(payload)}.{signature}"
        good = token("", lasts_s=60), token("x" * 129), token(None), token(["ann"]), token({"a": 1}), token("a\0b")
        yield from good
        yield from ("", ".", "..", "...", "a.b.c.d", "=.=.=", "%00", "%2e%2e", "null", "A" * 4096)
        for _ in range(200):
            text = list(token())
            for _ in range(chance.randint(1, 4)):
                kind, place = chance.randrange(3), chance.randrange(len(text))
                if kind == 0:
                    text[place] = chance.choice("ABCabc012-_.=+~ \u00e4")
                elif kind == 1:
                    del text[place:]
                    text.append("A")
                else:
                    text.insert(place, chance.choice("ABC.-_="))
            yield "".join(text)

    # capability: 31 53 58
    def test_forged_tokens(self):
        accepted = jwt.decode(token(), SECRET, ["HS256"])["user_id"]
        for forged in self.forgeries():
            with contextlib.suppress(jwt.InvalidTokenError):
                # What chance has left as it was, or changed in bits that no byte has, is no forgery.
                if jwt.decode(forged, SECRET, ["HS256"]).get("user_id") == accepted:
                    continue
            client = self.raw().upgraded()
            answer = client.ask(type="auth", token=forged)
            expected = {"no_token": "No authentication token provided", "invalid_token": "Invalid token", "token_expired": "Token expired"}
            self.assertEqual((answer["type"], answer.get("error")), ("error", expected.get(answer.get("code"))), forged)
            self.assertEqual(client.end()[0], 4001, forged)
        self.others_are_served()

    # capability: 31 55
    def test_auth_messages_that_are_none(self):
        for message in (
            '{"type":"auth","token":7}',
            '{"type":"auth","token":{"a":1}}',
            '{"type":"auth","token":["a"]}',
            '{"type":"auth","token":null}',
            '{"type":"auth","token":"a","token":"b"}',
            '{"type":"auth","tok',
            '{"type":"auth","token":"' + "x" * 100_000 + '"}',
            "[" * 10_000,
        ):
            client = self.raw().upgraded()
            client.send(frame(TEXT, message.encode()))
            client.say(type="subscribe", channel="news")
            self.assertEqual(client.hear()["type"], "error", message[:60])
            # It is sent away, or it is nobody still.
            opcode, payload = client.frame()
            if opcode == TEXT:
                self.assertEqual(json.loads(payload)["code"], "unauthenticated")
            else:
                self.assertEqual((opcode, payload[:2]), (CLOSE, (4001).to_bytes(2, "big")))
        self.others_are_served()


if __name__ == "__main__":
    unittest.main()
