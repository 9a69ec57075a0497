"""What operators see of connections and channels through the server API, and what they can do to them."""

import json
import signal
import socket
import subprocess
import time
import unittest

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from api import ApiServer, Client
from support import PATIENCE_S, PROGRAMS, eventually
from test_api import UPGRADE

# More than a core looks at for one question, on each of two cores.
SMALL_CHANNELS = 12_000
BATCH = 100

SECRET = "a secret of more than thirty-two bytes"


class Inspection(unittest.TestCase):
    def start(self, **variables):
        self.server = self.enterContext(ApiServer(**variables))
        self.http = self.enterContext(self.server.http())

    def client(self, user=None):
        return self.enterContext(Client(self.server, user))

    def get(self, path, **query):
        response = self.http.get(path, params=query)
        self.assertEqual(response.status_code, 200, response.text)
        return response.json()

    def post(self, path, status=200, body=None):
        response = self.http.post(path, json=body)
        self.assertEqual(response.status_code, status, response.text)
        return response.json()

    def everything(self, path, name, **query):
        """All parts of a list, one after the other."""
        found, part = [], {}
        while not found or "next" in part:
            part = self.get(path, **query, **({"cursor": part["next"]} if "next" in part else {}))
            self.assertLessEqual(len(part[name]), query["limit"])
            found += part[name]
            if "next" not in part:
                return found

    def assert_cut(self, client):
        with self.assertRaises(ConnectionClosed) as closed:
            client.receive()
        self.assertIsNone(closed.exception.rcvd, "no close frame")

    # capability: 10 21 80
    def test_a_connection_is_where_a_trusted_proxy_says_it_is(self):
        self.start(CRORE_TRUSTED_PROXIES="127.0.0.0/8")
        headers = {"X-User-ID": "ann", "X-Forwarded-For": "198.51.100.9, 2001:db8::7"}
        with connect(f"{self.server.url}ws", additional_headers=headers) as far:
            identifier = json.loads(far.recv(timeout=PATIENCE_S))["connection_id"]
            far.send(json.dumps({"type": "subscribe", "channel": "news"}))
            far.send(json.dumps({"type": "join", "channel": "room"}))
            far.send(json.dumps({"type": "ping"}))
            while json.loads(far.recv(timeout=PATIENCE_S))["type"] != "pong":
                pass
            shown = self.get(f"/api/connections/{identifier}")
        self.assertEqual((shown["user"], shown["address"]), ("ann", "2001:db8::7"))
        self.assertEqual((sorted(shown["channels"]), shown["rooms"]), (["news", "room"], ["room"]))
        self.assertLess(shown["age_ms"], PATIENCE_S * 1000)
        self.assertNotIn("token_expires_ms", shown)
        near = self.get(f"/api/connections/{self.client().id}")
        self.assertEqual((near["address"], near["channels"], near["rooms"]), ("127.0.0.1", [], []))

    # capability: 80 102
    def test_what_the_server_has_for_itself_is_no_channel(self):
        self.start(CRORE_CHAT_PATH="/chat")
        member = self.enterContext(connect(f"{self.server.url}chat"))
        member.recv(timeout=PATIENCE_S)
        subscriber = self.client("ann")
        subscriber.subscribe("news")
        self.assertEqual(self.get("/api/top-channels")["channels"], [{"channel": "news", "subscribers": 1}])
        listed = self.everything("/api/channels", "channels", limit=10)
        self.assertEqual([channel["channel"] for channel in listed], ["news"])
        for connection in self.everything("/api/connections", "connections", limit=10):
            shown = self.get(f"/api/connections/{connection['id']}")
            expected = ["news"] if connection["id"] == subscriber.id else []
            self.assertEqual((shown["channels"], connection["channel_count"]), (expected, len(expected)))

    # capability: 10 80
    def test_addresses_are_kept_only_where_they_are_wanted(self):
        self.start(CRORE_API_CLIENT_ADDRESSES="false")
        shown = self.get(f"/api/connections/{self.client('ann').id}")
        self.assertEqual(shown["user"], "ann")
        self.assertFalse({"address", "age_ms"} & set(shown), shown)

    # capability: 55 58 59 80
    def test_who_has_not_said_who_it_is_is_seen_and_can_be_ended(self):
        variables = {"CRORE_AUTH_MODE": "required", "CRORE_AUTH_SECRET": SECRET, "CRORE_AUTH_TIMEOUT": "1h"}
        self.start(**variables, CRORE_IDENTITY_TRUST_USER_HEADER=None)
        made = subprocess.run(
            [PROGRAMS / "crore", "gen-token", "--user", "ann", "--expires", "1h"],
            env={**self.server.environment},
            capture_output=True,
            text=True,
            check=True,
        )
        self.enterContext(connect(f"{self.server.url}ws?token={made.stdout.strip()}"))
        silent = self.enterContext(connect(f"{self.server.url}ws"))
        listed = self.everything("/api/connections", "connections", limit=10)
        (ann,) = [connection for connection in listed if connection.get("user") == "ann"]
        (nobody,) = [connection for connection in listed if "user" not in connection]
        shown = self.get(f"/api/connections/{ann['id']}")
        self.assertAlmostEqual(shown["token_expires_ms"] / 1000, time.time() + 3600, delta=PATIENCE_S)
        self.assertEqual(self.post(f"/api/connections/{nobody['id']}/terminate"), {"terminated": 1})
        with self.assertRaises(ConnectionClosed) as closed:
            silent.recv(timeout=PATIENCE_S)
        self.assertIsNone(closed.exception.rcvd)

    # capability: 21 80
    def test_every_connection_is_listed_once(self):
        self.start()
        clients = [self.client(f"user {number % 5}" if number % 2 else None) for number in range(40)]
        for client in clients[:3]:
            client.subscribe("news")
        for limit in (7, 1000):
            listed = self.everything("/api/connections", "connections", limit=limit)
            self.assertEqual(sorted(connection["id"] for connection in listed), sorted(client.id for client in clients))
        by_id = {connection["id"]: connection for connection in listed}
        for number, client in enumerate(clients):
            shown = by_id[client.id]
            self.assertEqual(shown.get("user"), f"user {number % 5}" if number % 2 else None)
            self.assertEqual((shown["address"], shown["queued_bytes"]), ("127.0.0.1", 0))
            self.assertEqual((shown["core"], shown["channel_count"]), (int(client.id.split("-")[0], 16), number < 3))
        for wrong in ("limit=0", "limit=1001", "limit=x", "cursor=1", "cursor=-1-1", "more=1"):
            self.assertEqual(self.http.get(f"/api/connections?{wrong}").status_code, 400, wrong)
        self.assertEqual(self.get("/api/connections", cursor="77-0"), {"connections": []})
        self.assertEqual(self.get("/api/connections", cursor="1-9999999999"), {"connections": []})

    # capability: 66 80
    def test_the_slowest_comes_first(self):
        self.start()
        self.client("quick")
        self.assertEqual(self.get("/api/slow-consumers")["connections"], [])
        slow = []
        for _ in range(2):
            connection = self.enterContext(socket.create_connection(("127.0.0.1", self.server.port)))
            connection.sendall(UPGRADE)
            answer = connection.recv(4096)
            while b"connection_id" not in answer:
                answer += connection.recv(4096)
            slow.append(json.loads(answer[answer.index(b'{"type"') :])["connection_id"])
        queued = lambda name: self.get(f"/api/connections/{name}")["queued_bytes"]  # noqa: E731
        for name, least in zip(slow, (1, 300_000)):
            while queued(name) < least:
                self.post(f"/api/users/{name}/send", body={"data": "x" * 100_000})
        expected = sorted(slow, key=queued, reverse=True)
        shown = eventually(lambda: (found := self.get("/api/slow-consumers"))["count"] == 2 and found)
        self.assertEqual([connection["id"] for connection in shown["connections"]], expected)
        waiting = [connection["queued_bytes"] for connection in shown["connections"]]
        self.assertEqual((sum(waiting), waiting), (shown["queued_bytes"], [queued(name) for name in expected]))
        self.assertLessEqual(waiting[0], shown["queued_bytes_max"])
        # Who asks soon again gets the same: the cores are not asked anew.
        first, second = self.get("/api/slow-consumers", limit=1), self.get("/api/slow-consumers", limit=1)
        self.assertEqual([connection["id"] for connection in second["connections"]], expected[:1])
        self.assertTrue(second["age_ms"] >= first["age_ms"] or second["age_ms"] < 100)
        for wrong in ("limit=0", "limit=101", "cursor=0-0"):
            self.assertEqual(self.http.get(f"/api/slow-consumers?{wrong}").status_code, 400, wrong)

    # capability: 21 80
    def test_the_largest_channels_come_first(self):
        self.start()
        self.assertEqual(self.get("/api/top-channels")["channels"], [])
        clients = [self.client() for _ in range(12)]
        # The large ones lie behind many small ones.
        for client in clients:
            for batch in range(SMALL_CHANNELS // len(clients) // BATCH):
                names = [f"small {client.id} {batch} {number}" for number in range(BATCH)]
                messages = [{"type": "subscribe", "channel": name} for name in names]
                client.socket.send(json.dumps({"type": "batch", "messages": messages}))
        # A channel is found if it is among the largest of one core: of three subscribers, two are on the same one.
        sizes = {"the largest": 12, "ä/second": 11, "third": 7, "fourth": 3}
        for channel, size in sizes.items():
            for client in clients[-size:]:
                client.socket.send(json.dumps({"type": "subscribe", "channel": channel}))
        for client in clients:
            client.socket.send(json.dumps({"type": "ping", "id": "done"}))
            while client.receive().get("type") != "pong":
                pass
        top = lambda: self.get("/api/top-channels", limit=4)["channels"]  # noqa: E731
        expected = [{"channel": channel, "subscribers": size} for channel, size in sizes.items()]
        eventually(lambda: top() == expected)
        self.assertEqual(len(self.get("/api/top-channels")["channels"]), 20)
        for wrong in ("limit=0", "limit=101", "cursor=0-0"):
            self.assertEqual(self.http.get(f"/api/top-channels?{wrong}").status_code, 400, wrong)

    # capability: 30 80
    def test_connections_are_cut_without_a_close_frame(self):
        self.start()
        ann, bobs, other = self.client("ann"), [self.client("bob") for _ in range(3)], self.client("other")
        self.assertEqual(self.post(f"/api/connections/{ann.id}/terminate"), {"terminated": 1})
        self.assert_cut(ann)
        self.assertEqual(self.post("/api/users/bob/terminate"), {"terminated": 3})
        for bob in bobs:
            self.assert_cut(bob)
        eventually(lambda: self.post("/api/users/bob/terminate") == {"terminated": 0})
        for gone in (ann.id, "junk", "77-0-1", "0-ffffff-1"):
            for way in ("terminate", "disconnect"):
                refused = self.post(f"/api/connections/{gone}/{way}", 404, {} if way == "disconnect" else None)
                self.assertEqual(refused["code"], "no_such_connection")
        self.assertTrue(other.nothing_came())

    # capability: 60 80
    def test_a_limit_begins_anew(self):
        for key in ("user", "connection"):
            with self.subTest(key):
                self.start(
                    CRORE_RATE_LIMIT_ENABLED="true",
                    CRORE_RATE_LIMIT_KEY=key,
                    CRORE_RATE_LIMIT_ALGORITHM="fixed_window",
                    CRORE_RATE_LIMIT_FIXED_WINDOW_MESSAGES="1",
                    CRORE_RATE_LIMIT_FIXED_WINDOW="1h",
                )
                clients = {user: self.client(user) for user in ("ann", "bob")}
                refused = lambda user: clients[user].ask(type="connect").get("code") == "rate_limited"  # noqa: E731
                self.assertEqual([refused(user) for user in clients for _ in range(2)], [False, True] * 2)
                self.assertEqual(self.post("/api/users/ann/rate-limit/reset"), {"reset": True})
                eventually(lambda: not refused("ann"))
                self.assertTrue(refused("ann") and refused("bob"))
                self.assertEqual(self.post(f"/api/users/{clients['bob'].id}/rate-limit/reset"), {"reset": True})
                if key == "connection":
                    eventually(lambda: not refused("bob"))

    # capability: 60 80
    def test_without_a_limit_there_is_nothing_to_begin_anew(self):
        self.start()
        self.assertEqual(self.post("/api/users/ann/rate-limit/reset"), {"reset": False})

    # capability: 29 80
    def test_a_drain_can_be_watched_to_its_end(self):
        self.start(CRORE_SHUTDOWN_SPREAD="6s")
        client = self.client("ann")
        client.subscribe("news")
        self.server.stopped = True
        self.server.process.send_signal(signal.SIGTERM)
        eventually(lambda: self.get("/api/stats")["draining"])
        # The core without a connection ends at once; the other one is still asked.
        time.sleep(0.5)
        self.get("/api/slow-consumers")
        self.get("/api/top-channels")
        listed = self.everything("/api/connections", "connections", limit=10)
        self.assertLessEqual(len(listed), 1)
        self.assertEqual(self.server.process.wait(PATIENCE_S), 0)

    # capability: 28 80
    def test_what_a_connection_has_is_counted(self):
        self.start()
        session = lambda: self.get("/api/stats")["total"]["memory_bytes"]["session"]
        client = self.client("ann")
        of_client = lambda: self.get(f"/api/connections/{client.id}")["memory_bytes"]["session"]
        least = of_client()
        self.assertTrue(0 < least < 1000, least)
        before = eventually(lambda: (now := session()) >= least and now)
        names = [f"{number}:" + "n" * 200 for number in range(300)]
        for kind, reply in (("join", "joined"), ("leave", "left")):
            for start in range(0, len(names), 100):
                messages = [{"type": kind, "channel": name} for name in names[start : start + 100]]
                client.socket.send(json.dumps({"type": "batch", "messages": messages}))
            self.assertEqual({client.receive()["type"] for _ in names}, {reply})
            if kind == "join":
                held = of_client() - least
                self.assertTrue(300 * 200 <= held < 300 * 240, held)
                eventually(lambda: session() >= before + held)
        self.assertLess(of_client(), least + 100)
        eventually(lambda: session() < before + 100)
        client.socket.close()
        eventually(lambda: session() < before)

    # capability: 80 98
    def test_the_numbers_of_the_process(self):
        self.start()
        clients = [self.client() for _ in range(3)]
        clients[0].ask(type="dance")
        clients[1].socket.close()
        numbers = eventually(
            lambda: (now := self.get("/api/stats"))["total"]["counters"]["connections_open"] == 2 and now
        )
        self.assertEqual((numbers["connections_open_peak"], numbers["errors"]), (3, 1))
        self.assertGreater(numbers["connections_max"], 1000)
        self.assertGreater(numbers["memory_budget_bytes"], numbers["total"]["memory_bytes"]["kernel"])
        self.assertGreater(numbers["resident_bytes"], 1 << 20)
        self.assertGreaterEqual(numbers["cpu_ms"], 0)


if __name__ == "__main__":
    unittest.main()
