"""Python's `websockets` in channels with a presence: who is there, who comes and goes, and that nobody stays behind."""

import base64
import concurrent.futures
import contextlib
import hmac
import json
import pathlib
import socket
import struct
import tempfile
import time
import unittest

from api import ApiServer, Client
from support import eventually

RULES = """
[presence]
event_interval = "300ms"
event_users_max = 5

[[channels]]
pattern = "room:*"
presence = "events"

[[channels]]
pattern = "list:*"
presence = "list"

[[channels]]
pattern = "kept:*"
presence = "events"
history = 10
"""


SECRET = "a secret of the tests, 32 bytes or more"


def dumps(**message):
    return json.dumps(message)


def token(lasts_s=60, **claims):
    """A token by HS256 (RFC 7515)."""
    encode = lambda part: base64.urlsafe_b64encode(part).rstrip(b"=")
    claims["exp"] = int(time.time()) + lasts_s
    signed = b".".join(encode(json.dumps(part).encode()) for part in ({"alg": "HS256"}, claims))
    return (signed + b"." + encode(hmac.digest(SECRET.encode(), signed, "sha256"))).decode()


class Presence(unittest.TestCase):
    def setUp(self):
        directory = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.rules = directory / "crore.toml"
        self.rules.write_text(RULES)
        variables = {"CRORE_CONFIG": str(self.rules), "CRORE_NAME": "node-1"}
        self.server = self.enterContext(ApiServer(**variables, CRORE_LIMITS_PING_INTERVAL="1s"))
        self.http = self.enterContext(self.server.http())

    def client(self, user=None):
        return self.enterContext(Client(self.server, user))

    def reply(self, client, **message):
        """Events may come before it."""
        client.socket.send(dumps(**message))
        while (reply := client.receive())["type"] == "presence":
            pass
        return reply

    def subscribe(self, client, channel, kind="subscribe", **fields):
        return self.reply(client, type=kind, channel=channel, **fields)

    def presence(self, client, channel, **fields):
        """`data` of the reply, or the error."""
        reply = self.reply(client, type="presence", id="p", channel=channel, **fields)
        return reply.get("data", reply)

    def event(self, client):
        message = client.receive()
        self.assertEqual(message["type"], "presence", message)
        return message["data"]

    def metadata(self, client, channel):
        """What is shown of the first connection of the first user."""
        return self.presence(client, channel)["users"][0]["connections"][0].get("metadata")

    def users(self, client, channel):
        return [user["user"] for user in self.presence(client, channel)["users"]]

    def entries(self):
        (sample,) = self.server.metrics()["crore_presence_entries"].samples
        return sample.value

    def metric(self, name):
        (sample,) = self.server.metrics()[name].samples
        return sample.value

    # capability: 73 84
    def test_subscribers_ask_who_is_there(self):
        before = time.time() * 1000
        ann = [self.client("ann") for _ in range(2)]
        bob, nobody = self.client("bob"), self.client()
        self.subscribe(ann[0], "list:1", metadata={"nick": "A", "n": [1, None]})
        for client in (ann[1], bob, nobody):
            self.subscribe(client, "list:1")
        # Who subscribes is answered before the home of the channel has heard of it.
        eventually(lambda: self.presence(bob, "list:1")["connection_count"] == 4)
        shown = self.presence(bob, "list:1")
        self.assertEqual(shown["user_count"], 3)
        self.assertNotIn("next", shown)
        by_user = {user["user"]: user["connections"] for user in shown["users"]}
        self.assertEqual(list(by_user), sorted([nobody.id, "ann", "bob"]), "in the order of names")
        self.assertEqual([place["id"] for place in by_user["ann"]], [client.id for client in ann])
        self.assertEqual(by_user["ann"][0]["metadata"], {"nick": "A", "n": [1, None]})
        self.assertNotIn("metadata", by_user["bob"][0])
        for places in by_user.values():
            for place in places:
                self.assertEqual(place["server"], "node-1")
                self.assertTrue(before - 1000 < place["connected_at"] < time.time() * 1000 + 1000)
        counts = self.presence(bob, "list:1", limit=0)
        self.assertEqual(counts, {"users": [], "user_count": 3, "connection_count": 4})
        first = self.presence(bob, "list:1", limit=2)
        rest = self.presence(bob, "list:1", limit=2, after=first["next"])
        self.assertEqual([user["user"] for user in first["users"] + rest["users"]], list(by_user))
        self.subscribe(ann[0], "list:1", metadata="new")
        said = lambda: self.presence(bob, "list:1")["users"][1]["connections"][0]["metadata"]
        eventually(lambda: said() == "new")
        self.assertEqual(bob.ask(type="unsubscribe", channel="list:1")["type"], "unsubscribed")
        self.assertEqual(self.presence(bob, "list:1")["code"], "forbidden")
        eventually(lambda: "bob" not in self.users(ann[0], "list:1"))

    # capability: 46 84
    def test_what_is_refused_is_named(self):
        client = self.client("ann")
        self.subscribe(client, "news")
        self.assertEqual(self.presence(client, "news")["code"], "no_presence")
        self.assertEqual(self.presence(client, "list:1")["code"], "forbidden")
        long = self.subscribe(client, "list:1", metadata="x" * 511)
        self.assertEqual(long["code"], "metadata_too_long")
        self.assertIn("512", long["detail"])
        self.assertEqual(self.presence(client, "list:1")["code"], "forbidden", "it is not subscribed")
        self.assertEqual(self.subscribe(client, "list:1", metadata="x" * 510)["type"], "subscribed")
        self.assertEqual(self.presence(client, "list:1", after=1)["code"], "invalid_message")
        # Where nobody is told, nobody minds.
        self.assertEqual(self.subscribe(client, "news:1", metadata="x" * 5000)["type"], "subscribed")

    # capability: 49 84
    def test_a_user_comes_once_and_goes_once(self):
        watcher = self.client("watcher")
        self.subscribe(watcher, "room:1")
        self.assertEqual(self.event(watcher)["joined"], [{"user": "watcher"}])
        ann = [self.client("ann") for _ in range(3)]
        for client in ann:
            self.subscribe(client, "room:1", metadata={"nick": "A"})
        came = self.event(watcher)
        self.assertEqual(came["joined"], [{"user": "ann", "metadata": {"nick": "A"}}])
        self.assertEqual((came["joined_count"], came["left"], came["left_count"], came["user_count"]), (1, [], 0, 2))
        for client in ann[:2]:
            client.socket.close()
        time.sleep(0.5)
        self.assertTrue(watcher.nothing_came(), "one is left")
        self.subscribe(ann[2], "room:2")
        ann[2].ask(type="unsubscribe", channel="room:1")
        gone = self.event(watcher)
        self.assertEqual((gone["left"], gone["left_count"], gone["user_count"]), ([{"user": "ann"}], 1, 1))
        self.assertEqual(self.users(watcher, "room:1"), ["watcher"])

    # capability: 49 84
    def test_a_busy_channel_tells_once_in_an_interval(self):
        watcher = self.client("watcher")
        self.subscribe(watcher, "room:busy")
        self.event(watcher)
        crowd = [self.client(f"user {number:02}") for number in range(40)]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda client: self.subscribe(client, "room:busy"), crowd))
        seen, events = 0, []
        while seen < 40:
            events.append(self.event(watcher))
            self.assertLessEqual(len(events[-1]["joined"]), 5)
            seen += events[-1]["joined_count"]
        self.assertEqual((seen, events[-1]["user_count"]), (40, 41))
        self.assertLess(len(events), 20)
        self.assertGreater(self.metric("crore_presence_coalesced"), 40 - len(events) - 1)
        # Who is back at once has not gone, for anybody.
        coalesced = self.metric("crore_presence_coalesced")
        again = [{"type": kind, "channel": "room:busy"} for kind in ("unsubscribe", "subscribe")]
        crowd[0].socket.send(dumps(type="batch", messages=again))
        eventually(lambda: self.metric("crore_presence_coalesced") == coalesced + 2)
        self.assertTrue(watcher.nothing_came())

    # capability: 84
    def test_nobody_stays_behind_whatever_the_end(self):
        watcher = self.client("watcher")
        self.subscribe(watcher, "room:end")
        self.event(watcher)
        channels = ("room:end", "list:end", "kept:end")
        for end in (
            lambda client: client.socket.close(),
            lambda client: client.ask(type="disconnect"),
            lambda client: self.http.post(f"/api/connections/{client.id}/disconnect", json={}),
            lambda client: self.reset(client),
            lambda client: client.socket.socket.shutdown(socket.SHUT_RDWR),
            lambda client: client.socket.send(b"\xff" * 2_000_000),
        ):
            client = self.client("ann")
            for channel in channels:
                self.subscribe(client, channel)
            self.assertEqual(self.event(watcher)["joined"], [{"user": "ann"}])
            eventually(lambda: self.entries() == 4)
            with contextlib.suppress(Exception):
                end(client)
            self.assertEqual(self.event(watcher)["left"], [{"user": "ann"}])
            eventually(lambda: self.entries() == 1)

    # capability: 23 84
    def test_who_falls_silent_has_left(self):
        watcher = self.client("watcher")
        self.subscribe(watcher, "room:silent")
        self.event(watcher)
        silent = self.enterContext(socket.create_connection(("127.0.0.1", self.server.port)))
        silent.sendall(
            b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-User-ID: mute\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        message = dumps(type="subscribe", channel="room:silent").encode()
        silent.sendall(b"\x81" + bytes([0x80 | len(message)]) + bytes(4) + message)
        self.assertEqual(self.event(watcher)["joined"], [{"user": "mute"}])
        self.assertEqual(self.event(watcher)["left"], [{"user": "mute"}])

    def reset(self, client):
        """As if the network had gone: no close frame, and no FIN."""
        client.socket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.socket.socket.close()

    # capability: 84 85
    def test_a_channel_with_a_history_has_a_presence_too(self):
        ann, bob = self.client("ann"), self.client("bob")
        self.assertEqual(self.subscribe(ann, "kept:1", metadata=1)["data"]["offset"], 0)
        self.assertEqual(self.event(ann)["joined"], [{"user": "ann", "metadata": 1}])
        self.assertEqual(self.subscribe(bob, "kept:1", kind="join", metadata=2)["type"], "joined")
        self.assertEqual(ann.receive()["type"], "join")
        self.assertEqual(self.event(ann)["joined"], [{"user": "bob", "metadata": 2}])
        shown = self.presence(ann, "kept:1")["users"]
        self.assertEqual([user["connections"][0]["metadata"] for user in shown], [1, 2])

    # capability: 73 84 85
    def test_a_member_may_join_again_with_other_metadata(self):
        ann, bob = self.client("ann"), self.client("bob")
        for channel in ("room:1", "kept:1"):
            self.subscribe(bob, channel)
            first, again = (self.subscribe(ann, channel, kind="join", metadata=metadata) for metadata in (1, 2))
            self.assertEqual((again["type"], again["data"]), ("joined", first["data"]))
            eventually(lambda: self.metadata(ann, channel) == 2)
            long = self.subscribe(ann, channel, kind="join", metadata="x" * 511)
            self.assertEqual((long["type"], long.get("code")), ("error", "metadata_too_long"))
            self.assertEqual(self.metadata(ann, channel), 2)
            # It is announced once.
            self.reply(ann, type="publish", channel=channel, data="the end")
            heard = []
            while "message" not in heard:
                heard.append(bob.receive()["type"])
            self.assertEqual([kind for kind in heard if kind != "presence"], ["join", "message"])

    # capability: 58 59 84
    def test_a_token_takes_back_what_the_one_before_it_has_said(self):
        variables = {"CRORE_AUTH_MODE": "optional", "CRORE_AUTH_SECRET": SECRET, "CRORE_AUTH_METADATA_CLAIM": "profile"}
        variables["CRORE_IDENTITY_TRUST_USER_HEADER"] = None
        server = self.enterContext(ApiServer(CRORE_CONFIG=str(self.rules), **variables))
        client = self.enterContext(Client(server))
        channels = ("list:1", "kept:1")

        def show(shown, **claims):
            told = self.reply(client, type="auth", token=token(user_id="ann", **claims))
            self.assertEqual(told["type"], "authenticated")
            for channel in channels:
                eventually(lambda: self.metadata(client, channel) == shown, lambda: (channel, claims))

        for channel in channels:
            self.subscribe(client, channel, metadata="its own")
        show("its own")
        show({"role": "admin"}, profile={"role": "admin"})
        show({"role": "guest"}, profile={"role": "guest"})
        show(None)
        show({"role": "admin"}, profile={"role": "admin"})
        show(None, profile="x" * 511)
        for channel in channels:
            self.subscribe(client, channel, metadata="its own")
        # What says nothing takes nothing back that the client has said.
        show("its own", profile="y" * 511)
        show("its own")

    # capability: 59 64 84
    def test_a_token_for_a_channel_takes_back_what_the_one_before_it_has_said(self):
        rule = '[[channels]]\npattern = "{}"\npresence = "list"\nmay_subscribe = ["users", "token"]\n{}\n'
        self.rules.write_text(rule.format("list:*", "") + rule.format("kept:*", "history = 10"))
        variables = {"CRORE_AUTH_SUBSCRIPTION_SECRET": SECRET, "CRORE_AUTH_LEEWAY": "0s"}
        variables["CRORE_AUTH_SUBSCRIPTION_NOTICE"] = "30s"
        self.server = self.enterContext(ApiServer(CRORE_CONFIG=str(self.rules), **variables))
        client = self.client("ann")

        def show(channel, shown, lasts_s=600, own="its own", **claims):
            ticket = token(lasts_s, sub="ann", channel=channel, **claims)
            told = self.subscribe(client, channel, token=ticket, **({"metadata": own} if own else {}))
            self.assertEqual(told["type"], "subscribed")
            eventually(lambda: self.metadata(client, channel) == shown, lambda: (channel, claims))

        for kind in ("list", "kept"):
            show(f"{kind}:1", {"vip": 1}, info={"vip": 1})
            show(f"{kind}:1", {"vip": 2}, own=None, info={"vip": 2})
            show(f"{kind}:1", None, own=None)
            show(f"{kind}:1", {"vip": 1}, own=None, info={"vip": 1})
            show(f"{kind}:1", "its own", info="x" * 511)
            # So does its end, where the subscription goes on without it.
            show(f"{kind}:2", {"vip": 1}, lasts_s=2, info={"vip": 1})
            eventually(lambda: self.metadata(client, f"{kind}:2") is None)
            show(f"{kind}:3", "its own", lasts_s=1)
            time.sleep(1.5)
            self.assertEqual(self.metadata(client, f"{kind}:3"), "its own")

    # capability: 58 84
    def test_a_token_says_who_it_is_and_more(self):
        variables = {"CRORE_AUTH_MODE": "optional", "CRORE_AUTH_SECRET": SECRET, "CRORE_AUTH_METADATA_CLAIM": "profile"}
        variables["CRORE_IDENTITY_TRUST_USER_HEADER"] = None
        server = self.enterContext(ApiServer(CRORE_CONFIG=str(self.rules), **variables))
        client, watcher = (self.enterContext(Client(server)) for _ in range(2))
        self.subscribe(watcher, "room:1")
        self.event(watcher)
        self.subscribe(client, "room:1", metadata="what it says")
        self.assertEqual(self.event(watcher)["joined"], [{"user": client.id, "metadata": "what it says"}])
        authenticated = self.reply(client, type="auth", token=token(user_id="ann", profile={"name": "Ann"}))
        self.assertEqual((authenticated["type"], authenticated["user_id"]), ("authenticated", "ann"))
        known = self.event(watcher)
        self.assertEqual(known["joined"], [{"user": "ann", "metadata": {"name": "Ann"}}])
        self.assertEqual((known["left"], known["user_count"]), ([{"user": client.id}], 2))
        self.subscribe(client, "list:1", metadata="what it says")
        (shown,) = self.presence(client, "list:1")["users"]
        self.assertEqual((shown["user"], shown["connections"][0]["metadata"]), ("ann", {"name": "Ann"}))

    # capability: 80 84
    def test_backends_ask_who_is_there_and_where_a_user_is(self):
        ann, bob = [self.client("ann") for _ in range(2)], self.client("bob")
        for client in (*ann, bob):
            self.subscribe(client, "list:a b")
        self.subscribe(ann[0], "room:1", metadata={"x": 1})
        self.subscribe(ann[0], "news")
        path = "/api/channels/list%3Aa%20b/presence"
        # Who subscribes is answered before the home of the channel has heard of it.
        eventually(lambda: self.http.get(path).json()["connection_count"] == 3)
        shown = self.http.get(path).json()
        self.assertEqual([user["user"] for user in shown["users"]], ["ann", "bob"])
        self.assertEqual((shown["user_count"], shown["connection_count"]), (2, 3))
        self.assertEqual(self.http.get(path, params={"limit": 0}).json()["users"], [])
        first = self.http.get(path, params={"limit": 1}).json()
        rest = self.http.get(path, params={"limit": 1, "after": first["next"]}).json()
        self.assertEqual([first["users"][0]["user"], rest["users"][0]["user"]], ["ann", "bob"])
        self.assertEqual(self.http.get("/api/channels/list:empty/presence").json()["user_count"], 0)
        refused = self.http.get("/api/channels/news/presence")
        self.assertEqual((refused.status_code, refused.json()["code"]), (404, "no_presence"))
        for wrong in ("limit=1001", "limit=x", "more=1"):
            self.assertEqual(self.http.get(f"{path}?{wrong}").status_code, 400, wrong)
        shown = self.http.get("/api/users/ann/presence").json()
        self.assertEqual((shown["user"], shown["online"]), ("ann", True))
        channels = {place["id"]: place["channels"] for place in shown["connections"]}
        self.assertEqual(channels, {ann[0].id: ["list:a b", "room:1"], ann[1].id: ["list:a b"]})
        self.assertTrue(all(place["server"] == "node-1" and place["connected_at"] for place in shown["connections"]))
        self.assertEqual(self.http.get("/api/users/eve/presence").json(), {"user": "eve", "online": False, "connections": []})

    # capability: 73
    def test_who_has_found_no_room_is_shown_when_it_subscribes_again(self):
        variables = {"CRORE_CONFIG": str(self.rules), "CRORE_PRESENCE_MEMORY_MAX": "4KiB"}
        self.server = self.enterContext(ApiServer(**variables))
        clients = [self.client(f"user {number}") for number in range(8)]
        for client in clients:
            self.subscribe(client, "list:1", metadata="x" * 500)
        eventually(lambda: self.entries() + self.metric("crore_presence_refused") == len(clients))
        first, last = clients[0], clients[-1]
        shown = self.users(last, "list:1")
        self.assertEqual((shown[0], "user 7" in shown), ("user 0", False), "the first of them")
        for client in (first, clients[1]):
            self.reply(client, type="unsubscribe", channel="list:1")
        eventually(lambda: self.entries() == len(shown) - 2)
        self.subscribe(last, "list:1")
        eventually(lambda: "user 7" in self.users(last, "list:1"))


if __name__ == "__main__":
    unittest.main()
