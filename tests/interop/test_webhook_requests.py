"""The webhook: requests to a backend, what waits behind them, and the circuit breaker."""

import concurrent.futures
import contextlib
import itertools
import json
import time

from api import Client
from backend import Gate, Raw, disconnect, error, result
from support import PATIENCE_S, eventually
from webhook import DROP, LONG, UNAVAILABLE, WebhookCase, nobody

# Of one event.
QUESTIONS_MAX = 512


class Requests(WebhookCase):
    # capability: 39
    def test_a_method_is_answered_by_the_backend(self):
        self.serve("rpc")
        client = self.client("ann")
        self.backend.answer("rpc", lambda asked: result(data={"sum": sum(asked.body["data"])}))
        answer = self.ask(client, type="request", method="sum", data=[1, 2, 4], id="a")
        self.assertEqual(answer, {"type": "response", "id": "a", "data": {"sum": 7}})
        asked = self.backend.about("rpc")[0]
        self.assertEqual((asked["method"], asked["data"], asked["user_id"]), ("sum", [1, 2, 4], "ann"))
        self.backend.answer("rpc", result())
        self.assertEqual(self.ask(client, type="request", method="none", id=1), {"type": "response", "id": 1, "data": None})
        self.assertNotIn("data", self.backend.about("rpc")[1])
        self.backend.answer("rpc", error("no_such_method", "No such method"))
        refused = self.ask(client, type="request", method="x", id=2)
        self.assertEqual(refused, {"type": "error", "id": 2, "code": "no_such_method", "error": "No such method"})
        # The server's own are its own.
        self.assertEqual(self.ask(client, type="request", method="whoami")["data"]["user_id"], "ann")
        self.assertEqual(len(self.backend.asked), 3)
        self.backend.answer("rpc", disconnect(1008, ""))
        client.socket.send(json.dumps({"type": "request", "method": "x"}))
        self.assert_closed(client, 1008, "")

    # capability: 39
    def test_without_a_backend_there_are_the_server_s_own_methods(self):
        self.serve("connect")
        refused = self.ask(self.client(), type="request", method="sum")
        self.assertEqual((refused["code"], refused["error"]), ("unknown_method", "Unknown method: sum"))

    # capability: 39 65
    def test_messages_are_handled_in_order_while_one_waits(self):
        self.serve("rpc", **DROP)
        client = self.client()
        gate = Gate(lambda asked: result(data=asked.body["data"]))
        self.backend.answer("rpc", gate)
        sent = []

        def request(number):
            return {"type": "request", "method": "echo", "data": number, "id": number}

        for message in (request(1), {"type": "subscribe", "channel": "c", "id": 2}, request(3), {"type": "dance", "id": 4}):
            sent.append(message)
        sent.append({"type": "batch", "messages": [request(5), {"type": "publish", "channel": "c", "id": 6}, request(7)]})
        sent.append({"type": "unsubscribe", "channel": "c", "id": 8})
        for message in sent:
            client.socket.send(json.dumps(message))
        # A sign of life waits for nobody.
        self.assertEqual(self.ask(client, type="ping", id="p"), {"type": "pong", "id": "p"})
        gate.wait()
        self.assertEqual(len(self.backend.asked), 1, "one question at a time")
        gate.opened.set()
        answers = [self.receive(client) for _ in range(8)]
        self.assertEqual([answer["id"] for answer in answers], [1, 2, 3, 4, 5, 6, 7, 8])
        types = ["response", "subscribed", "response", "error", "response", "response", "response", "unsubscribed"]
        self.assertEqual([answer["type"] for answer in answers], types)
        self.assertEqual([asked["data"] for asked in self.backend.about("rpc")], [1, 3, 5, 7])

    # capability: 24 39 65
    def test_a_sign_of_life_waits_for_nobody(self):
        for overload in ("pause", "drop"):
            with self.subTest(overload):
                self.serve("rpc", limits_inbound_overload=overload)
                client = self.client()
                gate = Gate(result())
                self.backend.answer("rpc", gate)
                client.socket.send(json.dumps({"type": "request", "method": "wait", "id": 0}))
                gate.wait()
                client.socket.send(json.dumps({"type": "subscribe", "channel": "c", "id": 1}))
                self.assertEqual(self.ask(client, type="ping", id="p"), {"type": "pong", "id": "p"})
                # Those of the protocol are answered, too.
                self.assertTrue(client.socket.ping().wait(PATIENCE_S))
                gate.opened.set()
                self.assertEqual([self.receive(client)["id"] for _ in range(2)], [0, 1])

    # capability: 39 65
    def test_nothing_is_lost_where_more_is_sent_than_may_wait(self):
        self.serve("rpc", limits_inbound_queue_max="10")
        client = self.client()
        gate = Gate(result())
        self.backend.answer("rpc", gate)
        client.socket.send(json.dumps({"type": "request", "method": "wait", "id": 0}))
        gate.wait()
        for number in range(1, 103):
            client.socket.send(json.dumps({"type": "subscribe", "channel": "c", "id": number}))
        eventually(lambda: self.sample("crore_inbound_pauses") == 1)
        gate.opened.set()
        self.assertEqual([self.receive(client)["id"] for _ in range(103)], list(range(103)))
        self.assertEqual(self.sample("crore_messages_overloaded"), 0)

    # capability: 17 21 27 84
    def test_who_closes_while_a_message_waits_has_gone(self):
        rules = '[[channels]]\npattern = "c"\npresence = "list"\n'
        self.serve("rpc", rules=rules, limits_connections_per_user_max="1")
        gate = Gate(result())
        self.backend.answer("rpc", gate)
        client = self.client("ann")
        client.subscribe("c")
        client.socket.send(json.dumps({"type": "request", "method": "wait"}))
        gate.wait()
        with self.server.http() as http:

            def users():
                return [user["user"] for user in http.get("/api/channels/c/presence").json()["users"]]

            eventually(lambda: users() == ["ann"])
            client.socket.close()
            eventually(lambda: users() == [])
        # It has given up its place.
        self.assertTrue(self.client("ann").nothing_came())
        self.assertFalse(gate.opened.is_set())
        gate.opened.set()

    # capability: 39 65
    def test_what_waits_is_bounded(self):
        self.serve("rpc", **DROP)
        client = self.client()
        gate = Gate(result())
        self.backend.answer("rpc", gate)
        client.socket.send(json.dumps({"type": "request", "method": "wait", "id": 0}))
        gate.wait()
        for number in range(1, 1003):
            client.socket.send(json.dumps({"type": "subscribe", "channel": "c", "id": number}))
        for number in (1001, 1002):
            overloaded = {"type": "error", "id": number, "code": "overloaded", "error": "Server overloaded, please slow down"}
            self.assertEqual(self.receive(client), overloaded)
        self.assertEqual(self.sample("crore_messages_overloaded"), 2)
        gate.opened.set()
        self.assertEqual([self.receive(client)["id"] for _ in range(1001)], list(range(1001)))
        # The next one has all the room again.
        self.assertEqual(self.ask(client, type="subscribe", channel="c", id="x")["id"], "x")

    # capability: 39 65
    def test_long_messages_that_wait_are_bounded_by_their_bytes(self):
        self.serve("rpc", limits_inbound_queue_bytes_max="200000", **DROP)
        client = self.client()
        gate = Gate(result())
        self.backend.answer("rpc", gate)
        client.socket.send(json.dumps({"type": "request", "method": "wait", "id": 0}))
        gate.wait()
        for number in (1, 2):
            client.socket.send(json.dumps({"type": "publish", "channel": "c", "id": number, "data": "x" * 200_000}))
        self.assertEqual((refused := self.receive(client))["code"], "overloaded", refused)
        self.assertEqual(refused["id"], 2)
        gate.opened.set()
        self.assertEqual([self.receive(client)["id"] for _ in range(2)], [0, 1])

    # capability: 39 60
    def test_a_message_counts_for_the_rate_limit_when_it_comes(self):
        limit = {"rate_limit_enabled": "true", "rate_limit_messages_per_second": "1", "rate_limit_burst": "4"}
        self.serve("rpc", **limit, **DROP)
        client = self.client()
        gate = Gate(result())
        self.backend.answer("rpc", gate)
        for number in range(6):
            client.socket.send(json.dumps({"type": "request", "method": "wait", "id": number}))
        for number in (4, 5):
            refused = self.receive(client)
            self.assertEqual((refused["id"], refused["code"]), (number, "rate_limited"))
        gate.opened.set()
        self.assertEqual([self.receive(client)["id"] for _ in range(4)], [0, 1, 2, 3])

    # capability: 39 32
    def test_a_slow_backend_keeps_nobody_else(self):
        self.serve("rpc", "publish", "subscribe")
        slow, other = self.client("ann"), self.client("bob")
        gate = Gate(result())
        self.backend.answer("rpc", gate)
        slow.socket.send(json.dumps({"type": "request", "method": "wait", "id": 0}))
        gate.wait()
        started = time.monotonic()
        for number in range(200):
            self.assertEqual(self.ask(other, type="ping", id=number)["id"], number)
        self.assertEqual(self.ask(other, type="subscribe", channel="asked:1")["type"], "subscribed", "it is asked beside")
        self.assertEqual(self.ask(other, type="publish", channel="free", id=1)["type"], "response")
        # What is sent to whoever waits reaches it at once, too.
        self.assertEqual(self.ask(other, type="private", to="ann", data="hello")["data"]["delivered"], 1)
        self.assertEqual(self.receive(slow)["data"], "hello")
        self.assertLess(time.monotonic() - started, PATIENCE_S / 2)
        gate.opened.set()
        self.assertEqual(self.receive(slow)["type"], "response")

    # capability: 21 39
    def test_a_connection_that_ends_leaves_nothing(self):
        self.serve("rpc", "connect", **DROP)
        gate = Gate(result(data="for nobody"))
        self.backend.answer("rpc", gate)
        clients = [Client(self.server) for _ in range(20)]
        for client in clients:
            client.socket.send(json.dumps({"type": "request", "method": "wait"}))
        for _ in clients:
            gate.wait()
        self.assertEqual(self.sample("crore_webhook_in_flight", event="rpc"), 20)
        for client in clients:
            client.socket.close()
        eventually(lambda: self.sample("crore_connections_open") == 0)
        # In their slots there are others by now.
        others = [self.client() for _ in range(20)]
        gate.opened.set()
        eventually(lambda: self.counted("rpc", "result") == 20)
        for other in others:
            self.assertTrue(other.nothing_came())
        self.assertEqual(self.sample("crore_webhook_in_flight", event="rpc"), 0)

    # capability: 28 39 65
    def test_a_message_is_in_memory_once_and_counted_until_its_answer_though_its_connection_has_gone(self):
        self.serve("publish", memory_budget="64MiB", webhook_concurrency_max="1", **DROP)
        gate = Gate(result())
        self.backend.answer("publish", gate)
        message, data = {"type": "publish", "channel": "asked:1", "id": 1}, "x" * 900_000
        # What follows has to wait for its turn.
        self.client().socket.send(json.dumps(message))
        gate.wait()
        with Client(self.server) as client:
            client.socket.send(json.dumps(message | {"data": data}))
            eventually(lambda: self.sample("crore_waiting_bytes") >= 900_000)
            waiting = self.sample("crore_waiting_bytes")
            self.assertLess(waiting, 910_000)
        eventually(lambda: self.sample("crore_connections_open") == 1)
        self.assertGreaterEqual(self.sample("crore_waiting_bytes"), 900_000)
        self.assertGreaterEqual(self.sample("crore_connection_memory_bytes", **{"class": "session"}), 900_000)
        # A core's share of the budget is 32 MiB, of which a quarter may wait.
        with contextlib.ExitStack() as clients:
            for client in [clients.enter_context(Client(self.server)) for _ in range(24)]:
                client.socket.send(json.dumps(message | {"data": data}))
            eventually(lambda: self.sample("crore_waiting_refused") > 0)
            self.assertLess(self.sample("crore_waiting_bytes"), 2 * (8 * 2**20 + 910_000))
        gate.opened.set()
        eventually(lambda: self.sample("crore_waiting_bytes") == 0)
        self.assertEqual(self.backend.about("publish")[1]["data"], data)

    # capability: 21 39 64
    def test_a_connection_that_ends_before_it_has_begun(self):
        self.serve("connect", **DROP)
        gate = Gate(result(user_id="ann", channels=["c"]))
        self.backend.answer("connect", gate)
        for _ in range(5):
            self.socket().close()
            gate.wait()
        gate.opened.set()
        eventually(lambda: self.counted("connect", "result") == 5)
        with self.server.http() as http:
            self.assertEqual(http.get("/api/users/ann").json()["connections"], [])
            self.assertEqual(http.get("/api/channels/c").json()["subscribers"], 0)

    # capability: 39
    def test_a_hundred_at_once_take_their_turns(self):
        self.serve("connect", "rpc", webhook_concurrency_max="8")

        def slowly(asked):
            time.sleep(0.005)
            return result(data=[asked.body["connection_id"], asked.body["data"]])

        self.backend.answer("rpc", slowly)
        with concurrent.futures.ThreadPoolExecutor(100) as pool:
            clients = list(pool.map(lambda _: self.client(), range(100)))

            def converse(client):
                for number in range(5):
                    client.socket.send(json.dumps({"type": "request", "method": "m", "data": number, "id": number}))
                return [self.receive(client) for _ in range(5)]

            for client, answers in zip(clients, pool.map(converse, clients)):
                expected = [{"type": "response", "id": n, "data": [client.id, n]} for n in range(5)]
                self.assertEqual(answers, expected)
        self.assertEqual((self.counted("rpc", "result"), self.counted("connect", "result")), (500, 100))
        self.assertLessEqual(self.backend.at_once_most, 8)
        # Connections are kept: a busy machine may let some of them lie for too long.
        self.assertLess(self.backend.connections, 300)

    # capability: 39
    def test_a_question_whose_turn_does_not_come(self):
        self.serve("rpc", webhook_concurrency_max="1", webhook_timeout="400ms")
        slow, late = self.client(), self.client()
        gate = Gate(result())
        self.backend.answer("rpc", gate)
        for client in (slow, late):
            client.socket.send(json.dumps({"type": "request", "method": "wait", "id": 1}))
        answers = sorted(self.receive(client)["code"] for client in (slow, late))
        self.assertIn(answers, (["busy", "unavailable"], ["unavailable", "unavailable"]))
        gate.opened.set()
        eventually(lambda: self.ask(late, type="request", method="wait", id=2)["type"] == "response")


    # capability: 39 64
    def test_a_backend_slow_at_one_event_keeps_no_other_event(self):
        self.serve("rpc", "connect", webhook_concurrency_max="2")
        clients = [self.client() for _ in range(5)]
        gate = Gate(result(data="late"))
        self.backend.answer("rpc", gate)
        for client in clients:
            client.socket.send(json.dumps({"type": "request", "method": "slow", "id": 1}))
        gate.wait()
        gate.wait()
        eventually(lambda: self.sample("crore_webhook_waiting", event="rpc") == 3)
        self.assertEqual(self.sample("crore_webhook_in_flight", event="rpc"), 2)
        started = time.monotonic()
        self.client()
        self.assertLess(time.monotonic() - started, PATIENCE_S / 2)
        gate.opened.set()
        self.assertEqual([self.receive(client)["data"] for client in clients], ["late"] * 5)

    # capability: 39 64
    def test_so_many_wait_for_one_event_and_those_of_others_have_their_room(self):
        self.serve("rpc", "connect", webhook_concurrency_max="1")
        gate = Gate(result())
        self.backend.answer("rpc", gate)
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            clients = list(pool.map(lambda _: self.client(), range(QUESTIONS_MAX + 3)))
        for client in clients:
            client.socket.send(json.dumps({"type": "request", "method": "slow", "id": 1}))
        busy = {"type": "error", "id": 1, "code": "busy", "error": "Server busy, try again later"}
        eventually(lambda: self.counted("rpc", "busy") == 3)
        self.assertEqual(self.ask(self.client(), type="connect")["type"], "connected")
        gate.opened.set()
        answers = [self.receive(client) for client in clients]
        self.assertEqual((answers.count(busy), sum("data" in answer for answer in answers)), (3, QUESTIONS_MAX))


class Breaker(WebhookCase):
    # capability: 96
    def test_nobody_opens_it_alone(self):
        self.serve("publish", webhook_breaker_failures="3", webhook_publish_when_down="allow")
        # As one that builds texts of what is not one.
        self.backend.answer("publish", lambda asked: Raw(500, b"") if asked.body["data"] == "odd" else error("banned", "No"))
        anonymous, more, ann = self.client(), self.client(), self.client("ann")
        for client in (anonymous, more, ann) * 5:
            refused = self.ask(client, type="publish", channel="asked:1", data="odd", id=1)
            self.assertEqual(refused, {**UNAVAILABLE, "id": 1})
        self.assertEqual(self.sample("crore_webhook_breaker_state", event="publish"), 0)
        self.assertEqual(self.ask(anonymous, type="publish", channel="asked:1", data="bad", id=2)["code"], "banned")
        # What no backend could read does not come to it.
        anonymous.socket.send('{"type":"publish","channel":"asked:1","data":"\\ud800","id":3}')
        self.assertEqual(self.receive(anonymous)["code"], "invalid_json")
        self.assertEqual(len(self.backend.asked), 16)

    # capability: 96
    def test_a_probe_that_takes_longer_than_the_pause_closes_it(self):
        breaker = {"webhook_breaker_failures": "2", "webhook_breaker_window": LONG, "webhook_breaker_pause": "500ms"}
        self.serve("rpc", **breaker)
        ann, bob = self.client("ann"), self.client("bob")
        self.backend.answer("rpc", Raw(500, b""))
        for client in (ann, bob):
            self.assertEqual(self.ask(client, type="request", method="m"), UNAVAILABLE)
        gate = Gate(result(data="back"))
        self.backend.answer("rpc", gate)
        for client in (ann, bob):
            time.sleep(0.6)
            client.socket.send(json.dumps({"type": "request", "method": "m"}))
            gate.wait()
        self.assertEqual(self.sample("crore_webhook_breaker_state", event="rpc"), 1)
        gate.opened.set()
        for client in (ann, bob):
            self.assertEqual(self.receive(client)["data"], "back")
        self.assertEqual(self.sample("crore_webhook_breaker_state", event="rpc"), 0)

    # capability: 96 98
    def test_a_backend_that_is_down_is_left_alone_and_tried_again(self):
        breaker = {"webhook_breaker_failures": "3", "webhook_breaker_window": LONG, "webhook_breaker_pause": "3s"}
        self.serve("rpc", "connect", **breaker)
        clients = itertools.cycle([self.client(user) for user in ("ann", "bob", "cat")])
        self.backend.answer("rpc", Raw(500, b""))

        def ask():
            return self.ask(next(clients), type="request", method="m")

        def state():
            return self.sample("crore_webhook_breaker_state", event="rpc")

        self.assertEqual(state(), 0)
        for _ in range(2):
            self.assertEqual(ask(), UNAVAILABLE)
        before_it_opens = time.monotonic()
        self.assertEqual((ask(), state()), (UNAVAILABLE, 2))
        before = len(self.backend.about("rpc"))
        while (refused := ask()) == UNAVAILABLE and len(self.backend.about("rpc")) == before:
            pass
        # The probe went out after the pause, and has failed.
        self.assertEqual(refused, UNAVAILABLE)
        self.assertGreater(time.monotonic() - before_it_opens, 3)
        self.assertEqual((len(self.backend.about("rpc")), state()), (before + 1, 2))
        self.assertGreater(self.counted("rpc", "breaker_open"), 0)
        # Other events have breakers of their own.
        client, other = self.client("dan"), self.client()
        gate = Gate(result(data="back"))
        self.backend.answer("rpc", gate)
        time.sleep(3.1)
        client.socket.send(json.dumps({"type": "request", "method": "m"}))
        gate.wait()
        self.assertEqual(state(), 1)
        self.assertEqual(self.ask(other, type="request", method="m"), UNAVAILABLE, "one probe at a time")
        gate.opened.set()
        self.assertEqual(self.receive(client)["data"], "back")
        self.assertEqual((state(), self.ask(other, type="request", method="m")["data"]), (0, "back"))
        self.assertEqual(self.sample("crore_webhook_breaker_opened", event="rpc"), 2)
        log = self.log.read_text()
        told = [log.count(f"the webhook's circuit breaker is {name}:") for name in ("open", "half-open", "closed")]
        self.assertEqual(told, [2, 2, 1])

    # capability: 96
    def test_a_backend_that_nobody_has_started(self):
        self.serve("publish", "subscribe", backend=nobody(), webhook_breaker_failures="2", webhook_publish_when_down="allow")
        client = self.client()
        for number in range(5):
            self.assertEqual(self.ask(client, type="publish", channel="asked:1", id=number)["type"], "response")
        outcomes = ("unreachable", "breaker_open")
        self.assertEqual([self.counted("publish", outcome) for outcome in outcomes], [2, 3])
        self.assertEqual(self.ask(client, type="subscribe", channel="asked:1")["code"], "unavailable")
