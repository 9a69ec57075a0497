"""Who a connection is: Python's `websockets` with tokens that PyJWT has made, against the `crore` server."""

import contextlib
import http.server
import json
import pathlib
import signal
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.request

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from support import PATIENCE_S, PROGRAMS, Messages, Server

SECRET = "a secret of more than thirty-two bytes"
PAGE = "https://app.example.com"
PEM = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def token(user="ann", secret=SECRET, algorithm="HS256", lasts_s=600, headers=None, **claims):
    return jwt.encode({"user_id": user, "exp": time.time() + lasts_s, **claims}, secret, algorithm, headers)


class AuthCase(Messages, unittest.TestCase):
    def setUp(self):
        self.directory = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def config(self, auth, http="", more=""):
        """A configuration file. What a setting comes twice for is taken from the caller."""
        defaults = {"mode": '"required"', "secret": f'"{SECRET}"', "leeway": '"1s"'}
        lines = [f"{name} = {value}" for name, value in (defaults | auth).items() if value is not None]
        path = self.directory / "crore.toml"
        path.write_text("\n".join([more, "[auth]", *lines, "[http]", http, ""]))
        return path

    def serve(self, http="", more="", options=None, **auth):
        path = self.config(auth, http, more)
        arguments = ("--listen", "127.0.0.1:{port}", "--cores", 2, "--config", path)
        self.server = self.enterContext(Server("crore", *arguments, **(options or {})))

    def connect(self, query="", **options):
        return self.enterContext(connect(f"{self.server.url}ws{query}", **options))

    def receive(self, socket):
        message = super().receive(socket)
        self.assertIsInstance(message.pop("timestamp"), int)
        return message

    def assert_authenticated(self, socket, user="ann"):
        """What a connection is told first, and that it is true."""
        told = self.receive(socket)
        self.assertEqual((told["type"], told["user_id"]), ("authenticated", user))
        welcome = self.receive(socket)
        self.assertEqual((welcome["type"], welcome["user_id"]), ("welcome", user))
        for question in ({"type": "connect"}, {"type": "request", "method": "whoami"}):
            self.assertEqual(self.ask(socket, **question)["data"]["user_id"], user)
        return told

    def assert_closed(self, socket, code=4001, reason="Authentication failed"):
        with self.assertRaises(ConnectionClosed) as closed:
            socket.recv(timeout=PATIENCE_S)
        self.assertEqual((closed.exception.rcvd.code, closed.exception.rcvd.reason), (code, reason))

    def assert_refused(self, socket, code, error):
        self.assertEqual(self.receive(socket), {"type": "error", "code": code, "error": error})
        self.assert_closed(socket)


class Sources(AuthCase):
    # capability: 57 9
    def test_bearer(self):
        self.serve()
        self.assert_authenticated(self.connect(additional_headers={"Authorization": f"Bearer {token()}"}))

    # capability: 53
    def test_query(self):
        self.serve()
        self.assert_authenticated(self.connect(f"?a=b&token={token()}"))

    # capability: 54 6
    def test_subprotocol(self):
        self.serve()
        socket = self.connect(subprotocols=["crore", f"auth.{token()}"])
        self.assertEqual(socket.subprotocol, "crore")
        self.assert_authenticated(socket)
        # A client that does not insist is let in without one. The token never comes back.
        socket = self.connect(subprotocols=[f"auth.{token()}"])
        self.assertIsNone(socket.subprotocol)
        self.assertNotIn("Sec-WebSocket-Protocol", socket.response.headers)
        self.assert_authenticated(socket)
        # A browser does insist: it is told why that will not do.
        with self.assertRaises(InvalidStatus) as refused:
            self.connect(subprotocols=[f"auth.{token()}"], origin=PAGE)
        self.assertEqual(refused.exception.response.status_code, 400)
        self.assertIn(b"['crore', 'auth.' + token]", refused.exception.response.body)

    # capability: 56 63
    def test_cookie(self):
        self.serve(sources='["cookie"]', cookie='"session"', http=f'allowed_origins = ["{PAGE}"]')
        cookie = {"Cookie": f"a=b; session={token()}"}
        self.assert_authenticated(self.connect(additional_headers=cookie, origin=PAGE))
        with self.assertRaises(InvalidStatus) as refused:
            self.connect(additional_headers=cookie, origin="https://evil.example.com")
        self.assertEqual(refused.exception.response.status_code, 403)

    # capability: 55
    def test_first_message(self):
        self.serve()
        socket = self.connect()
        told = self.ask(socket, type="auth", token=token(), id="first")
        self.assertEqual((told["type"], told["id"], told["user_id"]), ("authenticated", "first", "ann"))
        self.assertEqual(self.receive(socket)["type"], "welcome")
        self.assertEqual(self.ask(socket, type="connect")["data"]["user_id"], "ann")

    def test_what_is_switched_off_is_not_looked_at(self):
        self.serve(sources='["query"]')
        for options in (
            {"additional_headers": {"Authorization": f"Bearer {token()}", "Cookie": f"token={token()}"}},
            {"subprotocols": ["crore", f"auth.{token()}"]},
        ):
            self.assert_refused(self.connect(**options), "no_token", "No authentication token provided")

    # capability: 53
    def test_algorithms(self):
        keys = {
            "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
            "ES256": ec.generate_private_key(ec.SECP256R1()),
            "EdDSA": ed25519.Ed25519PrivateKey.generate(),
        }
        path = self.directory / "keys.pem"
        path.write_bytes(b"".join(key.public_key().public_bytes(*PEM) for key in keys.values()))
        self.serve(public_key_file=f'"{path}"')
        for algorithm, key in [*keys.items(), ("HS256", SECRET), ("HS384", SECRET), ("HS512", SECRET)]:
            with self.subTest(algorithm):
                self.assert_authenticated(self.connect(f"?token={token(algorithm, key, algorithm)}"), algorithm)
        # The public key is known to everyone, and must not pass for a secret. PyJWT itself refuses to sign with it.
        head, claims = jwt.api_jws.base64url_encode(b'{"alg":"HS256"}'), token().split(".")[1]
        message = f"{head.decode()}.{claims}"
        signature = jwt.get_algorithm_by_name("HS256").sign(message.encode(), path.read_bytes())
        forged = f"{message}.{jwt.api_jws.base64url_encode(signature).decode()}"
        self.assert_refused(self.connect(f"?token={forged}"), "invalid_token", "Invalid token")


class Failures(AuthCase):
    # capability: 58 59
    def test_what_a_bad_token_is_told(self):
        self.serve()
        none = jwt.encode({"user_id": "ann", "exp": time.time() + 60}, "", "none")
        for bad, code, error in (
            (token(lasts_s=-60), "token_expired", "Token expired"),
            (token(secret="another secret, of thirty-two bytes too"), "invalid_token", "Invalid token"),
            (token(nbf=time.time() + 60), "invalid_token", "Invalid token"),
            (none, "invalid_token", "Invalid token"),
            ("garbage", "invalid_token", "Invalid token"),
            ("x" * 5000, "invalid_token", "Invalid token"),
        ):
            with self.subTest(error, token=bad[:40]):
                self.assert_refused(self.connect(f"?token={bad}"), code, error)
                socket = self.connect()
                self.send(socket, type="auth", token=bad)
                if len(bad) < 5000:
                    self.assert_refused(socket, code, error)
                else:
                    # So long a message is not even read.
                    self.assertEqual(self.receive(socket)["code"], "unauthenticated")

    # capability: 58
    def test_no_token(self):
        self.serve(sources='["query"]')
        self.assert_refused(self.connect(), "no_token", "No authentication token provided")

    # capability: 58
    def test_an_auth_message_without_a_token(self):
        self.serve()
        socket = self.connect()
        socket.send('{"type":"auth"}')
        self.assert_refused(socket, "no_token", "No authentication token provided")

    # capability: 55 58 33
    def test_timeout(self):
        self.serve(timeout='"700ms"')
        socket = self.connect()
        started = time.monotonic()
        self.assert_refused(socket, "auth_timeout", "Authentication timeout")
        self.assertTrue(0.5 < time.monotonic() - started < PATIENCE_S / 2)

    # capability: 55
    def test_nothing_is_done_before(self):
        self.serve()
        listener = self.connect(f"?token={token('bob')}")
        self.assert_authenticated(listener, "bob")
        self.ask(listener, type="subscribe", channel="news")
        stranger = self.connect()
        for message in (
            {"type": "subscribe", "channel": "news"},
            {"type": "publish", "channel": "news", "data": 1},
            {"type": "broadcast", "data": 1},
            {"type": "private", "to": "bob", "data": 1},
            {"type": "refresh", "token": token()},
            {"type": "ping"},
            {"type": "dance"},
        ):
            reply = self.ask(stranger, **message, id=7)
            self.assertEqual(
                (reply["type"], reply["id"], reply["code"], reply["error"]),
                ("error", 7, "unauthenticated", "No authentication token provided"),
            )
        # Neither is it heard of, nor does it hear.
        self.assertEqual(self.ask(listener, type="broadcast", data="to all", id=1)["type"], "broadcast")
        self.assertEqual(self.receive(listener)["type"], "response")
        self.assertEqual(self.ask(listener, type="ping", id=2), {"type": "pong", "id": 2})
        self.assertEqual(self.ask(stranger, type="auth", token=token())["type"], "authenticated")
        self.assertEqual(self.receive(stranger)["type"], "welcome")
        self.assertEqual(self.ask(stranger, type="request", method="channels")["data"], {"channels": []})
        self.ask(stranger, type="subscribe", channel="news")
        self.ask(listener, type="publish", channel="news", data=2)
        self.assertEqual(self.receive(stranger)["data"], 2)

    # capability: 22 27
    def test_a_user_has_no_more_connections_than_it_may(self):
        self.serve(more="[limits]\nconnections_per_user_max = 1")
        self.assert_authenticated(self.connect(f"?token={token()}"))
        second = self.connect()
        self.assertEqual(self.ask(second, type="auth", token=token())["type"], "authenticated")
        self.assertEqual(self.receive(second)["code"], "too_many_connections")
        self.assert_closed(second, 4029, "Too many connections")


    # capability: 22
    def test_a_new_connection_of_a_user_can_replace_the_old_one(self):
        limits = '[limits]\nconnections_per_user_max = 1\nconnections_per_user_excess = "replace"'
        self.serve(more=limits, http="metrics = true")
        bob = self.connect(f"?token={token('bob')}")
        self.assert_authenticated(bob, "bob")
        self.ask(bob, type="join", channel="room")
        # On both cores, by the request and by a message.
        sockets = [self.connect(f"?token={token()}")]
        self.assert_authenticated(sockets[0])
        for round in range(6):
            old = sockets[-1]
            self.ask(old, type="join", channel="room")
            self.assertEqual(self.receive(bob)["type"], "join")
            if round % 2:
                sockets.append(self.connect(f"?token={token()}"))
                self.assert_authenticated(sockets[-1])
            else:
                sockets.append(self.connect())
                self.assertEqual(self.ask(sockets[-1], type="auth", token=token())["type"], "authenticated")
                self.assertEqual(self.receive(sockets[-1])["type"], "welcome")
            self.assert_closed(old, 4030, "Replaced by another connection")
            self.assertEqual(self.receive(bob)["type"], "leave")
            # What is sent to her reaches the new one, and no other.
            self.assertEqual(self.ask(bob, type="private", to="ann", data=round)["data"], {"delivered": 1})
            self.assertEqual(self.receive(sockets[-1])["data"], round)
        with urllib.request.urlopen(f"{self.server.url.replace('ws', 'http', 1)}metrics") as response:
            self.assertIn("\ncrore_connections_replaced_total 6\n", response.read().decode())


class Lifetime(AuthCase):
    # capability: 59
    def test_the_end_of_a_token_ends_its_connection(self):
        self.serve()
        socket = self.connect(f"?token={token(lasts_s=2)}")
        told = self.assert_authenticated(socket)
        self.assert_refused(socket, "token_expired", "Token expired")
        # One second of leeway.
        self.assertGreaterEqual(time.time() * 1000, told["expires_at"] + 1000)
        self.assertLess(time.time() * 1000, told["expires_at"] + 1000 + PATIENCE_S * 500)

    # capability: 59
    def test_a_refresh_prolongs(self):
        self.serve()
        first = token(lasts_s=2)
        sockets = [self.connect(f"?token={first}"), self.connect()]
        for socket, kind in zip(sockets, ("auth", "refresh")):
            if kind == "refresh":
                self.ask(socket, type="auth", token=first)
                self.receive(socket)
            else:
                self.assert_authenticated(socket)
            told = self.ask(socket, type=kind, token=token(lasts_s=60), id=1)
            self.assertEqual((told["type"], told["id"], told["user_id"]), ("authenticated", 1, "ann"))
            self.assertGreater(told["expires_at"], (time.time() + 50) * 1000)
        time.sleep(4)
        for socket in sockets:
            self.assertEqual(self.ask(socket, type="ping")["type"], "pong")

    # capability: 59
    def test_the_last_token_counts_though_it_ends_sooner(self):
        self.serve()
        socket = self.connect(f"?token={token()}")
        self.assert_authenticated(socket)
        told = self.ask(socket, type="refresh", token=token(lasts_s=2))
        self.assertLess(told["expires_at"], (time.time() + 3) * 1000)
        self.assert_refused(socket, "token_expired", "Token expired")
        self.assertGreaterEqual(time.time() * 1000, told["expires_at"] + 1000)

    # capability: 59
    def test_a_refresh_that_fails_leaves_what_was(self):
        self.serve()
        socket = self.connect(f"?token={token()}")
        self.assert_authenticated(socket)
        for bad, code in ((token("eve"), "invalid_token"), (token(lasts_s=-60), "token_expired"), ("x", "invalid_token")):
            reply = self.ask(socket, type="auth", token=bad, id=3)
            self.assertEqual((reply["type"], reply["id"], reply["code"]), ("error", 3, code))
        self.assertEqual(self.ask(socket, type="auth")["code"], "no_token")
        self.assertEqual(self.ask(socket, type="connect")["data"]["user_id"], "ann")


class Modes(AuthCase):
    def test_off(self):
        self.serve(mode='"off"')
        socket = self.connect(f"?token={token()}")
        welcome = self.receive(socket)
        self.assertEqual((welcome["type"], welcome["user_id"]), ("welcome", welcome["connection_id"]))
        self.assertEqual(self.ask(socket, type="auth", token=token())["error"], "Unknown message type: auth")

    def test_optional(self):
        self.serve(mode='"optional"')
        socket = self.connect()
        welcome = self.receive(socket)
        self.assertEqual((welcome["type"], welcome["user_id"]), ("welcome", welcome["connection_id"]))
        other = self.connect(f"?token={token('bob')}")
        self.assert_authenticated(other, "bob")
        self.assertEqual(self.ask(other, type="private", to="ann", data=1)["code"], "not_online")
        self.assertEqual(self.ask(socket, type="auth", token=token())["user_id"], "ann")
        self.assertEqual(self.ask(other, type="private", to="ann", data=1)["data"], {"delivered": 1})
        self.assertEqual(self.receive(socket)["from"], "bob")
        self.assert_refused(self.connect("?token=garbage"), "invalid_token", "Invalid token")

    # capability: 53 55 59
    def test_the_plain_chat_is_told_in_its_own_words(self):
        self.serve(timeout='"2s"', leeway='"0s"', more='[chat]\npath = "/chat"')
        # One whose clock counts milliseconds.
        chat = lambda query="": self.enterContext(connect(f"{self.server.url}chat{query}", user_agent_header="a browser"))

        def assert_turned_away(socket, why):
            self.assertEqual(self.receive(socket), {"type": "error", "username": "System", "content": why})
            self.assert_closed(socket)

        silent, short = chat(), chat(f"?token={token(lasts_s=2)}")
        assert_turned_away(chat("?token=garbage"), "Invalid token")
        socket = chat()
        self.send(socket, type="auth", token="garbage")
        assert_turned_away(socket, "Invalid token")
        self.assertEqual(self.receive(short)["type"], "authenticated")
        self.assertEqual(self.receive(short)["content"], "Welcome! Please identify yourself.")
        assert_turned_away(short, "Token expired")
        assert_turned_away(silent, "Authentication timeout")

    # capability: 44 49 55
    def test_a_member_that_gets_a_user_leaves_by_the_old_name_and_joins_by_the_new_one(self):
        self.serve(mode='"optional"')
        onlooker, member = self.connect(), self.connect()
        self.receive(onlooker)
        number = self.receive(member)["connection_id"]
        for room in ("tea", "hall"):
            self.ask(onlooker, type="subscribe", channel=room)
            self.assertEqual(self.ask(member, type="join", channel=room)["type"], "joined")
            self.assertEqual(self.receive(onlooker), {"type": "join", "channel": room, "from": number})
        self.send(member, type="typing.start", channel="tea")
        self.assertEqual((self.receive(onlooker)["from"], self.ask(member, type="auth", token=token())["user_id"]), (number, "ann"))
        told = [self.receive(onlooker) for _ in range(5)]
        self.assertEqual(told[0], {"type": "typing", "channel": "tea", "from": number, "isTyping": False})
        # In each room first the one, then the other.
        for room in ("tea", "hall"):
            events = [(event["type"], event["from"]) for event in told[1:] if event["channel"] == room]
            self.assertEqual(events, [("leave", number), ("join", "ann")])
        self.ask(member, type="leave", channel="tea")
        self.assertEqual(self.receive(onlooker), {"type": "leave", "channel": "tea", "from": "ann"})

    # capability: 9 22 41
    def test_no_user_is_called_as_a_connection_is(self):
        self.serve(mode='"optional"')
        nobody = self.connect()
        number = self.receive(nobody)["connection_id"]
        self.assert_refused(self.connect(f"?token={token(number)}"), "invalid_token", "Invalid token")
        other = self.connect(f"?token={token('bob')}")
        self.assert_authenticated(other, "bob")
        self.assertEqual(self.ask(other, type="private", to=number, data=1)["data"], {"delivered": 1})
        self.assertEqual(self.receive(nobody)["from"], "bob")


class Reload(AuthCase):
    def reload(self, *config, **more):
        self.config(*config, **more)
        self.server.process.send_signal(signal.SIGHUP)
        time.sleep(1)

    def test_a_header_is_not_let_in_by_halves(self):
        self.serve()
        self.reload({"mode": '"off"'}, more="[identity]\ntrust_user_header = true")
        socket = self.connect(additional_headers={"X-User-ID": "eve"})
        self.assertEqual(self.ask(socket, type="connect")["code"], "unauthenticated")

    # capability: 5
    def test_origins_change_at_once(self):
        self.serve(mode='"off"', http='allowed_origins = ["https://example.com"]')
        self.reload({"mode": '"off"'}, http=f'allowed_origins = ["{PAGE}"]')
        self.assertEqual(self.receive(self.connect(origin=PAGE))["type"], "welcome")
        with self.assertRaises(InvalidStatus):
            self.connect(origin="https://example.com")


class Doors(AuthCase):
    # capability: 5 63
    def test_origins(self):
        http = 'allowed_origins = ["https://example.com", "https://*.example.com"]'
        self.serve(mode='"off"', http=http)
        for origin in ("https://example.com", PAGE, None):
            self.assertEqual(self.receive(self.connect(origin=origin))["type"], "welcome")
        for origin in ("https://example.com.evil.org", "http://example.com", "null"):
            with self.subTest(origin), self.assertRaises(InvalidStatus) as refused:
                self.connect(origin=origin)
            self.assertEqual(refused.exception.response.status_code, 403)

    # capability: 5
    def test_an_origin_that_is_told_why(self):
        http = 'allowed_origins = ["https://example.com"]\norigin_rejection = "1008"\nrequire_origin = true'
        self.serve(mode='"off"', http=http)
        self.assertEqual(self.receive(self.connect(origin="https://example.com"))["type"], "welcome")
        for origin in ("https://evil.org", None):
            self.assert_closed(self.connect(origin=origin), 1008, "Origin not allowed")

    # capability: 63
    def test_a_page_repeats_a_cookie_that_others_cannot_read(self):
        for rejection in ("403", "1008"):
            self.serve(mode='"off"', http=f'csrf_cookie = "csrf"\norigin_rejection = "{rejection}"')
            cookie = {"Cookie": "a=b; csrf=x%2B1"}
            socket = self.connect("?csrf=x%252B1", origin=PAGE, additional_headers=cookie)
            self.assertEqual(self.receive(socket)["type"], "welcome")
            # A client that names no origin is no browser.
            self.assertEqual(self.receive(self.connect())["type"], "welcome")
            for query, headers in (
                ("", cookie),
                ("?csrf=", cookie),
                ("?csrf=x", cookie),
                ("?xcsrf=x%252B1", cookie),
                ("?csrf=x%252B1", {}),
                ("?csrf=", {"Cookie": "csrf="}),
                ("?csrf=x%252B1", {"Cookie": "xcsrf=x%2B1"}),
            ):
                with self.subTest(rejection, query=query, headers=headers):
                    if rejection == "1008":
                        socket = self.connect(query, origin=PAGE, additional_headers=headers)
                        self.assert_closed(socket, 1008, "CSRF token missing or wrong")
                        continue
                    with self.assertRaises(InvalidStatus) as refused:
                        self.connect(query, origin=PAGE, additional_headers=headers)
                    self.assertEqual(refused.exception.response.status_code, 403)
                    self.assertEqual(refused.exception.response.body, b"CSRF token missing or wrong\n")

    # capability: 6
    def test_subprotocols(self):
        self.serve(mode='"off"', http='subprotocols = ["superchat", "chat"]')
        for offered, selected in (
            (["chat", "superchat"], "chat"),
            (["other", "superchat"], "superchat"),
            (["other"], None),
            (None, None),
        ):
            self.assertEqual(self.connect(subprotocols=offered).subprotocol, selected)


class Provider(http.server.BaseHTTPRequestHandler):
    """An identity provider: its key set."""

    keys = []
    requests = 0

    def do_GET(self):
        type(self).requests += 1
        body = json.dumps({"keys": type(self).keys}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Rotation(AuthCase):
    def add_key(self, provider, name):
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        provider.keys = [*provider.keys, public | {"use": "sig", "alg": "RS256"} | ({"kid": name} if name else {})]
        return key

    def provide(self):
        """A provider without keys, and where it is, as the configuration has it."""
        provider = type("TheProvider", (Provider,), {})
        listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), provider)
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        self.addCleanup(listener.server_close)
        self.addCleanup(listener.shutdown)
        return provider, f'"http://127.0.0.1:{listener.server_port}/keys"'

    # capability: 53
    def test_a_key_that_is_new_is_fetched_while_its_first_user_waits(self):
        provider, url = self.provide()
        first = self.add_key(provider, "first")
        self.serve(secret=None, jwks_url=url, jwks_refresh='"1h"', jwks_refresh_min='"1s"')
        # By the request, and by a message.
        by_query = lambda key, name: self.connect(f"?token={token('ann', key, 'RS256', headers={'kid': name})}")
        self.assert_authenticated(by_query(first, "first"))
        second = self.add_key(provider, "second")
        time.sleep(1.2)
        fetched = provider.requests
        sockets = [by_query(second, "second") for _ in range(3)]
        socket = self.connect()
        told = self.ask(socket, type="auth", id=9, token=token("bob", second, "RS256", headers={"kid": "second"}))
        self.assertEqual((told["type"], told["id"], told["user_id"]), ("authenticated", 9, "bob"))
        for socket in sockets:
            self.assert_authenticated(socket)
        self.assertEqual(provider.requests, fetched + 1)
        # A key that there is not: what waits for it is told so, after a fetch, and that not too soon.
        started = time.monotonic()
        for round in (2, 3):
            self.assert_refused(by_query(second, "third"), "invalid_token", "Invalid token")
            self.assertEqual(provider.requests, fetched + round)
        self.assertGreaterEqual(time.monotonic() - started, 1)

    # capability: 53
    def test_a_key_is_replaced_by_one_of_the_same_name_or_none(self):
        for name in ("main", None):
            with self.subTest(name):
                provider, url = self.provide()
                first = self.add_key(provider, name)
                times = {"jwks_refresh": '"1h"', "jwks_refresh_min": '"1s"', "timeout": '"30s"'}
                self.serve(jwks_url=url, **times)
                show = lambda key: self.connect(f"?token={token('ann', key, 'RS256', headers=name and {'kid': name})}")
                self.assert_authenticated(show(first))
                # A stranger has just caused a fetch, and goes on.
                stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
                self.assert_refused(show(stranger), "invalid_token", "Invalid token")
                fetched = provider.requests
                provider.keys = []
                second = self.add_key(provider, name)
                sockets = [show(key) for key in (stranger, second, second)]
                self.assert_refused(sockets[0], "invalid_token", "Invalid token")
                for socket in sockets[1:]:
                    self.assert_authenticated(socket)
                self.assertEqual(provider.requests, fetched + 1)
                self.assert_refused(show(first), "invalid_token", "Invalid token")
                # A secret is none of the provider's business.
                forged = token(secret="another secret, of thirty-two bytes too")
                self.assert_refused(self.connect(f"?token={forged}"), "invalid_token", "Invalid token")
                self.assertEqual(provider.requests, fetched + 2)

    def test_who_waits_is_not_taken_for_nobody(self):
        provider, url = self.provide()
        key = self.add_key(provider, "first")
        self.serve(mode='"optional"', secret=None, jwks_url=url, jwks_refresh='"1h"', jwks_refresh_min='"1s"')
        anonymous = self.connect()
        self.assertEqual(self.receive(anonymous)["type"], "welcome")
        key = self.add_key(provider, "second")
        time.sleep(1.2)
        shown = token("ann", key, "RS256", headers={"kid": "second"})
        # Whatever it says before the key has come, it says as nobody or not at all.
        socket = self.connect(f"?token={shown}")
        self.assert_authenticated(socket)
        self.assertEqual(self.ask(anonymous, type="auth", token=shown)["user_id"], "ann")
        self.assertEqual(self.ask(anonymous, type="broadcast", data=1)["type"], "broadcast")
        self.assertEqual(self.receive(socket)["type"], "broadcast")
        self.assertEqual(self.ask(socket, type="private", to="ann", data=1)["type"], "private")
        self.assertEqual(self.receive(socket)["data"], {"delivered": 2})


class Logs(AuthCase):
    # capability: 53
    def test_no_line_holds_a_token(self):
        log = self.directory / "log"
        with log.open("wb") as lines:
            options = {"stderr": lines, "variables": {"CRORE_LOG_LEVEL": "trace"}}
            allowed = f'allowed_origins = ["{PAGE}"]'
            self.serve(sources='["bearer", "query", "subprotocol", "cookie", "message"]', http=allowed, options=options)
            shown = []
            for fresh in (lambda: token(), lambda: token(lasts_s=-60), lambda: token() + "x", lambda: "hunter2.hunter2"):
                for show in (
                    lambda one: self.connect(f"?token={one}"),
                    lambda one: self.connect(additional_headers={"Authorization": f"Bearer {one}"}),
                    lambda one: self.connect(additional_headers={"Cookie": f"token={one}"}),
                    lambda one: self.connect(subprotocols=["crore", f"auth.{one}"]),
                    lambda one: self.send(self.connect(), type="auth", token=one),
                    lambda one: self.connect(f"?token={one}", origin="https://evil.org"),
                    lambda one: self.connect(f"/nowhere?token={one}"),
                    lambda one: self.connect(subprotocols=[f"auth.{one}"], origin=PAGE),
                ):
                    shown.append(fresh())
                    with contextlib.suppress(InvalidStatus, ConnectionClosed):
                        show(shown[-1])
            self.ask(self.connect(f"?token={token('last')}"), type="ping")
            self.server.stop()
        text = log.read_text()
        self.assertIn("token refused", text)
        self.assertIn("last", text)
        self.assertNotIn(SECRET, text)
        for one in shown:
            for part in one.split("."):
                self.assertNotIn(part, text)


class Commands(AuthCase):
    def run_crore(self, *arguments, code=0, stdin=None):
        command = [PROGRAMS / "crore", *arguments, "--config", self.directory / "crore.toml"]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=PATIENCE_S)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def test_gen_token_makes_what_others_read(self):
        self.config({"issuers": '["us"]', "audiences": '["chat", "mail"]', "user_claim": '"name"'})
        made = self.run_crore("gen-token", "--user", "ann", "--expires", "10m", "--claim", "admin=true", "--claim", "x=y z")
        claims = jwt.decode(made.strip(), SECRET, ["HS256"], audience="chat", issuer="us")
        self.assertEqual((claims["name"], claims["admin"], claims["x"]), ("ann", True, "y z"))
        self.assertAlmostEqual(claims["exp"], time.time() + 600, delta=PATIENCE_S)
        self.assertIn('valid   user "ann"', self.run_crore("check-token", made.strip()))
        self.assertIn('valid   user "ann"', self.run_crore("check-token", stdin=made))
        self.assertIn("a connection's identifier", self.run_crore("gen-token", "--user", "0-1-a2", code=2))
        made = self.run_crore("gen-token", "--user", "ann", "--algorithm", "HS512")
        self.assertEqual(jwt.get_unverified_header(made.strip())["alg"], "HS512")

    def test_gen_token_with_a_private_key(self):
        keys = pathlib.Path(__file__).parents[2] / "server/tests/keys"
        for name, algorithm in (("rsa", "RS256"), ("p256", "ES256"), ("ed25519", "EdDSA")):
            public = keys / f"{name}.public.pem"
            self.config({"secret": None, "public_key_file": f'"{public}"'})
            made = self.run_crore("gen-token", "--user", "ann", "--private-key", keys / f"{name}.pem", "--key-id", "k")
            self.assertEqual(jwt.decode(made.strip(), public.read_text(), [algorithm])["user_id"], "ann")
            self.assertEqual(jwt.get_unverified_header(made.strip())["kid"], "k")
            self.assertIn("valid", self.run_crore("check-token", made.strip()))
        self.assertIn("--private-key", self.run_crore("gen-token", "--user", "ann", code=2))

    def test_check_token_says_what_is_wrong(self):
        self.config({"audiences": '["chat"]'})
        for bad, problem in (
            (token(aud="chat", lasts_s=-60), "`exp`"),
            (token(aud="mail"), "`aud`"),
            (token(), "`aud` is missing"),
            (token(secret="another secret, of thirty-two bytes too"), "signature"),
            ("garbage", "three parts"),
        ):
            said = self.run_crore("check-token", bad, code=1)
            self.assertIn("invalid", said)
            self.assertIn(problem, said)
        self.assertIn('"user_id":"ann"', self.run_crore("check-token", token(aud="mail"), code=1))
        self.config({"secret": None, "mode": '"off"'})
        self.assertIn("no key", self.run_crore("check-token", token(), code=2))

    # capability: 56 63
    def test_settings_that_contradict_each_other_are_refused(self):
        for auth, problem in (
            ({"secret": None}, "there is no key"),
            ({"secret": '"short"'}, "openssl rand"),
            ({"sources": '["cookie"]'}, "http.allowed_origins"),
            ({"jwks_url": '"http://example.com/keys"'}, "https://"),
            ({"algorithms": '["none"]'}, "EdDSA"),
            ({"channels_claim": '"channel"'}, "makes a token one for a channel"),
            ({"roles_claim": '"user_id"'}, "is the same as `auth.user_claim`"),
            ({"sources": '["header"]'}, "bearer"),
        ):
            with self.subTest(problem):
                self.config(auth)
                command = [PROGRAMS / "crore", "--config", self.directory / "crore.toml", "--listen", "127.0.0.1:0"]
                done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(problem, done.stderr)
                self.assertNotIn("short", done.stderr)


if __name__ == "__main__":
    unittest.main()
