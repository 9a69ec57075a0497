"""The webhook: a backend that decides, well and badly, who connects, subscribes and publishes."""

import base64
import concurrent.futures
import hmac
import http.server
import json
import signal
import ssl
import subprocess
import threading
import time

import jwt
import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from standardwebhooks import Webhook, WebhookVerificationError
from websockets.sync.client import connect

from backend import Backend, Gate, Raw, disconnect, error, result
from support import PATIENCE_S, PROGRAMS, eventually
from test_access import SlowProvider
from test_webhook_requests import QUESTIONS_MAX
from webhook import SECRET, UNAVAILABLE, WebhookCase, nobody

TOKEN_SECRET = "a secret of more than thirty-two bytes"
# Answers that came and can't be used.
UNUSABLE = (
    Raw(200, b""),
    Raw(200, b"<html>welcome</html>"),
    Raw(200, b"{}"),
    Raw(200, b"[]"),
    Raw(200, b"{\"result\":{}"),
    Raw(200, b"\xff\xfe\x00"),
    Raw(200, b"[" * 60_000),
    Raw(200, b"x" * 100_000),
    Raw(200, b"{\"result\":{\"data\":\"" + b"x" * 65_536 + b"\"}}"),
    Raw(200, b"{\"result\":{\"data\":" + b"[" * 100 + b"]" * 100 + b"}}"),
    Raw(200, json.dumps({**result(), **error()}).encode()),
    Raw(200, json.dumps(error(code="a b")).encode()),
    Raw(200, json.dumps(disconnect(code=1006)).encode()),
    Raw(204, b""),
    Raw(400, b"{\"result\":{}}"),
    Raw(404, b"not here"),
)


class Connect(WebhookCase):
    # capability: 64 84
    def test_the_backend_names_the_user_and_subscribes_it(self):
        self.serve(
            "connect", "rpc", webhook_secret=SECRET, webhook_forward_headers="cookie, X-Tenant",
        )
        self.backend.answer("connect", result(user_id="ann", meta={"plan": [7]}, channels=["news", "ä\"b"]))
        headers = {"Cookie": "session=s3cret-cookie", "X-Tenant": "acme", "X-Other": "not asked for"}
        socket = self.socket(additional_headers=headers)
        welcome = self.receive(socket)
        self.assertEqual((welcome["type"], welcome["user_id"]), ("welcome", "ann"))
        for channel in ("news", "ä\"b"):
            expected = {"type": "subscribed", "channel": channel, "data": {"subscribed": channel}}
            self.assertEqual(self.receive(socket), expected)
        with self.server.http() as http:
            self.assertEqual(http.get("/api/users/ann").json()["connections"], [welcome["connection_id"]])
            http.post("/api/publish", json={"channel": "news", "data": 1})
        self.assertEqual(self.receive(socket)["data"], 1)
        self.assertEqual(json.loads(self.ask_raw(socket, type="request", method="sum", data=[1]))["type"], "response")
        first, second = self.backend.asked
        self.assertEqual(first.path, "/connect")
        self.assertEqual(
            {name: first.body[name] for name in ("event", "connection_id", "address")},
            {"event": "connect", "connection_id": welcome["connection_id"], "address": "127.0.0.1"},
        )
        self.assertNotIn("user_id", first.body)
        self.assertAlmostEqual(first.body["timestamp"] / 1000, time.time(), delta=PATIENCE_S)
        self.assertEqual((second.body["user_id"], second.body["meta"]), ("ann", {"plan": [7]}))
        for asked in (first, second):
            # As a backend does with the standard's own library; one byte more, and it refuses.
            Webhook(SECRET).verify(asked.raw, dict(asked.headers))
            with self.assertRaises(WebhookVerificationError):
                Webhook(SECRET).verify(asked.raw + b" ", dict(asked.headers))
            self.assertEqual((asked.headers["Cookie"], asked.headers["X-Tenant"]), ("session=s3cret-cookie", "acme"))
            self.assertNotIn("X-Other", asked.headers)
            self.assertEqual(asked.headers["Content-Type"], "application/json")
        self.assertNotEqual(first.headers["webhook-id"], second.headers["webhook-id"])
        self.assertNotIn(b"s3cret-cookie", self.log.read_bytes())
        self.assertNotIn(b"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", self.log.read_bytes())

    def ask_raw(self, socket, **message):
        socket.send(json.dumps(message))
        return socket.recv(timeout=PATIENCE_S)

    # capability: 64
    def test_the_plain_chat_is_decided_in_its_own_words(self):
        self.serve("connect", chat_path="/chat")
        # One whose clock counts milliseconds.
        chat = lambda: self.enterContext(connect(f"{self.server.url}chat", user_agent_header="a browser"))  # noqa: E731
        self.backend.answer("connect", error("banned", "You are banned"))
        banned = chat()
        self.assertEqual(self.receive(banned), {"type": "error", "username": "System", "content": "You are banned"})
        self.assert_closed(banned, 1008, "You are banned")
        gate = Gate(result(user_id="ann", channels=["news"]))
        self.backend.answer("connect", gate)
        ann = chat()
        # What is said early is said afterwards, and by the user that the backend has named.
        ann.send(json.dumps({"type": "message", "content": "early"}))
        gate.wait()
        gate.opened.set()
        self.assertEqual(self.receive(ann)["content"], "Welcome! Please identify yourself.")
        self.assertEqual(self.receive(ann), {"type": "message", "username": "ann", "content": "early"})
        with self.server.http() as http:
            self.assertEqual(http.get("/api/channels/news").json()["subscribers"], 0, "the chat knows no channels")
            self.assertEqual(len(http.get("/api/users/ann").json()["connections"]), 1)

    # capability: 64 85
    def test_whom_the_backend_subscribes_may_catch_up(self):
        rules = '[[channels]]\npattern = "kept:*"\nhistory = 100\n'
        self.serve("connect", rules=rules)
        publisher = self.client("bob")
        publish = lambda number: self.ask(publisher, type="publish", channel="kept:1", data=number)["data"]  # noqa: E731
        place = publish(1)
        seen = {"offset": place["offset"], "epoch": place["epoch"]}
        publish(2)
        self.backend.answer("connect", result(channels=["kept:1"]))
        socket = self.socket()
        self.assertEqual([self.receive(socket)["type"] for _ in range(2)], ["welcome", "subscribed"])
        # This one comes as to any subscriber; what was before is still to be had, and it is not had twice.
        publish(3)
        for recovered, missed in ((True, [2]), (None, [])):
            socket.send(json.dumps({"type": "subscribe", "channel": "kept:1", "recover": seen}))
            reply = self.receive(socket)
            if recovered:
                self.assertEqual((reply["type"], reply["data"]), ("message", 3))
                reply = self.receive(socket)
            self.assertEqual((reply["type"], reply["data"].get("recovered")), ("subscribed", recovered))
            self.assertEqual([self.receive(socket)["data"] for _ in missed], missed)
            socket.send(json.dumps({"type": "ping"}))
            self.assertEqual(self.receive(socket)["type"], "pong", "nothing else comes")

    # capability: 27 39 64
    def test_the_plain_chat_is_turned_away_in_its_own_words(self):
        self.serve("connect", chat_path="/chat", limits_connections_per_user_max="1", webhook_concurrency_max="1")
        chat = lambda: self.enterContext(connect(f"{self.server.url}chat", user_agent_header="a browser"))  # noqa: E731
        told = lambda why: {"type": "error", "username": "System", "content": why}  # noqa: E731
        self.backend.answer("connect", result(user_id="ann"))
        self.assertEqual(self.receive(chat())["content"], "Welcome! Please identify yourself.")
        second = chat()
        self.assertEqual(self.receive(second), told("a user may have 1 connections (`limits.connections_per_user_max`)"))
        self.assert_closed(second, 4029, "Too many connections")
        gate = Gate(result())
        self.backend.answer("connect", gate)
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            waiting = list(pool.map(lambda _: self.socket(), range(QUESTIONS_MAX)))
        asked = lambda family: self.sample(f"crore_webhook_{family}", event="connect")  # noqa: E731
        eventually(lambda: asked("waiting") + asked("in_flight") == QUESTIONS_MAX)
        late = chat()
        self.assertEqual(self.receive(late), told("Server busy, try again later"))
        self.assert_closed(late, 1013, "Try again later")
        gate.opened.set()
        self.assertEqual({self.receive(socket)["type"] for socket in waiting}, {"welcome"})

    # capability: 64 84
    def test_whom_the_backend_subscribes_is_present(self):
        rules = '[[channels]]\npattern = "room:*"\npresence = "list"\nsubscribe_webhook = true\n'
        self.serve("connect", "subscribe", rules=rules)
        self.backend.answer("connect", result(user_id="ann", channels=["room:1"]))
        socket = self.socket()
        self.assertEqual([self.receive(socket)["type"] for _ in range(2)], ["welcome", "subscribed"])
        with self.server.http() as http:
            users = lambda room: [user["user"] for user in http.get(f"/api/channels/{room}/presence").json()["users"]]
            eventually(lambda: users("room:1") == ["ann"])
            self.backend.answer("subscribe", error("full", "The room is full"))
            socket.send(json.dumps({"type": "subscribe", "channel": "room:2", "metadata": {"a": 1}}))
            self.assertEqual(self.receive(socket)["code"], "full")
            self.assertEqual(users("room:2"), [])
            socket.close()
            eventually(lambda: users("room:1") == [])

    # capability: 64
    def test_the_backend_refuses(self):
        self.serve("connect")
        self.backend.answer("connect", error("banned", "You are banned"))
        socket = self.socket()
        self.assertEqual(self.receive(socket), {"type": "error", "code": "banned", "error": "You are banned"})
        self.assert_closed(socket, 1008, "You are banned")
        self.backend.answer("connect", disconnect())
        self.assert_closed(self.socket(), 4321, "Go away")
        self.assertEqual((self.counted("connect", "error"), self.counted("connect", "disconnect")), (1, 1))

    # capability: 64 69
    def test_nobody_is_there_before_the_backend_has_agreed(self):
        self.serve("connect")
        gate = Gate(result(user_id="ann"))
        self.backend.answer("connect", gate)
        socket = self.socket()
        # What is sent early is done afterwards, in order.
        socket.send(json.dumps({"type": "subscribe", "channel": "news", "id": 1}))
        socket.send(json.dumps({"type": "connect", "id": 2}))
        gate.wait()
        with self.server.http() as http:
            http.post("/api/broadcast", json={"data": "not for it"})
            self.assertEqual(http.get("/api/channels/news").json()["subscribers"], 0)
            self.assertEqual(http.get("/api/users/ann").json()["connections"], [])
        gate.opened.set()
        self.assertEqual(self.receive(socket)["type"], "welcome")
        self.assertEqual((self.receive(socket)["type"], self.receive(socket)["data"]["user_id"]), ("subscribed", "ann"))

    # capability: 64 96
    def test_a_backend_that_is_down(self):
        self.serve("connect", webhook_timeout="2s")
        for answer in (Gate(result()), Raw(503, b""), None):
            self.backend.answer("connect", answer if callable(answer) else lambda _, answer=answer: answer)
            socket = self.socket()
            self.assertEqual(self.receive(socket), UNAVAILABLE)
            self.assert_closed(socket, 1013, "Try again later")
            if isinstance(answer, Gate):
                answer.opened.set()
        outcomes = ("timeout", "server_error", "broken")
        self.assertEqual([self.counted("connect", outcome) for outcome in outcomes], [1, 1, 1])

    # capability: 64 96
    def test_a_backend_that_can_not_be_reached_may_stand_for_consent(self):
        self.serve("connect", "rpc", backend=nobody(), webhook_connect_when_down="allow")
        client = self.client("ann")
        self.assertEqual(self.ask(client, type="connect")["data"]["user_id"], "ann")
        self.assertEqual(self.counted("connect", "unreachable"), 1)

    # capability: 64 96
    def test_a_question_that_fails_is_never_consent(self):
        self.serve("connect", webhook_connect_when_down="allow")
        for answer in (Raw(500, b""), Raw(200, b"{}")):
            self.backend.answer("connect", answer)
            socket = self.socket()
            self.assertEqual(self.receive(socket), UNAVAILABLE)
            self.assert_closed(socket, 1013, "Try again later")
        self.assertEqual([self.counted("connect", outcome) for outcome in ("server_error", "unusable")], [1, 1])

    # capability: 58 64
    def test_a_token_outranks_the_backend(self):
        auth = {"auth_mode": "required", "auth_secret": TOKEN_SECRET, "identity_trust_user_header": None}
        self.serve("connect", **auth)
        command = [PROGRAMS / "crore", "gen-token", "--user", "ann", "--expires", "1h"]
        variables = {"CRORE_AUTH_MODE": "required", "CRORE_AUTH_SECRET": TOKEN_SECRET}
        token = subprocess.run(command, env=variables, capture_output=True, check=True, text=True).stdout.strip()
        bearer = {"Authorization": f"Bearer {token}"}
        socket = self.socket(additional_headers=bearer)
        self.assertEqual((self.receive(socket)["type"], self.receive(socket)["type"]), ("authenticated", "welcome"))
        self.assertEqual(self.backend.about("connect")[0]["user_id"], "ann")
        # In a message, with the first question behind it: nobody is asked before.
        socket = self.socket()
        socket.send(json.dumps({"type": "auth", "token": token}))
        socket.send(json.dumps({"type": "connect"}))
        self.assertEqual([self.receive(socket)["type"] for _ in range(3)], ["authenticated", "welcome", "connected"])
        self.backend.answer("connect", result(user_id="eve"))
        socket = self.socket(additional_headers=bearer)
        self.assertEqual((self.receive(socket)["type"], self.receive(socket)), ("authenticated", UNAVAILABLE))
        self.assert_closed(socket, 1013, "Try again later")
        self.assertEqual(len(self.backend.asked), 3)
        self.assertNotIn(token.encode(), self.log.read_bytes())
        self.assertFalse(any("Authorization" in asked.headers for asked in self.backend.asked))

    def serve_optional(self, **settings):
        auth = {"auth_mode": "optional", "auth_secret": TOKEN_SECRET, "identity_trust_user_header": None}
        self.serve("connect", **auth, **settings)
        self.backend.answer("connect", lambda asked: self.decide(asked.body.get("user_id")))
        self.decide = lambda user: error("banned", "You are banned") if user == "eve" else result()

    def stranger(self):
        socket = self.socket()
        self.assertEqual(self.receive(socket)["type"], "welcome")
        return socket

    # capability: 58 64
    def test_who_logs_in_later_is_asked_about_as_well(self):
        self.serve_optional()
        with self.server.http() as http:
            socket = self.stranger()
            gate = Gate(result(user_id="ann", meta=7, channels=["news"]))
            self.backend.answer("connect", gate)
            socket.send(json.dumps({"type": "auth", "token": user_token("ann"), "id": 1}))
            socket.send(json.dumps({"type": "connect", "id": 2}))
            gate.wait()
            # It is nobody's before the backend has agreed, and what comes behind waits.
            self.assertEqual(http.get("/api/users/ann").json()["connections"], [])
            gate.opened.set()
            told = [self.receive(socket) for _ in range(3)]
            self.assertEqual([(one["type"], one.get("id")) for one in told[:2]], [("authenticated", 1), ("subscribed", None)])
            self.assertEqual((told[0]["user_id"], told[1]["channel"]), ("ann", "news"))
            self.assertEqual((told[2]["id"], told[2]["data"]["user_id"]), (2, "ann"))
            connections = http.get("/api/users/ann").json()["connections"]
            self.assertEqual(connections, [told[2]["data"]["connection_id"]])
            asked = self.backend.about("connect")
            self.assertEqual([one.get("user_id") for one in asked], [None, "ann"])
            self.assertEqual(asked[0]["connection_id"], asked[1]["connection_id"])
            # Another token of the same user is none of the backend's business.
            socket.send(json.dumps({"type": "refresh", "token": user_token("ann")}))
            self.assertEqual((self.receive(socket)["type"], len(self.backend.about("connect"))), ("authenticated", 2))

    # capability: 58 64
    def test_who_is_refused_does_not_log_in_later(self):
        self.serve_optional()
        socket = self.stranger()
        socket.send(json.dumps({"type": "auth", "token": user_token("eve"), "id": 1}))
        self.assertEqual(self.receive(socket), {"type": "error", "id": 1, "code": "banned", "error": "You are banned"})
        self.assert_closed(socket, 1008, "You are banned")
        for decide, code, reason in (
            (lambda user: disconnect() if user else result(), 4321, "Go away"),
            (lambda user: result(user_id="bob") if user else result(), 1013, "Try again later"),
            (lambda user: Raw(503, b"") if user else result(), 1013, "Try again later"),
        ):
            self.decide = decide
            socket = self.stranger()
            socket.send(json.dumps({"type": "auth", "token": user_token("ann"), "id": 2}))
            if code == 1013:
                self.assertEqual(self.receive(socket), {**UNAVAILABLE, "id": 2})
            self.assert_closed(socket, code, reason)

    # capability: 59 64
    def test_a_token_that_ends_while_the_backend_is_asked_opens_nothing(self):
        self.serve_optional(auth_leeway="0s")
        socket = self.stranger()
        gate = Gate(result())
        self.backend.answer("connect", gate)
        socket.send(json.dumps({"type": "auth", "token": user_token("ann", lasts_s=2), "id": 1}))
        gate.wait()
        time.sleep(3)
        gate.opened.set()
        refused = self.receive(socket)
        self.assertEqual((refused["id"], refused["code"]), (1, "token_expired"))
        self.assert_closed(socket, 4001, "Authentication failed")

    # capability: 27 64
    def test_the_backend_names_one_user_too_often(self):
        self.serve("connect", limits_connections_per_user_max="1")
        self.backend.answer("connect", result(user_id="ann"))
        self.client()
        socket = self.socket()
        self.assertEqual(self.receive(socket)["code"], "too_many_connections")
        self.assert_closed(socket, 4029, "Too many connections")


def user_token(user, lasts_s=600):
    """A token of a user."""
    return jwt.encode({"user_id": user, "exp": int(time.time()) + lasts_s}, TOKEN_SECRET, "HS256")


def channel_token(user, channel):
    """A token for a channel (JWT, HS256)."""
    claims = {"sub": user, "channel": channel, "exp": int(time.time()) + 600}
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = hmac.digest(TOKEN_SECRET.encode(), signed, "sha256")
    return (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


class Channels(WebhookCase):
    # capability: 64
    def test_the_rules_of_the_channel_come_first(self):
        rule = '[[channels]]\npattern = "{}:*"\n{}\nsubscribe_webhook = true\n'
        rules = rule.format("users", 'may_subscribe = "users"') + rule.format("private", 'may_subscribe = "token"')
        rules += '[[channels]]\npattern = "users:quiet*"\nmay_publish = "nobody"\npublish_webhook = true\n'
        self.serve("subscribe", "publish", rules=rules, auth_subscription_secret=TOKEN_SECRET)
        ann, stranger = self.client("ann"), self.client()
        for client, channel in ((stranger, "users:1"), (ann, "private:1")):
            self.assertEqual(self.ask(client, type="subscribe", channel=channel)["code"], "forbidden")
        self.assertEqual(self.ask(ann, type="publish", channel="users:quiet", data=1)["code"], "forbidden")
        self.assertEqual(self.backend.asked, [])
        # What a more specific rule does not say of the backend the next one says.
        self.assertEqual(self.ask(ann, type="subscribe", channel="users:quiet")["type"], "subscribed")
        # A good token is not enough, and is none for later.
        self.backend.answer("subscribe", error())
        message = {"type": "subscribe", "channel": "private:1"}
        token = channel_token("ann", "private:1")
        self.assertEqual(self.ask(ann, **message, token=token)["code"], "not_allowed")
        self.backend.answer("subscribe", result())
        self.assertEqual(self.ask(ann, **message)["code"], "forbidden")
        subscribed = self.ask(ann, **message, token=token)
        self.assertEqual(subscribed["type"], "subscribed")
        self.assertGreater(subscribed["expires_at"] / 1000, time.time())
        self.assertEqual([asked["channel"] for asked in self.backend.about("subscribe")], ["users:quiet", "private:1", "private:1"])
        self.assertFalse(any(token in asked.raw.decode() for asked in self.backend.asked))

    # capability: 64
    def test_who_subscribes(self):
        self.serve("subscribe", "publish")
        client = self.client("ann")
        for kind, done in (("subscribe", "subscribed"), ("join", "joined")):
            answer = self.ask(client, type=kind, channel=f"asked:{kind}", id=7, data={"token": "t"})
            channel = f"asked:{kind}"
            self.assertEqual(answer, {"type": done, "id": 7, "channel": channel, "data": {done: channel}})
            asked = self.backend.about("subscribe")[-1]
            self.assertEqual(
                (asked["type"], asked["channel"], asked["data"], asked["user_id"], asked["connection_id"]),
                (kind, channel, {"token": "t"}, "ann", client.id),
            )
        # To be subscribed twice is to be subscribed; and there is no rule for others.
        self.ask(client, type="subscribe", channel="asked:subscribe")
        self.ask(client, type="join", channel="asked:join")
        self.ask(client, type="subscribe", channel="free")
        self.ask(client, type="publish", channel="free")
        self.assertEqual(len(self.backend.asked), 2)
        self.backend.answer("subscribe", error("no_seat", "No seat"))
        for kind in ("subscribe", "join"):
            refused = self.ask(client, type=kind, channel="asked:other", id="x")
            self.assertEqual(refused, {"type": "error", "id": "x", "code": "no_seat", "error": "No seat"})
        with self.server.http() as http:
            self.assertEqual(http.get("/api/channels/asked:other").json()["subscribers"], 0)
            self.assertEqual(http.get("/api/channels/asked:join").json()["subscribers"], 1)
        self.backend.answer("subscribe", disconnect(4003, "bye"))
        client.socket.send(json.dumps({"type": "subscribe", "channel": "asked:other"}))
        self.assert_closed(client, 4003, "bye")

    # capability: 38 64
    def test_who_publishes_and_what(self):
        self.serve("subscribe", "publish")
        ann, bob = self.client("ann"), self.client("bob")
        for client in (ann, bob):
            client.subscribe("asked:1")
        published = {"type": "response", "id": 1, "data": {"published": True}}
        self.assertEqual(self.ask(ann, type="publish", channel="asked:1", data="as it is", id=1), published)
        self.assertEqual(self.receive(bob)["data"], "as it is")
        self.backend.answer("publish", lambda asked: result(data={"clean": asked.body["data"].replace("bad", "***")}))
        self.assertEqual(self.ask(ann, type="publish", channel="asked:1", data="bad word", id=1), published)
        message = self.receive(bob)
        self.assertEqual((message["from"], message["data"]), ("ann", {"clean": "*** word"}))
        # To the sender as well, and acknowledged by nothing else: there is no `id`.
        ann.socket.send(json.dumps({"type": "message", "channel": "asked:1", "data": "bad"}))
        self.assertEqual((self.receive(ann)["data"], self.receive(bob)["data"]), ({"clean": "***"},) * 2)
        self.assertEqual([asked["type"] for asked in self.backend.about("publish")], ["publish", "publish", "message"])
        self.backend.answer("publish", error("quiet", "Not now"))
        refused = self.ask(ann, type="publish", channel="asked:1", data=1, id=2)
        self.assertEqual(refused, {"type": "error", "id": 2, "code": "quiet", "error": "Not now"})
        self.backend.answer("publish", disconnect())
        ann.socket.send(json.dumps({"type": "publish", "channel": "asked:1", "data": 1}))
        self.assert_closed(ann, 4321, "Go away")
        self.assertTrue(bob.nothing_came())
        # A backend that publishes itself is not asked.
        with self.server.http() as http:
            http.post("/api/publish", json={"channel": "asked:1", "data": "by the backend"})
        self.assertEqual(self.receive(bob)["data"], "by the backend")

    # capability: 64 96
    def test_a_backend_that_is_down(self):
        allow = {"webhook_subscribe_when_down": "allow", "webhook_publish_when_down": "allow"}
        self.serve("subscribe", "publish", webhook_timeout="1s", webhook_breaker_failures="2", **allow)
        ann, bob = self.client("ann"), self.client("bob")
        bob.subscribe("asked:1")
        gates = []
        for answer in ("late", Raw(500, b""), Raw(429, b""), None):
            if answer == "late":
                gates.append(Gate(result()))
                answer = gates[-1]
            for event in ("subscribe", "publish"):
                self.backend.answer(event, answer if callable(answer) else lambda _, answer=answer: answer)
            # One question has failed, and who has asked it may have made it so.
            for message in ({"type": "subscribe"}, {"type": "publish", "data": "refused"}):
                self.assertEqual(self.ask(ann, **message, channel="asked:1", id=3), {**UNAVAILABLE, "id": 3})
        for gate in gates:
            gate.opened.set()
        self.assertTrue(bob.nothing_came())
        # With the question of somebody else the breaker opens, and what it stands for holds.
        cat = self.client("cat")
        self.assertEqual(self.ask(cat, type="publish", channel="asked:1", data="refused", id=4)["code"], "unavailable")
        self.assertEqual(self.sample("crore_webhook_breaker_state", event="publish"), 2)
        self.assertEqual(self.ask(ann, type="publish", channel="asked:1", data="kept", id=5)["type"], "response")
        self.assertEqual(self.receive(bob)["data"], "kept")

    # capability: 64
    def test_what_can_not_be_used_is_refused_though_the_backend_may_be_down(self):
        allow = {"webhook_subscribe_when_down": "allow", "webhook_publish_when_down": "allow"}
        self.serve("subscribe", "publish", webhook_secret=SECRET, **allow)
        client = self.client()
        for answer in UNUSABLE:
            self.backend.answer("publish", answer)
            refused = self.ask(client, type="publish", channel="asked:1", data=1, id=5)
            self.assertEqual(refused, {**UNAVAILABLE, "id": 5}, answer.body[:80])
        # Nor is it led elsewhere.
        self.backend.answer("subscribe", Raw(307, b"", {"Location": self.backend.url + "elsewhere"}))
        self.assertEqual(self.ask(client, type="subscribe", channel="asked:1")["code"], "unavailable")
        self.assertNotIn("/elsewhere", [asked.path for asked in self.backend.asked])
        self.assertEqual(self.counted("publish", "unusable"), len(UNUSABLE))
        # It is up: the breaker has nothing to say.
        self.assertEqual(self.sample("crore_webhook_breaker_state", event="publish"), 0)
        log = self.log.read_text()
        self.assertIn("an answer of the webhook's backend can't be used", log)
        self.assertNotIn("welcome</html>", log)

    # capability: 64
    def test_an_answer_without_end_is_cut(self):
        self.serve("publish", webhook_timeout="2s")
        chunks = Raw(200, b"ffff\r\n" + b" " * 0xFFFF + b"\r\n", {"Transfer-Encoding": "chunked"})
        self.backend.answer("publish", chunks)
        client = self.client()
        self.assertEqual(self.ask(client, type="publish", channel="asked:1")["code"], "unavailable")
        self.assertEqual(self.counted("publish", "timeout"), 1, "64 KiB less one byte, and nothing more")
        more = chunks.body + b"2\r\n  \r\n"
        self.backend.answer("publish", chunks._replace(body=more))
        self.assertEqual(self.ask(client, type="publish", channel="asked:1")["code"], "unavailable")
        self.assertEqual(self.counted("publish", "unusable"), 1, "one byte too many")


class Together(WebhookCase):
    # capability: 64 69
    def test_a_channel_with_a_history_is_followed_when_the_backend_has_agreed(self):
        rules = '[[channels]]\npattern = "asked:*"\nhistory = 10\nsubscribe_webhook = true\n'
        self.serve("connect", "subscribe", rules=rules)
        self.backend.answer("connect", result(channels=["asked:0"]))
        gate = Gate(result())
        self.backend.answer("subscribe", gate)
        socket = self.socket()
        self.assertEqual(self.receive(socket)["type"], "welcome")
        named = self.receive(socket)
        self.assertEqual((named["type"], named["channel"], named["data"]["offset"]), ("subscribed", "asked:0", 0))
        with self.server.http() as http:

            def publish(channel, data):
                self.assertEqual(http.post("/api/publish", json={"channel": channel, "data": data}).status_code, 200)

            publish("asked:0", "kept")
            message = self.receive(socket)
            self.assertEqual((message["channel"], message["data"], message["offset"]), ("asked:0", "kept", 1))
            publish("asked:1", "before")
            socket.send(json.dumps({"type": "subscribe", "channel": "asked:1", "id": 1}))
            gate.wait()
            publish("asked:1", "meanwhile")
            gate.opened.set()
            subscribed = self.receive(socket)
            self.assertEqual((subscribed["type"], subscribed["id"], subscribed["data"]["offset"]), ("subscribed", 1, 2))
            publish("asked:1", "after")
            message = self.receive(socket)
            self.assertEqual((message["data"], message["offset"]), ("after", 3))
            # Nor does it begin where the backend refuses.
            self.backend.answer("subscribe", error())
            socket.send(json.dumps({"type": "subscribe", "channel": "asked:2", "id": 2}))
            self.assertEqual(self.receive(socket)["code"], "not_allowed")
            self.assertEqual(http.get("/api/channels/asked:2").json()["subscribers"], 0)

    # capability: 64
    def test_a_token_waits_for_its_key_and_then_for_the_backend(self):
        keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
        public = [jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True) for key in keys]
        public = [key | {"kid": str(number), "use": "sig", "alg": "ES256"} for number, key in enumerate(public)]
        provider = type("TheProvider", (SlowProvider,), {"gate": threading.Event(), "keys": public[:1]})
        provider.gate.set()
        listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), provider)
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        self.addCleanup(listener.server_close)
        self.addCleanup(listener.shutdown)
        rule = '[[channels]]\npattern = "private:*"\nmay_subscribe = "token"\nsubscribe_webhook = true\n'
        auth = {"mode": "optional", "jwks_url": f"http://127.0.0.1:{listener.server_port}/keys"}
        auth |= {"jwks_refresh_min": "1s", "timeout": "30s"}
        auth = {f"auth_{name}": value for name, value in auth.items()}
        self.serve("subscribe", rules=rule, identity_trust_user_header=None, **auth)
        client = self.client()
        gate = Gate(result())
        self.backend.answer("subscribe", gate)
        # So that the unknown key causes a fetch.
        time.sleep(1.2)
        provider.gate.clear()
        provider.keys = public
        for number in (1, 2):
            claims = {"sub": client.id, "channel": f"private:{number}", "exp": time.time() + 600}
            token = jwt.encode(claims, keys[1], "ES256", {"kid": "1"})
            message = {"type": "subscribe", "channel": claims["channel"], "id": number, "token": token}
            client.socket.send(json.dumps(message))
        # A key keeps nobody, and the backend is asked about nothing that is not proved.
        self.assertEqual(self.ask(client, type="request", method="time")["type"], "response")
        self.assertEqual(self.backend.asked, [])
        provider.gate.set()
        gate.wait()
        client.socket.send(json.dumps({"type": "request", "method": "channels", "id": 3}))
        self.assertEqual(len(self.backend.asked), 1, "one question at a time")
        gate.opened.set()
        answers = {answer["id"]: answer for answer in (self.receive(client) for _ in range(3))}
        for number in (1, 2):
            self.assertEqual((answers[number]["type"], answers[number]["channel"]), ("subscribed", f"private:{number}"))
            self.assertGreater(answers[number]["expires_at"] / 1000, time.time())
        self.assertEqual(answers[3]["data"], {"channels": ["private:1"]})
        self.assertEqual([asked["channel"] for asked in self.backend.about("subscribe")], ["private:1", "private:2"])


class Settings(WebhookCase):
    # capability: 96
    def test_the_backend_is_asked_over_tls_if_the_host_trusts_it(self):
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        backend = self.enterContext(Backend(context))
        trusted, other = self.directory / "trusted.pem", self.directory / "other.pem"
        authority.cert_pem.write_to_path(str(trusted))
        trustme.CA().cert_pem.write_to_path(str(other))
        backend.answer("rpc", result(data="secure"))
        for certificates, expected in ((trusted, "response"), (other, "error")):
            self.serve("rpc", backend=backend, variables={"SSL_CERT_FILE": str(certificates)})
            self.assertEqual(self.ask(self.client(), type="request", method="m")["type"], expected)
        self.assertEqual(len(backend.asked), 1)

    # capability: 64
    def test_rules_are_changed_while_it_runs(self):
        self.serve("subscribe", "publish", rules="")
        client = self.client()
        client.subscribe("asked:1")
        self.assertEqual(self.backend.asked, [])
        (self.directory / "crore.toml").write_text(self.rules)
        self.server.process.send_signal(signal.SIGHUP)
        eventually(lambda: "read again" in self.log.read_text())
        client.subscribe("asked:2")
        self.assertEqual(self.backend.about("subscribe")[0]["channel"], "asked:2")

    def test_what_is_wrong_is_named(self):
        path = self.directory / "crore.toml"
        for text, problem in (
            ('[webhook]\nrpc_url = "nowhere"', "webhook.rpc_url"),
            ('[webhook]\nrpc_url = "http://127.0.0.1/"\nsecret = "short"', "webhook.secret"),
            ('[webhook]\nforward_headers = ["Host"]', "webhook.forward_headers"),
            ('[webhook]\nconcurrency_max = 5000', "webhook.concurrency_max"),
            ('[[channels]]\npattern = "a"\nsubscribe_webhook = true', "webhook.subscribe_url"),
            ('[webhook]\nconnect_when_down = "maybe"', "refuse or allow"),
        ):
            path.write_text(text)
            checked = subprocess.run([PROGRAMS / "crore", "check-config", path], capture_output=True, text=True)
            self.assertNotEqual(checked.returncode, 0, text)
            self.assertIn(problem, checked.stderr)
