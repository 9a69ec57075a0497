"""Who may do what in a channel: rules by pattern, roles and grants of tokens, tokens for channels."""

import http.server
import signal
import subprocess
import threading
import time
import urllib.request

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from support import PATIENCE_S, PROGRAMS, eventually
from test_auth import SECRET, AuthCase, Provider, token

OWN_SECRET = "a secret for channels, of thirty-two bytes"
FORBIDDEN = ("error", "forbidden", "Forbidden")


def rules(**rules):
    """`[[channels]]` for patterns, each with what else its entry says."""
    return "\n".join(f'[[channels]]\npattern = "{pattern}"\n{entry}' for pattern, entry in rules.items())


def ticket(user="ann", channel="private:1", secret=SECRET, lasts_s=600, **claims):
    """A token for a channel."""
    return jwt.encode({"sub": user, "channel": channel, "exp": time.time() + lasts_s, **claims}, secret, "HS256")


class AccessCase(AuthCase):
    def config(self, auth, http="", more="", channels=""):
        path = super().config(auth, http, more)
        path.write_text(path.read_text() + self.channels)
        return path

    def start(self, channels, http="", **auth):
        self.channels = rules(**channels)
        self.serve(http, **({"mode": '"optional"'} | auth))

    def reload(self, channels):
        self.channels = rules(**channels)
        self.config({"mode": '"optional"'})
        self.server.process.send_signal(signal.SIGHUP)
        time.sleep(1)

    def enter(self, user=None, **claims):
        """A connection that has been greeted, of a user or of nobody."""
        socket = self.connect(f"?token={token(user, **claims)}" if user else "")
        if user:
            self.assertEqual(self.receive(socket)["type"], "authenticated")
        welcome = self.receive(socket)
        self.assertEqual(welcome["type"], "welcome")
        socket.user_id = welcome["user_id"]
        return socket

    def subscribe(self, socket, channel, **fields):
        """None if that works, else the code of the error."""
        reply = self.ask(socket, type="subscribe", channel=channel, id=1, **fields)
        if reply["type"] == "subscribed":
            self.assertEqual((reply["channel"], reply["data"]), (channel, {"subscribed": channel}))
            return None
        self.assertEqual((reply["type"], reply["id"]), ("error", 1))
        return reply["code"]

    def publish(self, socket, channel, data=None):
        reply = self.ask(socket, type="publish", channel=channel, data=data, id=2)
        return None if reply["type"] == "response" else reply["code"]

    def assert_forbidden(self, reply, setting):
        self.assertEqual((reply["type"], reply["code"], reply["error"]), FORBIDDEN)
        self.assertIn(setting, reply["detail"])


class Rules(AccessCase):
    # capability: 64
    def test_each_word_lets_in_those_it_says(self):
        self.start(
            {
                "inbox:{user}": 'may_subscribe = ["owner", "role:support"]\nmay_publish = "users"',
                "team:*": 'may_subscribe = "granted"\nmay_publish = ["subscribers"]',
                "news": 'may_publish = "nobody"',
                "staff": 'may_subscribe = "role:staff"',
            }
        )
        stranger, ann, bob = self.enter(), self.enter("ann"), self.enter("bob", roles=["support"], channels=["team:red*"])
        for channel, expected in (
            ("inbox:ann", [False, True, True]),
            ("inbox:bob", [False, False, True]),
            ("inbox:", [True, True, True]),
            ("team:red", [False, False, True]),
            ("team:red:2", [False, False, True]),
            ("team:blue", [False, False, False]),
            ("staff", [False, False, False]),
            ("news", [True, True, True]),
            ("lobby", [True, True, True]),
        ):
            for kind in ("subscribe", "join"):
                with self.subTest(channel, kind=kind):
                    for socket, may in zip((stranger, ann, bob), expected):
                        reply = self.ask(socket, type=kind, channel=channel)
                        if may:
                            self.assertNotEqual(reply["type"], "error")
                        else:
                            self.assert_forbidden(reply, "`may_subscribe`")
                        self.ask(socket, type="unsubscribe", channel=channel)
        for channel, expected in (
            ("inbox:ann", ["forbidden", None, None]),
            ("team:red", ["forbidden", "forbidden", "forbidden"]),
            ("news", ["forbidden"] * 3),
            ("lobby", [None] * 3),
        ):
            with self.subTest(channel):
                self.assertEqual([self.publish(socket, channel) for socket in (stranger, ann, bob)], expected)
        self.assert_forbidden(self.ask(ann, type="message", channel="news", data=1), "`may_publish`")
        # Whoever has subscribed may publish where subscribers may.
        self.assertIsNone(self.subscribe(bob, "team:red"))
        self.assertIsNone(self.publish(bob, "team:red"))

    # capability: 64
    def test_what_is_forbidden_is_not_done(self):
        self.start({"quiet": 'may_publish = "nobody"', "closed": 'may_subscribe = "users"'})
        ann, stranger = self.enter("ann"), self.enter()
        for channel in ("quiet", "closed"):
            self.assertIsNone(self.subscribe(ann, channel))
        batch = [
            {"type": "publish", "channel": "quiet", "data": 1},
            {"type": "message", "channel": "quiet", "data": 2},
            {"type": "join", "channel": "closed"},
            {"type": "subscribe", "channel": "closed"},
        ]
        self.send(stranger, type="batch", messages=batch)
        self.assertEqual([self.receive(stranger)["code"] for _ in batch], ["forbidden"] * 4)
        self.assertEqual(self.ask(stranger, type="request", method="channels")["data"], {"channels": []})
        self.assertIsNone(self.publish(stranger, "closed", 3))
        message = self.receive(ann)
        self.assertEqual((message["channel"], message["data"]), ("closed", 3), "nothing else has come")
        self.assertEqual(self.ask(stranger, type="ping")["type"], "pong", "nor this")

    # capability: 64
    def test_the_most_specific_rule_counts(self):
        self.start(
            {
                "*": 'may_subscribe = "nobody"',
                "chat:*": 'may_subscribe = "anyone"\nmay_publish = "users"',
                "chat:{user}:*": 'may_subscribe = "owner"',
                "chat:lobby": "echo = false",
            }
        )
        stranger, ann = self.enter(), self.enter("ann")
        self.assertEqual(self.subscribe(stranger, "news"), "forbidden")
        self.assertEqual(self.subscribe(stranger, "chat:1"), None)
        self.assertEqual(self.subscribe(stranger, "chat:ann:1"), "forbidden")
        self.assertEqual(self.subscribe(ann, "chat:ann:1"), None)
        # What a rule does not say the next one says.
        self.assertEqual(self.subscribe(stranger, "chat:lobby"), None)
        self.assertEqual(self.publish(stranger, "chat:lobby"), "forbidden")
        self.assertEqual(self.publish(ann, "chat:lobby"), None)

    # capability: 64
    def test_other_rules_count_for_what_comes_after_them(self):
        self.start({"chat:*": 'may_subscribe = "users"'})
        stranger, ann = self.enter(), self.enter("ann", roles=["staff"])
        self.assertEqual(self.subscribe(stranger, "chat:1"), "forbidden")
        self.assertIsNone(self.subscribe(ann, "chat:1"))
        self.reload({"chat:*": 'may_subscribe = "role:staff"\nmay_publish = "nobody"', "open": ""})
        self.assertEqual(self.publish(stranger, "chat:1"), "forbidden")
        # What a token said when it was shown holds for rules that come later.
        self.assertIsNone(self.subscribe(ann, "chat:2"))
        self.reload({})
        self.assertIsNone(self.subscribe(stranger, "chat:1"))
        self.assertIsNone(self.publish(stranger, "chat:1", "hi"))
        self.assertEqual(self.receive(ann)["data"], "hi", "who is subscribed has stayed so")

    def test_a_refresh_replaces_what_the_first_token_granted(self):
        self.start({"staff": 'may_subscribe = "role:staff"', "team": 'may_publish = "granted"'})
        ann = self.enter("ann", roles=["staff"])
        self.assertIsNone(self.subscribe(ann, "staff"))
        self.assertEqual(self.publish(ann, "team"), "forbidden")
        self.assertEqual(self.ask(ann, type="refresh", token=token(channels="team"))["type"], "authenticated")
        self.assertEqual(self.receive(ann)["type"], "unsubscribed")
        self.assertEqual(self.subscribe(ann, "staff"), "forbidden")
        self.assertIsNone(self.publish(ann, "team"))

    # capability: 59 64
    def test_what_a_short_token_grants_ends_with_it(self):
        self.start({"staff": 'may_subscribe = "role:staff"\nmay_publish = "role:staff"'})
        ann = self.enter("ann")
        self.assertEqual(self.subscribe(ann, "staff"), "forbidden")
        self.assertEqual(self.ask(ann, type="auth", token=token(roles=["staff"], lasts_s=3))["type"], "authenticated")
        self.assertIsNone(self.subscribe(ann, "staff"))
        # Though the first one would be good for ten minutes.
        self.assert_refused(ann, "token_expired", "Token expired")

    # capability: 59 64 98
    def test_another_token_ends_subscriptions_that_it_does_not_allow(self):
        presence = 'presence = "list"\nmay_see_presence = "anyone"'
        self.start(
            {
                "staff:*": f'may_subscribe = "role:staff"\n{presence}',
                "staff:kept": 'may_subscribe = "role:staff"\nhistory = 10',
                "both": 'may_subscribe = ["role:staff", "role:guest"]',
                "open": "",
            },
            http="metrics = true",
        )
        ann, bob = self.enter("ann", roles=["staff"]), self.enter("bob", roles=["staff"])
        for channel in ("staff:kept", "both", "open"):
            self.assertIsNone(self.ask(ann, type="subscribe", channel=channel).get("code"))
        for socket in (bob, ann):
            self.assertEqual(self.ask(socket, type="join", channel="staff:1")["type"], "joined")
        self.assertEqual(self.receive(bob)["type"], "join")
        # The same roles change nothing.
        self.assertEqual(self.ask(ann, type="auth", token=token(roles=["staff"]))["type"], "authenticated")
        self.assertEqual(self.ask(ann, type="auth", token=token(roles=["guest"]))["type"], "authenticated")
        for channel in ("staff:1", "staff:kept"):
            expected = {"type": "unsubscribed", "channel": channel, "code": "forbidden", "error": "Forbidden"}
            self.assertEqual(self.receive(ann), expected)
        channels = self.ask(ann, type="request", method="channels")["data"]
        self.assertEqual(channels, {"channels": ["both", "open"]})
        left = self.receive(bob)
        self.assertEqual((left["type"], left["from"]), ("leave", "ann"))
        there = lambda: self.ask(bob, type="presence", channel="staff:1")["data"]["users"]
        eventually(lambda: [user["user"] for user in there()] == ["bob"])
        self.assertIsNone(self.publish(bob, "staff:1", "secret"))
        self.assertEqual(self.ask(ann, type="ping")["type"], "pong", "nothing has come")
        with urllib.request.urlopen(f"{self.server.url.replace('ws', 'http', 1)}metrics") as response:
            self.assertIn("\ncrore_subscriptions_revoked_total 2\n", response.read().decode())

    def test_a_configuration_that_makes_no_sense_is_refused(self):
        for entry, pattern, problem in (
            ('may_subscribe = "everyone"', "a", "expected anyone, users, owner"),
            ("may_publish = []", "a", "`nobody` stands alone"),
            ('may_publish = "owner"', "a:*", "write `{user}` in its place"),
            ('may_subscribe = "subscribers"', "a", "can't say who may subscribe"),
            ('may_subscribe = "token"', "a", "`auth.subscription_secret`"),
            ("", "{user}*", "something that ends the name"),
            ("", "{name}", "only as `{user}`"),
        ):
            with self.subTest(entry, pattern=pattern):
                self.channels = rules(**{pattern: entry})
                command = [PROGRAMS / "crore", "check-config", self.config({"mode": '"off"'})]
                checked = subprocess.run(command, capture_output=True, text=True)
                self.assertEqual(checked.returncode, 2, checked)
                self.assertIn(problem, checked.stderr)


class Tokens(AccessCase):
    PRIVATE = {"private:*": 'may_subscribe = "token"\nmay_publish = "token"'}

    # capability: 64
    def test_a_token_opens_its_channel_to_its_user(self):
        self.start(self.PRIVATE)
        ann = self.enter("ann")
        refused = self.ask(ann, type="subscribe", channel="private:1")
        self.assert_forbidden(refused, '{"type":"subscribe","channel":…,"token":…}')
        self.assertEqual(self.publish(ann, "private:1"), "forbidden")
        told = self.ask(ann, type="subscribe", channel="private:1", token=ticket(), id="s")
        self.assertEqual((told["type"], told["id"], told["data"]), ("subscribed", "s", {"subscribed": "private:1"}))
        self.assertAlmostEqual(told["expires_at"], (time.time() + 600) * 1000, delta=5000)
        self.assertIsNone(self.publish(ann, "private:1"))
        # To be subscribed twice is to be subscribed, and takes no other token.
        self.assertIsNone(self.subscribe(ann, "private:1"))
        self.assertEqual(self.publish(ann, "private:2"), "forbidden")
        # With the subscription goes what came of it.
        self.ask(ann, type="unsubscribe", channel="private:1")
        self.assertEqual(self.subscribe(ann, "private:1"), "forbidden")
        self.assertEqual(self.publish(ann, "private:1"), "forbidden")

    # capability: 64
    def test_bad_tokens(self):
        self.start(self.PRIVATE)
        ann = self.enter("ann")
        unsigned = jwt.encode({"sub": "ann", "channel": "private:1", "exp": time.time() + 60}, "", "none")
        for bad, code, error in (
            (ticket("eve"), "invalid_token", "Invalid token"),
            (ticket(channel="private:2"), "invalid_token", "Invalid token"),
            (ticket(channel="private:*"), "invalid_token", "Invalid token"),
            (ticket(secret=OWN_SECRET), "invalid_token", "Invalid token"),
            (ticket(lasts_s=-60), "token_expired", "Token expired"),
            (ticket(nbf=time.time() + 60), "invalid_token", "Invalid token"),
            (token("ann"), "invalid_token", "Invalid token"),
            (unsigned, "invalid_token", "Invalid token"),
            ("x" * 5000, "invalid_token", "Invalid token"),
            ("a.b.c", "invalid_token", "Invalid token"),
        ):
            for kind in ("subscribe", "join"):
                with self.subTest(kind, token=bad[:40]):
                    reply = self.ask(ann, type=kind, channel="private:1", token=bad, id=7)
                    self.assertEqual(reply, {"type": "error", "id": 7, "code": code, "error": error})
        reply = self.ask(ann, type="subscribe", channel="private:1", token=7)
        self.assertEqual((reply["code"], reply["detail"]), ("invalid_message", "`token` is a string"))
        self.assertEqual(self.ask(ann, type="request", method="channels")["data"], {"channels": []})
        self.assertIsNone(self.subscribe(ann, "private:1", token=ticket()))

    # capability: 64 53
    def test_a_token_for_a_channel_opens_no_connection(self):
        self.start(self.PRIVATE, mode='"required"')
        self.assert_refused(self.connect(f"?token={ticket()}"), "invalid_token", "Invalid token")

    # capability: 64
    def test_who_has_no_name_is_meant_by_its_connection(self):
        self.start(self.PRIVATE, mode='"off"', secret=None, subscription_secret=f'"{OWN_SECRET}"')
        first, second = self.enter(), self.enter()
        own = ticket(first.user_id, secret=OWN_SECRET)
        self.assertEqual(self.subscribe(second, "private:1", token=own), "invalid_token")
        self.assertIsNone(self.subscribe(first, "private:1", token=own))

    # capability: 64 59
    def test_a_subscription_ends_with_its_token(self):
        self.start(self.PRIVATE, subscription_notice='"2s"')
        ann, bob = self.enter("ann"), self.enter("bob")
        self.assertEqual(self.ask(bob, type="join", channel="private:1", token=ticket("bob"))["type"], "joined")
        told = self.ask(ann, type="join", channel="private:1", token=ticket(lasts_s=4, info={"name": "Ann"}))
        self.assertEqual(told["type"], "joined")
        joined = self.receive(bob)
        self.assertEqual((joined["type"], joined["from"], joined["data"]), ("join", "ann", {"name": "Ann"}))
        notice = self.receive(ann)
        self.assertEqual(notice, {"type": "expiring", "channel": "private:1", "expires_at": told["expires_at"]})
        self.assertTrue(-2500 < time.time() * 1000 - told["expires_at"] < 0)
        end = self.receive(ann)
        self.assertGreaterEqual(time.time() * 1000, told["expires_at"] + 1000, "a second of leeway")
        self.assertEqual(
            end, {"type": "unsubscribed", "channel": "private:1", "code": "token_expired", "error": "Token expired"}
        )
        left = self.receive(bob)
        self.assertEqual((left["type"], left["from"]), ("leave", "ann"))
        # Nothing of it is left, and the connection goes on.
        self.assertIsNone(self.publish(bob, "private:1"))
        self.assertEqual(self.publish(ann, "private:1"), "forbidden")
        self.assertEqual(self.ask(ann, type="request", method="channels")["data"], {"channels": []})
        self.assertIsNone(self.subscribe(ann, "private:1", token=ticket()))

    # capability: 64 59
    def test_a_refresh_prolongs_and_a_bad_one_changes_nothing(self):
        self.start(self.PRIVATE, subscription_notice='"1s"')
        ann = self.enter("ann")
        first = ticket(lasts_s=4)
        self.assertIsNone(self.subscribe(ann, "private:1", token=first))
        self.assertIsNone(self.subscribe(ann, "private:2", token=ticket(channel="private:2", lasts_s=4)))
        self.assertEqual(self.subscribe(ann, "private:2", token=ticket("eve", "private:2")), "invalid_token")
        told = self.ask(ann, type="subscribe", channel="private:1", token=ticket())
        # An earlier end changes nothing.
        self.assertEqual(self.ask(ann, type="subscribe", channel="private:1", token=first)["expires_at"], told["expires_at"])
        self.assertEqual(self.receive(ann)["type"], "expiring")
        end = self.receive(ann)
        self.assertEqual((end["type"], end["channel"]), ("unsubscribed", "private:2"))
        time.sleep(1)
        self.assertEqual(self.ask(ann, type="request", method="channels")["data"], {"channels": ["private:1"]})

    # capability: 64
    def test_a_token_for_a_channel_that_takes_none_is_not_looked_at(self):
        self.start(self.PRIVATE | {"private:open": 'may_subscribe = ["users", "token"]\nmay_publish = "anyone"'})
        self.assertIsNone(self.subscribe(self.enter("ann"), "lobby", token="garbage"))
        for socket in (self.enter("ann"), self.enter()):
            self.assertEqual(self.subscribe(socket, "private:open", token="garbage"), "invalid_token")

    STAGE = {"stage:*": 'may_subscribe = "anyone"\nmay_publish = "token"\nhistory = 10\nmay_see_history = "token"'}

    # capability: 64 69
    def test_a_token_is_good_for_more_than_to_subscribe(self):
        self.start(self.STAGE | {"room:*": 'may_subscribe = ["role:vip", "token"]\nmay_publish = "token"'})
        ann, eve = self.enter("ann"), self.enter("eve")
        for socket in (ann, eve):
            self.assertIsNone(self.subscribe_from_home(socket))
            self.assertEqual(self.publish(socket, "stage:1"), "forbidden")
        # A bad token is none, and is said to be.
        self.assertEqual(self.subscribe(eve, "stage:1", token=ticket("ann", "stage:1")), "invalid_token")
        self.assertIsNone(self.subscribe_from_home(ann, token=ticket("ann", "stage:1")))
        # To subscribe again takes no other one, and gives up none.
        for _ in range(2):
            self.assertIsNone(self.publish(ann, "stage:1", 1))
            self.assertEqual(self.receive(eve)["data"], 1)
            history = self.ask(ann, type="history", channel="stage:1")
            self.assertEqual(history["type"], "response")
            self.assertIsNone(self.subscribe_from_home(ann))
        for kind in ("publish", "history"):
            self.assertEqual(self.ask(eve, type=kind, channel="stage:1")["code"], "forbidden")
        # Nor does another way to be let in.
        self.assertIsNone(self.subscribe(ann, "room:1", token=ticket("ann", "room:1")))
        self.assertEqual(self.ask(ann, type="auth", token=token(roles=["vip"]))["type"], "authenticated")
        self.assertIsNone(self.subscribe(ann, "room:1"))
        self.assertIsNone(self.publish(ann, "room:1"))
        vip = self.enter("vip", roles=["vip"])
        self.assertIsNone(self.subscribe(vip, "room:1", token=ticket("vip", "room:1")))
        self.assertIsNone(self.publish(vip, "room:1"))
        self.assertEqual(self.receive(ann)["from"], "vip")
        # With the subscription it goes.
        self.ask(ann, type="unsubscribe", channel="stage:1")
        self.assertEqual(self.publish(ann, "stage:1"), "forbidden")

    def subscribe_from_home(self, socket, **fields):
        """As `subscribe`, where the reply says more."""
        reply = self.ask(socket, type="subscribe", channel="stage:1", **fields)
        return None if reply["type"] == "subscribed" else reply["code"]

    # capability: 64 59
    def test_who_needs_no_token_stays_when_it_ends(self):
        self.start(self.STAGE, subscription_notice='"1s"')
        ann, bob = self.enter("ann"), self.enter("bob")
        self.assertIsNone(self.subscribe_from_home(bob, token=ticket("bob", "stage:1")))
        self.assertIsNone(self.subscribe_from_home(ann, token=ticket("ann", "stage:1", lasts_s=3)))
        self.assertIsNone(self.publish(ann, "stage:1", "before"))
        self.assertEqual(self.receive(bob)["data"], "before")
        notice = self.receive(ann)
        self.assertEqual((notice["type"], notice["channel"]), ("expiring", "stage:1"))
        deadline = time.monotonic() + PATIENCE_S
        while self.publish(ann, "stage:1", "more") is None:
            self.assertEqual(self.receive(bob)["data"], "more")
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.2)
        self.assertGreaterEqual(time.time() * 1000, notice["expires_at"] + 1000, "a second of leeway")
        self.assertIsNone(self.publish(bob, "stage:1", "after"))
        self.assertEqual(self.receive(ann)["data"], "after")

    # capability: 98
    def test_what_is_refused_and_what_ends_is_counted(self):
        self.start(self.PRIVATE, http="metrics = true")
        ann = self.enter("ann")
        self.assertEqual(self.subscribe(ann, "private:1"), "forbidden")
        self.assertEqual(self.subscribe(ann, "private:1", token=ticket("eve")), "invalid_token")
        self.assertIsNone(self.subscribe(ann, "private:1", token=ticket(lasts_s=1)))
        self.assertEqual(self.receive(ann)["type"], "unsubscribed")
        with urllib.request.urlopen(f"{self.server.url.replace('ws', 'http', 1)}metrics") as response:
            lines = response.read().decode().splitlines()
        for line in ("crore_messages_forbidden_total 1", "crore_errors_total 2", "crore_subscriptions_expired_total 1"):
            self.assertIn(line, lines)

    # capability: 64
    def test_gen_token_and_check_token_know_them(self):
        self.start(self.PRIVATE, subscription_secret=f'"{OWN_SECRET}"')
        path = self.directory / "crore.toml"
        crore = lambda *arguments: subprocess.run(
            [PROGRAMS / "crore", *arguments, "--config", path], capture_output=True, text=True
        )
        made = crore("gen-token", "--user", "ann", "--channel", "private:1", "--claim", 'info={"a":1}').stdout.strip()
        claims = jwt.decode(made, OWN_SECRET, ["HS256"])
        self.assertEqual((claims["sub"], claims["channel"], claims["info"]), ("ann", "private:1", {"a": 1}))
        self.assertIsNone(self.subscribe(self.enter("ann"), "private:1", token=made))
        checked = crore("check-token", made)
        self.assertEqual(checked.returncode, 0, checked)
        self.assertIn('user "ann" may subscribe to "private:1", until', checked.stdout)
        checked = crore("check-token", ticket())
        self.assertEqual(checked.returncode, 1, checked)
        self.assertIn("invalid its signature", checked.stdout)
        checked = crore("check-token", token(roles=["admin"], channels=["chat:*"]))
        self.assertIn('user "ann", until', checked.stdout)
        self.assertIn('roles: "admin"; channels: "chat:*"', checked.stdout)


class SlowProvider(Provider):
    """An identity provider that takes its time, when it is told to."""

    gate = threading.Event()

    def do_GET(self):
        self.gate.wait(PATIENCE_S)
        super().do_GET()


class Rotation(AccessCase):
    def add_key(self, provider, name):
        key = ec.generate_private_key(ec.SECP256R1())
        public = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
        provider.keys = [*provider.keys, public | {"kid": name, "use": "sig", "alg": "ES256"}]
        return key

    def setUp(self):
        super().setUp()
        self.provider = type("TheProvider", (SlowProvider,), {"gate": threading.Event()})
        self.provider.gate.set()
        listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.provider)
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        self.addCleanup(listener.server_close)
        self.addCleanup(listener.shutdown)
        first = self.add_key(self.provider, "first")
        url = f'"http://127.0.0.1:{listener.server_port}/keys"'
        times = {"jwks_refresh": '"1h"', "jwks_refresh_min": '"1s"', "timeout": '"30s"'}
        self.start({"private:*": 'may_subscribe = "token"'}, "metrics = true", secret=None, jwks_url=url, **times)
        claims = {"user_id": "ann", "exp": time.time() + 600}
        known = jwt.encode(claims, first, "ES256", {"kid": "first"})
        self.ann = self.connect(f"?token={known}")
        self.assertEqual([self.receive(self.ann)["type"] for _ in range(2)], ["authenticated", "welcome"])
        # So that the next unknown key causes a fetch.
        time.sleep(1.2)

    def ticket(self, key, name, channel, user="ann"):
        claims = {"sub": user, "channel": channel, "exp": time.time() + 600}
        return jwt.encode(claims, key, "ES256", {"kid": name})

    # capability: 64
    def test_a_subscription_waits_for_a_key_that_is_fetched(self):
        second = self.add_key(self.provider, "second")
        unknown = ec.generate_private_key(ec.SECP256R1())
        self.provider.gate.clear()
        asked = [
            {"type": "subscribe", "channel": "private:1", "token": self.ticket(second, "second", "private:1")},
            {"type": "join", "channel": "private:2", "token": self.ticket(second, "second", "private:2")},
            {"type": "subscribe", "channel": "private:3", "token": self.ticket(second, "second", "private:3", "eve")},
            {"type": "subscribe", "channel": "private:4", "token": self.ticket(unknown, "unknown", "private:4")},
        ]
        for index, message in enumerate(asked):
            self.send(self.ann, **message, id=index)
        # Meanwhile all else goes on.
        self.assertEqual(self.ask(self.ann, type="request", method="channels")["data"], {"channels": []})
        self.provider.gate.set()
        replies = {reply["id"]: reply for reply in (self.receive(self.ann) for _ in asked)}
        self.assertEqual([replies[0]["type"], replies[1]["type"]], ["subscribed", "joined"])
        self.assertEqual([replies[2]["code"], replies[3]["code"]], ["invalid_token"] * 2)
        channels = self.ask(self.ann, type="request", method="channels")["data"]
        self.assertEqual(channels, {"channels": ["private:1", "private:2"]})

    def waiting_bytes(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.server.port}/metrics", timeout=PATIENCE_S) as answer:
            lines = answer.read().decode().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("crore_waiting_bytes ")))

    # capability: 28 64
    def test_what_waits_for_a_key_is_counted(self):
        second = self.add_key(self.provider, "second")
        self.provider.gate.clear()
        for index in range(3):
            ticket = self.ticket(second, "second", f"private:{index}")
            message = {"type": "subscribe", "channel": f"private:{index}", "token": ticket, "data": "x" * 100_000}
            self.send(self.ann, **message, id=index)
        self.assertEqual(self.ask(self.ann, type="ping")["type"], "pong")
        waiting = self.waiting_bytes()
        self.assertTrue(300_000 <= waiting < 310_000, waiting)
        self.assertEqual(self.ask(self.ann, type="unsubscribe", channel="private:1")["code"], "cancelled")
        self.assertEqual(self.receive(self.ann)["type"], "unsubscribed")
        waiting = self.waiting_bytes()
        self.assertTrue(200_000 <= waiting < 210_000, waiting)
        self.provider.gate.set()
        self.assertEqual([self.receive(self.ann)["type"] for _ in range(2)], ["subscribed"] * 2)
        self.assertEqual(self.waiting_bytes(), 0)

    # capability: 64
    def test_what_waits_can_be_given_up_and_is_bounded(self):
        second = self.add_key(self.provider, "second")
        self.provider.gate.clear()
        for index in range(9):
            channel = f"private:{index}"
            message = {"type": "subscribe", "channel": channel, "token": self.ticket(second, "second", channel)}
            self.send(self.ann, **message, id=index)
        refused = self.receive(self.ann)
        self.assertEqual((refused["id"], refused["code"]), (8, "busy"))
        given_up = self.ask(self.ann, type="unsubscribe", channel="private:3", id="u")
        self.assertEqual((given_up["id"], given_up["code"]), (3, "cancelled"))
        self.assertEqual(self.receive(self.ann)["type"], "unsubscribed")
        self.provider.gate.set()
        channels = [self.receive(self.ann)["channel"] for _ in range(7)]
        self.assertEqual(channels, [f"private:{index}" for index in (0, 1, 2, 4, 5, 6, 7)])
