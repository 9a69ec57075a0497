"""The server API, as a backend uses it, with WebSockets at the other end."""

import json
import pathlib
import signal
import socket
import subprocess
import tempfile
import time
import unittest

import httpx
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from api import KEY, ApiServer, Client
from support import PATIENCE_S, eventually, free_port

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

# What `limits.message_bytes_max` is unless it is set.
MESSAGE_BYTES_MAX = 1024 * 1024


class Api(unittest.TestCase):
    def setUp(self):
        self.server = self.enterContext(ApiServer())
        self.http = self.enterContext(self.server.http())

    def client(self, user=None):
        return self.enterContext(Client(self.server, user))

    def post(self, path, status=200, **body):
        response = self.http.post(path, json=body)
        self.assertEqual(response.status_code, status, response.text)
        return response.json()

    # capability: 38 43 80
    def test_what_is_published_reaches_the_subscribers_of_all_cores(self):
        clients = [self.client() for _ in range(8)]
        for client in clients[:7]:
            client.subscribe("news")
        self.assertEqual(self.post("/api/publish", channel="news", data={"n": [1, None]}), {"published": True})
        for client in clients[:7]:
            message = client.receive()
            self.assertGreater(message.pop("timestamp"), 0)
            self.assertEqual(message, {"type": "message", "channel": "news", "data": {"n": [1, None]}})
        self.post("/api/publish", channel="news", data=2, exclude=clients[0].id)
        for client in clients[1:7]:
            self.assertEqual(client.receive()["data"], 2)
        self.assertTrue(clients[0].nothing_came() and clients[7].nothing_came())
        self.post("/api/publish", channel="nobody listens", data=3)

    # capability: 42 74 80
    def test_a_broadcast_reaches_everyone_once(self):
        clients = [self.client() for _ in range(8)]
        self.assertEqual(self.post("/api/broadcast", data="all"), {"broadcast": True})
        for client in clients:
            message = client.receive()
            self.assertEqual((message["type"], message["data"]), ("broadcast", "all"))
            self.assertTrue(client.nothing_came())

    # capability: 21 22 41 80
    def test_a_user_is_all_of_its_connections(self):
        ann, bob = [self.client("ann/b c") for _ in range(3)], self.client("bob")
        path = "/api/users/ann%2Fb%20c"
        shown = self.http.get(path).json()
        self.assertEqual((shown["user"], sorted(shown["connections"])), ("ann/b c", sorted(client.id for client in ann)))
        self.assertEqual(self.post(f"{path}/send", data={"hi": 1}), {"delivered": 3})
        for client in ann:
            message = client.receive()
            self.assertEqual((message["type"], message["data"]), ("private", {"hi": 1}))
        self.assertEqual(self.post(f"{path}/disconnect", code=4001, reason="go"), {"disconnected": 3})
        for client in ann:
            self.assert_closed(client, 4001, "go")
        self.assertEqual(self.http.get(path).json()["connections"], [])
        self.assertEqual(self.post(f"{path}/disconnect"), {"disconnected": 0})
        self.assertEqual(self.post(f"{path}/send", 404, data=1)["code"], "not_online")
        self.assertTrue(bob.nothing_came())

    # capability: 22 80
    def test_a_connection_without_a_name_is_a_user(self):
        client = self.client()
        self.assertEqual(self.http.get(f"/api/users/{client.id}").json()["connections"], [client.id])
        self.assertEqual(self.post(f"/api/users/{client.id}/send", data=1), {"delivered": 1})
        self.assertEqual(client.receive()["type"], "private")

    # capability: 30 80
    def test_one_connection_is_closed(self):
        ann, other = self.client("ann"), self.client("ann")
        self.assertEqual(self.post(f"/api/connections/{ann.id}/disconnect"), {"disconnected": 1})
        self.assert_closed(ann, CloseCode.NORMAL_CLOSURE, "")
        self.assertTrue(other.nothing_came())
        self.post(f"/api/connections/{ann.id}/disconnect", 404)
        self.assertEqual(self.post("/api/connections/junk/disconnect", 404)["code"], "no_such_connection")
        refused = self.post(f"/api/connections/{other.id}/disconnect", 400, code=1005)
        self.assertIn("1005", refused["detail"])

    # capability: 21 80
    def test_a_connection_is_shown_as_its_core_knows_it(self):
        ann, nobody = self.client("ann"), self.client()
        for channel in ("news", "chat:1"):
            ann.subscribe(channel)
        shown = self.http.get(f"/api/connections/{ann.id}").json()
        self.assertEqual((shown["id"], shown["user"], shown["core"]), (ann.id, "ann", int(ann.id.split("-")[0], 16)))
        self.assertEqual((sorted(shown["channels"]), shown["channel_count"]), (["chat:1", "news"], 2))
        self.assertEqual(shown["queued_bytes"], 0)
        self.assertGreater(shown["memory_bytes"]["kernel"], 3000)
        self.assertGreater(shown["memory_bytes"]["topics"], 0, "the set of its two topics")
        self.assertNotIn("user", self.http.get(f"/api/connections/{nobody.id}").json())
        ann.socket.close()
        eventually(lambda: self.http.get(f"/api/connections/{ann.id}").status_code == 404)
        self.assertEqual(self.http.get("/api/connections/junk").json()["code"], "no_such_connection")

    # capability: 66 80
    def test_what_a_slow_reader_has_not_read_is_shown(self):
        slow = self.enterContext(socket.create_connection(("127.0.0.1", self.server.port)))
        slow.sendall(UPGRADE)
        answer = slow.recv(4096)
        while b"connection_id" not in answer:
            answer += slow.recv(4096)
        name = json.loads(answer[answer.index(b'{"type"') :])["connection_id"]
        # More than the kernel keeps for it, and less than what makes it a slow consumer.
        for _ in range(40):
            self.post(f"/api/users/{name}/send", data="x" * 200_000)
            shown = self.http.get(f"/api/connections/{name}").json()
            if shown["queued_bytes"] > 0:
                break
        self.assertGreater(shown["queued_bytes"], 0)
        self.assertGreater(shown["memory_bytes"]["outbox"], 0)

    # capability: 21 80
    def test_channels_are_listed_a_part_at_a_time(self):
        clients = [self.client() for _ in range(6)]
        expected = {}
        for number in range(60):
            chosen = clients[number % 6 :]
            for client in chosen:
                client.subscribe(f"channel {number}/ä")
            expected[f"channel {number}/ä"] = len(chosen)
        found, parts, cursor = {}, 0, None
        while parts == 0 or cursor:
            query = {"limit": 7, **({"cursor": cursor} if cursor else {})}
            part = self.http.get("/api/channels", params=query).json()
            self.assertLessEqual(len(part["channels"]), 7)
            for channel in part["channels"]:
                self.assertNotIn(channel["channel"], found, "once")
                found[channel["channel"]] = channel["subscribers"]
            parts, cursor = parts + 1, part.get("next")
        self.assertEqual(found, expected)
        self.assertGreater(parts, 60 // 7)
        path = "/api/channels/channel%207%2F%C3%A4"
        self.assertEqual(self.http.get(path).json(), {"channel": "channel 7/ä", "subscribers": 5})
        self.assertEqual(self.http.get("/api/channels/nobody").json()["subscribers"], 0)
        for client in clients:
            client.socket.close()
        eventually(lambda: self.http.get(path).json()["subscribers"] == 0)
        for wrong in ("limit=0", "limit=1001", "limit=x", "cursor=1", "cursor=-1-1", "more=1"):
            self.assertEqual(self.http.get(f"/api/channels?{wrong}").status_code, 400, wrong)
        self.assertEqual(self.http.get("/api/channels?cursor=77-0").json(), {"channels": []})

    # capability: 80
    def test_the_numbers_add_up(self):
        clients = [self.client() for _ in range(4)]
        for client in clients:
            client.ask(type="ping")
        numbers = self.http.get("/api/stats").json()
        self.assertEqual((len(numbers["cores"]), numbers["draining"]), (2, False))
        for name, value in numbers["total"]["counters"].items():
            # Read one after the other, so that only what rests is compared.
            if name in ("connections_open", "messages_received", "upgrades"):
                self.assertEqual(value, 4, name)
                self.assertEqual(sum(core["counters"][name] for core in numbers["cores"]), 4, name)
        self.assertGreater(numbers["total"]["memory_bytes"]["receive_pool"], 0)

    # capability: 80
    def test_nothing_below_api_opens_without_the_key(self):
        paths = ["/api/stats", "/api/openapi.json", "/api/users/ann", "/api/nothing", "/api"]
        for key in (None, "", KEY[:-1], KEY + "x"):
            with self.server.http(key) as http:
                for path in paths:
                    response = http.get(path)
                    self.assertEqual((response.status_code, response.json()["code"]), (401, "unauthorized"), path)
                    self.assertEqual(response.headers["WWW-Authenticate"], "Bearer")
                self.assertEqual(http.post("/api/broadcast", json={"data": 1}).status_code, 401)
                for path in ("/healthz", "/readyz", "/metrics"):
                    self.assertEqual(http.get(path).status_code, 200, path)
        bearer = {"Authorization": f"Bearer   {KEY}"}
        gateway = {"Authorization": "Bearer of-the-gateway-itself"}
        for headers in ({"X-API-Key": KEY}, bearer, {**gateway, "X-API-Key": KEY}, {**bearer, "X-API-Key": "another"}):
            self.assertEqual(httpx.get(f"{self.server.api_url}/api/stats", headers=headers).status_code, 200, headers)
        self.assertEqual(httpx.get(f"{self.server.api_url}/api/stats", headers=gateway).status_code, 401)

    # capability: 98
    def test_the_six_series_and_those_of_each_core(self):
        clients = [self.client() for _ in range(6)]
        clients[0].ask(type="dance")
        clients[1].ask(type="ping")
        for client in clients[3:]:
            client.socket.close()
        eventually(lambda: value(self.server.metrics(), "crore_connections_open") == 3)
        families = self.server.metrics()
        self.assertEqual(value(families, "crore_connections_open_peak"), 6)
        self.assertEqual(value(families, "crore_messages_received"), 2)
        self.assertGreaterEqual(value(families, "crore_messages_sent"), 8)
        self.assertEqual(value(families, "crore_errors"), 1)
        sizes = {sample.name: sample.value for sample in families["crore_message_received_bytes"].samples}
        self.assertEqual(sizes["crore_message_received_bytes_count"], 2)
        self.assertEqual(
            sizes["crore_message_received_bytes_sum"],
            len(json.dumps({"type": "dance"})) + len(json.dumps({"type": "ping"})),
        )
        cores = families["crore_core_connections_open"].samples
        self.assertEqual([sample.labels for sample in cores], [{"core": "0"}, {"core": "1"}])
        self.assertEqual(sum(sample.value for sample in cores), 3)
        labels = {name for family in families.values() for sample in family.samples for name in sample.labels}
        self.assertEqual(labels, {"class", "core", "le", "run", "server"}, "no user, channel or address")
        for name in ("resident_memory_bytes", "cpu_seconds", "max_fds", "start_time_seconds", "threads"):
            self.assertGreater(value(families, f"process_{name}"), 0, name)
        self.assertAlmostEqual(value(families, "process_start_time_seconds"), time.time(), delta=PATIENCE_S)
        for family in families.values():
            self.assertTrue(family.documentation, family.name)

    def assert_closed(self, client, code, reason):
        with self.assertRaises(ConnectionClosed) as closed:
            client.receive()
        self.assertEqual((closed.exception.rcvd.code, closed.exception.rcvd.reason), (code, reason))


class History(unittest.TestCase):
    def setUp(self):
        directory = self.enterContext(tempfile.TemporaryDirectory())
        rules = pathlib.Path(directory, "crore.toml")
        rules.write_text('[[channels]]\npattern = "chat:*"\nhistory = 3\n')
        self.server = self.enterContext(ApiServer(CRORE_CONFIG=str(rules)))
        self.http = self.enterContext(self.server.http())

    def read(self, channel="chat:1", status=200, **query):
        response = self.http.get(f"/api/channels/{channel}/history", params=query)
        self.assertEqual(response.status_code, status, response.text)
        return response.json()

    # capability: 80 85
    def test_backends_and_clients_publish_in_one_order(self):
        client = self.enterContext(Client(self.server))
        client.subscribe("chat:1")
        publish = {"channel": "chat:1", "data": "a"}
        first = self.http.post("/api/publish", json=publish).json()
        self.assertEqual((first["published"], first["offset"]), (True, 1))
        message = client.receive()
        self.assertEqual((message["data"], message["offset"], message["epoch"]), ("a", 1, first["epoch"]))
        self.assertEqual(client.ask(type="publish", channel="chat:1", data="b")["data"]["offset"], 2)
        self.http.post("/api/publish", json={**publish, "exclude": client.id})
        self.assertTrue(client.nothing_came())
        self.assertEqual(self.read()["offset"], 3)

    # capability: 80 85
    def test_what_is_kept_is_read(self):
        replies = [self.http.post("/api/publish", json={"channel": "chat:1", "data": n}).json() for n in range(1, 6)]
        epoch = replies[0]["epoch"]
        kept = self.read()
        times = [message["timestamp"] for message in kept["messages"]]
        self.assertEqual((kept["channel"], kept["offset"], kept["epoch"], kept["complete"]), ("chat:1", 5, epoch, True))
        for query, numbers, complete in (
            ({}, [3, 4, 5], True),
            ({"limit": 2}, [4, 5], False),
            ({"limit": 0}, [], False),
            ({"after": f"{epoch}:4"}, [5], True),
            ({"after": f"{epoch}:1", "since": 1}, [3, 4, 5], False),
            ({"after": "0:4"}, [3, 4, 5], False),
            ({"since": times[2] + 1}, [], True),
            ({"since": 1}, [3, 4, 5], False),
            ({"before": 5}, [3, 4], True),
            ({"before": 5, "limit": 1}, [4], False),
            ({"before": 4, "after": f"{epoch}:1"}, [3], False),
            ({"before": 3}, [], True),
        ):
            part = self.read(**query)
            self.assertEqual([message["data"] for message in part["messages"]], numbers, query)
            self.assertEqual(part["complete"], complete, query)
        for wrong in ({"after": 1}, {"after": epoch}, {"after": f"{epoch}:"}, {"limit": "x"}, {"limit": 100_001}, {"since": -1}, {"before": 1 << 53}):
            self.assertEqual(self.read(status=400, **wrong)["code"], "invalid_message", wrong)

    # capability: 80 85
    def test_a_channel_without_a_history_has_none_to_read(self):
        self.assertEqual(self.read("news", status=404)["code"], "no_history")
        unknown = self.read("chat:unknown")
        self.assertEqual(unknown, {"channel": "chat:unknown", "messages": [], "complete": True, "offset": 0})
        self.assertEqual(value(self.server.metrics(), "crore_history_messages"), 0)


class Settings(unittest.TestCase):
    # capability: 25
    def test_round_trips_are_a_histogram(self):
        with ApiServer(CRORE_LIMITS_PING_INTERVAL="1s") as server, Client(server):
            count = 0
            deadline = time.monotonic() + PATIENCE_S
            while count == 0:
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.2)
                samples = server.metrics()["crore_ping_round_trip_seconds"].samples
                values = {(sample.name, sample.labels.get("le")): sample.value for sample in samples}
                count = values["crore_ping_round_trip_seconds_count", None]
            self.assertEqual(values["crore_ping_round_trip_seconds_bucket", "+Inf"], count)
            self.assertGreater(values["crore_ping_round_trip_seconds_sum", None], 0)

    # capability: 29 82
    def test_readiness_ends_with_the_beginning_of_the_drain(self):
        with ApiServer(CRORE_SHUTDOWN_TIMEOUT="4s") as server, server.http(None) as http:
            main = f"http://127.0.0.1:{server.port}"
            self.assertEqual(http.get("/readyz").json(), {"status": "ready"})
            self.assertEqual(httpx.get(f"{main}/readyz").json(), {"status": "ready"})
            self.assertEqual(http.get("/healthz").json(), {"status": "ok", "stuck_cores": []})
            self.assertEqual(httpx.get(f"{main}/healthz").json()["status"], "ok")
            # Who never answers the close frame holds the drain up for as long as it may.
            silent = self.enterContext(socket.create_connection(("127.0.0.1", server.port)))
            silent.sendall(UPGRADE)
            self.assertIn(b"101", silent.recv(4096))
            server.stopped = True
            server.process.send_signal(signal.SIGTERM)
            started = time.monotonic()
            while http.get("/readyz").status_code == 200:
                self.assertLess(time.monotonic() - started, 2, "at once")
            self.assertEqual(http.get("/readyz").json(), {"status": "draining"})
            self.assertEqual(http.get("/healthz").json(), {"status": "draining", "stuck_cores": []})
            self.assertEqual(http.get("/metrics").status_code, 200)
            self.assertIsNone(server.process.poll())
            self.assertEqual(server.process.wait(PATIENCE_S), 0)

    # capability: 73 80 98
    def test_a_server_keeps_its_name_and_each_run_has_its_own(self):
        runs = set()
        for name in ("edge-1", "edge-1", None):
            with ApiServer(CRORE_NAME=name) as server, server.http() as http:
                shown = http.get("/api/stats").json()
                self.assertEqual(shown["name"], name or socket.gethostname())
                self.assertRegex(shown["run"], "^[0-9a-f]{16}$")
                (sample,) = server.metrics()["crore_server_info"].samples
                self.assertEqual((sample.labels, sample.value), ({"server": shown["name"], "run": shown["run"]}, 1))
                self.assertEqual(http.get("/api/stats").json()["run"], shown["run"])
                runs.add(shown["run"])
        self.assertEqual(len(runs), 3)

    # capability: 80
    def test_without_a_key_the_api_says_what_to_set(self):
        with ApiServer(CRORE_API_KEY=None) as server, server.http() as http:
            response = http.get("/api/stats")
            self.assertEqual((response.status_code, response.json()["code"]), (403, "forbidden"))
            self.assertIn("CRORE_API_KEY", response.json()["detail"])
            self.assertEqual(http.get("/healthz").status_code, 200)

    # capability: 80
    def test_others_reach_it_with_a_key_alone(self):
        server = ApiServer(CRORE_API_KEY=None, CRORE_API_LISTEN=f"0.0.0.0:{free_port()}")
        refused = subprocess.run(
            server.command, env=server.environment, capture_output=True, text=True, timeout=PATIENCE_S
        )
        self.assertEqual(refused.returncode, 2)
        self.assertIn("`api.listen`: others reach 0.0.0.0:", refused.stderr)

    # capability: 80
    def test_a_port_that_is_taken_is_named(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = "127.0.0.1:%d" % listener.getsockname()[1]
            server = ApiServer(CRORE_API_LISTEN=address)
            refused = subprocess.run(
                server.command, env=server.environment, capture_output=True, text=True, timeout=PATIENCE_S
            )
        self.assertEqual(refused.returncode, 1)
        self.assertIn(f"the server API can't listen on {address}", refused.stderr)


def value(families, name):
    """The one value of a family without labels; the parser leaves `_total` out of a counter's name."""
    (sample,) = families[name].samples
    return sample.value


class Sizes(unittest.TestCase):
    # capability: 14 38 41 42 46
    def test_what_would_be_longer_than_its_receivers_take_is_refused(self):
        path = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "crore.toml"
        path.write_text('[[channels]]\npattern = "kept"\nhistory = 3\n')
        server = self.enterContext(ApiServer(CRORE_CONFIG=str(path)))
        http = self.enterContext(server.http())
        # They take 1 MiB, as many clients do.
        writer, reader = (self.enterContext(Client(server, user)) for user in ("ann", "bob"))
        for channel in ("plain", "kept"):
            self.assertEqual(reader.ask(type="subscribe", channel=channel)["type"], "subscribed")
        messages = (
            {"type": "publish", "channel": "plain"},
            {"type": "publish", "channel": "kept"},
            {"type": "private", "to": "bob"},
            {"type": "broadcast", "echo": False},
        )
        for message in messages:
            empty = len(json.dumps({**message, "id": 1, "data": ""}))
            refused = writer.ask(**message, id=1, data="x" * (MESSAGE_BYTES_MAX - empty))
            self.assertEqual((refused["type"], refused["code"], refused["id"]), ("error", "message_too_long", 1))
            self.assertIn(f"{MESSAGE_BYTES_MAX} bytes (`limits.message_bytes_max`)", refused["detail"])
            self.assertTrue(reader.nothing_came(), message)
            self.assertEqual(writer.ask(**message, id=2, data="x" * (MESSAGE_BYTES_MAX - 200))["type"], "response")
            self.assertEqual(len(reader.receive()["data"]), MESSAGE_BYTES_MAX - 200)
        posts = (
            ("/api/publish", {"channel": "plain"}),
            ("/api/publish", {"channel": "kept"}),
            ("/api/broadcast", {}),
            ("/api/users/bob/send", {}),
        )
        for url, body in posts:
            data = "x" * (MESSAGE_BYTES_MAX - len(json.dumps({**body, "data": ""})))
            refused = http.post(url, content=json.dumps({**body, "data": data}), headers={"Content-Type": "application/json"})
            self.assertEqual((refused.status_code, refused.json()["code"]), (413, "message_too_long"), url)
            self.assertTrue(reader.nothing_came(), url)
            self.assertEqual(http.post(url, json={**body, "data": data[200:]}).status_code, 200, url)
            self.assertEqual(len(reader.receive()["data"]), len(data) - 200)


if __name__ == "__main__":
    unittest.main()
