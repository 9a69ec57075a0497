"""Python's `websockets` against channels with a history: what was missed comes, once and in order, or a gap is told."""

import concurrent.futures
import pathlib
import random
import tempfile
import time
import unittest

from websockets.sync.client import connect

from support import Messages, Server

RULES = """
[[channels]]
pattern = "chat:*"
history = 100

[[channels]]
pattern = "long:*"
history = 100000

[[channels]]
pattern = "short:*"
history = 3

[[channels]]
pattern = "members:*"
history = 100
presence = "list"
may_publish = "subscribers"

[[channels]]
pattern = "brief:*"
history = 100
history_time = "1s"
"""


class History(Messages, unittest.TestCase):
    def setUp(self):
        directory = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.file = directory / "crore.toml"
        self.file.write_text(RULES)
        self.server = self.enterContext(self.start())

    def start(self):
        return Server("crore", "--listen", "127.0.0.1:{port}", "--cores", 2, "--config", self.file)

    def client(self, server=None):
        """A connection that has been welcomed."""
        socket = self.enterContext(connect((server or self.server).url))
        self.assertEqual(self.receive(socket)["type"], "welcome")
        return socket

    def subscribe(self, socket, channel, **fields):
        """The `data` of the reply."""
        self.send(socket, type="subscribe", id="s", channel=channel, **fields)
        reply = self.receive(socket)
        self.assertEqual((reply["type"], reply["id"], reply["channel"]), ("subscribed", "s", channel))
        self.assertEqual(reply["data"]["subscribed"], channel)
        return reply["data"]

    def publish(self, socket, channel, numbers):
        """Publishes numbers; returns the replies' `data`."""
        replies = []
        for number in numbers:
            self.send(socket, type="publish", id=number, channel=channel, data=number)
            reply = self.receive(socket)
            self.assertEqual((reply["type"], reply["id"], reply["data"]["published"]), ("response", number, True))
            replies.append(reply["data"])
        return replies

    def messages(self, socket, count):
        """The `data` and `offset` of the next messages."""
        messages = [self.receive(socket) for _ in range(count)]
        self.assertEqual({message["type"] for message in messages}, {"message"} if count else set())
        return [(message["data"], message["offset"]) for message in messages]

    def assert_nothing_else(self, socket):
        self.send(socket, type="ping")
        self.assertEqual(self.receive(socket)["type"], "pong")

    # capability: 69 85
    def test_what_was_missed_comes_with_the_subscription(self):
        publisher, reader = self.client(), self.client()
        data = self.subscribe(reader, "chat:1")
        self.assertEqual(data["offset"], 0)
        self.assertNotIn("recovered", data)
        replies = self.publish(publisher, "chat:1", [1, 2, 3])
        self.assertEqual([reply["offset"] for reply in replies], [1, 2, 3])
        self.assertEqual(self.messages(reader, 3), [(1, 1), (2, 2), (3, 3)])
        reader.close()
        self.publish(publisher, "chat:1", [4, 5])
        reader = self.client()
        data = self.subscribe(reader, "chat:1", recover={"offset": 3, "epoch": data["epoch"]})
        self.assertEqual((data["offset"], data["recovered"]), (5, True))
        self.assertEqual(self.messages(reader, 2), [(4, 4), (5, 5)])
        self.publish(publisher, "chat:1", [6])
        self.assertEqual(self.messages(reader, 1), [(6, 6)])
        self.assert_nothing_else(reader)

    # capability: 85
    def test_what_asks_for_less_does_not_overtake_what_catches_up(self):
        publisher = self.client()
        seen = {}
        for channel in ("chat:one", "chat:two"):
            seen[channel], *_ = self.publish(publisher, channel, range(3))
        for at_once in (True, False):
            reader = self.client()
            places = [{"offset": place["offset"], "epoch": place["epoch"]} for place in seen.values()]
            asked = [
                {"type": "subscribe", "channel": channel, "recover": place}
                for channel, place in zip(seen, places, strict=True)
            ]
            asked += [{"type": "join", "channel": channel} for channel in seen]
            if at_once:
                self.send(reader, type="batch", messages=asked)
            else:
                for message in asked:
                    self.send(reader, **message)
            told = [self.receive(reader) for _ in range(8)]
            for channel in seen:
                mine = [message for message in told if message["channel"] == channel]
                self.assertEqual([one["type"] for one in mine], ["subscribed", "message", "message", "joined"])
                self.assertEqual((mine[0]["data"]["recovered"], mine[1]["data"], mine[2]["data"]), (True, 1, 2))

    # capability: 59 85
    def test_what_comes_behind_a_subscription_comes_from_a_subscriber(self):
        reader = self.client()
        kinds = ("subscribe", "publish", "typing", "read", "presence", "history")
        fields = {"channel": "members:1", "isTyping": True, "ids": [1], "data": 7}
        self.send(reader, type="batch", messages=[{"type": kind, "id": kind, **fields} for kind in kinds])
        told = []
        while not told or told[-1].get("id") != "history":
            told.append(self.receive(reader))
        self.assertNotIn("error", {message["type"] for message in told}, told)
        self.assertEqual(told[-1]["data"]["messages"][0]["data"], 7)

    # capability: 85
    def test_a_message_of_any_length_is_handed_out(self):
        publisher, reader = self.client(), self.client()
        long = "x" * 600_000
        self.send(publisher, type="publish", channel="chat:long", data=long)
        place = self.receive(publisher)["data"]
        got = self.subscribe(reader, "chat:long", recover={"offset": 0, "epoch": place["epoch"]})
        self.assertEqual((got["recovered"], self.messages(reader, 1)), (True, [(long, 1)]))

    # capability: 69 85
    def test_a_gap_is_told_before_what_there_is(self):
        publisher, reader = self.client(), self.client()
        epoch = self.publish(publisher, "short:1", range(1, 11))[0]["epoch"]
        for recover in ({"offset": 2, "epoch": epoch}, {"offset": 10, "epoch": "0"}, {"offset": 11, "epoch": epoch}, {"since": 1}):
            data = self.subscribe(reader, "short:1", recover=recover)
            self.assertEqual((data["offset"], data["recovered"]), (10, False))
            gap = self.receive(reader)
            self.assertEqual((gap["type"], gap["channel"], gap["next"]), ("gap", "short:1", 8))
            self.assertEqual(self.messages(reader, 3), [(8, 8), (9, 9), (10, 10)])
            self.send(reader, type="unsubscribe", channel="short:1")
            self.assertEqual(self.receive(reader)["type"], "unsubscribed")

    # capability: 69 85
    def test_what_does_not_fit_is_asked_for_from_its_end_to_its_beginning(self):
        publisher, reader = self.client(), self.client()
        long = "x" * 50_000
        for number in range(40):
            self.send(publisher, type="publish", channel="chat:much", data=[number, long])
            epoch = self.receive(publisher)["data"]["epoch"]
        seen = {"offset": 5, "epoch": epoch}
        self.assertFalse(self.subscribe(reader, "chat:much", recover=seen)["recovered"])
        gap = self.receive(reader)
        self.assertGreater(gap["next"], 6, "two megabytes are more than half of what may wait")
        numbers = [self.receive(reader)["data"][0] for _ in range(40 - gap["next"] + 1)]
        before, complete, pages = gap["next"], False, 0
        while not complete:
            self.send(reader, type="history", id=pages, channel="chat:much", recover=seen, before=before)
            reply = self.receive(reader)
            self.assertEqual((reply["id"], reply["data"]["epoch"]), (pages, epoch))
            page, complete = reply["data"]["messages"], reply["data"]["complete"]
            numbers = [message["data"][0] for message in page] + numbers
            before, pages = page[0]["offset"], pages + 1
        self.assertEqual(numbers, list(range(5, 40)))
        self.assertGreater(pages, 1)

    # capability: 85
    def test_a_timestamp_is_a_place_too(self):
        publisher, reader = self.client(), self.client()
        self.subscribe(reader, "chat:2")
        for number in (1, 2, 3):
            self.publish(publisher, "chat:2", [number])
            time.sleep(0.005)
        times = [self.receive(reader)["timestamp"] for _ in range(3)]
        reader = self.client()
        data = self.subscribe(reader, "chat:2", recover={"since": times[1]})
        self.assertTrue(data["recovered"])
        self.assertEqual(self.messages(reader, 2), [(2, 2), (3, 3)])

    # capability: 69 85
    def test_nothing_is_lost_or_doubled_while_readers_come_and_go(self):
        seed = random.randrange(2**32)
        print(f"seed {seed}")
        count, publishers, readers = 100, 3, 6
        last = count * publishers

        def publish(number):
            with connect(self.server.url) as socket:
                self.receive(socket)
                for index in range(count):
                    self.send(socket, type="publish", channel="long:1", id=index, data=[number, index])
                    self.receive(socket)

        def read(chance):
            seen, epoch, order = 0, None, []
            while seen < last:
                # With a bound to its queue the client does not hear the end of what it has not read.
                with connect(self.server.url, max_queue=None) as socket:
                    self.receive(socket)
                    recover = {"offset": seen, "epoch": epoch} if epoch else {"since": 1}
                    self.send(socket, type="subscribe", channel="long:1", recover=recover)
                    data = self.receive(socket)["data"]
                    # From time 1 on is more than the server can vouch for.
                    if not epoch:
                        self.assertEqual(self.receive(socket)["type"], "gap")
                    else:
                        self.assertTrue(data["recovered"])
                    epoch = data["epoch"]
                    for _ in range(chance.randrange(60)):
                        if seen == last:
                            break
                        message = self.receive(socket)
                        self.assertEqual((message["offset"], message["epoch"]), (seen + 1, epoch))
                        order.append(message["data"])
                        seen += 1
            return order

        with concurrent.futures.ThreadPoolExecutor(readers + publishers) as pool:
            reading = [pool.submit(read, random.Random(seed + number)) for number in range(readers)]
            for publisher in [pool.submit(publish, number) for number in range(publishers)]:
                publisher.result()
            orders = [reader.result() for reader in reading]
        for order in orders:
            self.assertEqual(order, orders[0], "all see one order")
        for number in range(publishers):
            self.assertEqual([index for of, index in orders[0] if of == number], list(range(count)))

    # capability: 85
    def test_history_is_read_by_subscribers(self):
        publisher, reader = self.client(), self.client()
        self.publish(publisher, "chat:3", range(1, 6))
        self.send(reader, type="history", id=1, channel="chat:3")
        self.assertEqual(self.receive(reader)["code"], "forbidden")
        self.send(reader, type="history", id=1, channel="news")
        self.assertEqual(self.receive(reader)["code"], "no_history")
        epoch = self.subscribe(reader, "chat:3")["epoch"]
        for fields, numbers, complete in (
            ({}, [1, 2, 3, 4, 5], True),
            ({"limit": 2}, [4, 5], False),
            ({"recover": {"offset": 3, "epoch": epoch}}, [4, 5], True),
            ({"limit": 0}, [], False),
            ({"before": 4}, [1, 2, 3], True),
            ({"before": 4, "limit": 2}, [2, 3], False),
            ({"before": 5, "recover": {"offset": 2, "epoch": epoch}}, [3, 4], True),
            ({"before": 1}, [], True),
            ({"before": 99}, [1, 2, 3, 4, 5], True),
        ):
            self.send(reader, type="history", id=2, channel="chat:3", **fields)
            reply = self.receive(reader)
            self.assertEqual((reply["type"], reply["id"], reply["data"]["offset"]), ("response", 2, 5))
            self.assertEqual([message["data"] for message in reply["data"]["messages"]], numbers)
            self.assertEqual(reply["data"]["complete"], complete)
        for wrong in ({"limit": "2"}, {"limit": -1}, {"recover": 7}, {"recover": {"offset": 1}}, {"recover": {"since": "x"}}, {"before": "4"}, {"before": -1}):
            self.send(reader, type="history", id=3, channel="chat:3", **wrong)
            self.assertEqual(self.receive(reader)["code"], "invalid_message")

    # capability: 69 85
    def test_an_acknowledged_place_is_one_to_recover_from(self):
        publisher, other = self.client(), self.client()
        epoch = self.subscribe(publisher, "long:2")["epoch"]
        count = 300

        def flood():
            for number in range(count):
                self.send(other, type="message", channel="long:2", data=number)

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            flooding = pool.submit(flood)
            for number in range(count):
                self.send(publisher, type="publish", id=number, channel="long:2", data=number)
            known, others = set(), 0
            for _ in range(2 * count):
                message = self.receive(publisher)
                if message["type"] == "message":
                    known.add(message["offset"])
                    others += 1
                else:
                    place = message["data"]["offset"]
                    known.add(place)
                    self.assertEqual(len(known), place, "something before it has not come")
            flooding.result()
        self.assertEqual(others, count)
        reader = self.client()
        data = self.subscribe(reader, "long:2", recover={"offset": 2 * count, "epoch": epoch})
        self.assertEqual((data["offset"], data["recovered"]), (2 * count, True))

    def fill(self, publisher, channel, length):
        """Fills what is kept of a channel with texts of that length; returns the epoch."""
        for number in range(100):
            self.send(publisher, type="publish", id=number, channel=channel, data="x" * length)
        return [self.receive(publisher) for _ in range(100)][0]["data"]["epoch"]

    # capability: 69 85
    def test_who_comes_back_to_many_channels_gets_all_of_them(self):
        publisher = self.client()
        channels = [f"chat:many:{number}" for number in range(8)]
        epochs = [self.fill(publisher, channel, 4000) for channel in channels]
        # In all three times what may wait for a connection.
        recover = [
            {"type": "subscribe", "id": channel, "channel": channel, "recover": {"offset": 0, "epoch": epoch}}
            for channel, epoch in zip(channels, epochs)
        ]
        for messages in ([{"type": "batch", "messages": recover}], recover):
            with connect(self.server.url, max_size=None, compression=None) as reader:
                self.receive(reader)
                for message in messages:
                    self.send(reader, **message)
                for _ in channels:
                    reply = self.receive(reader)
                    self.assertEqual((reply["type"], reply["data"]["recovered"]), ("subscribed", True))
                    self.assertEqual(self.messages(reader, 100), [("x" * 4000, offset) for offset in range(1, 101)])
                self.assert_nothing_else(reader)

    def peak_bytes(self, server):
        """The most memory that a server has had."""
        status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))

    # capability: 27 85
    def test_many_questions_for_much_cost_no_more_than_the_answers_that_are_read(self):
        publisher = self.client()
        self.fill(publisher, "chat:8", 5000)
        before, asked = self.peak_bytes(self.server), 40
        readers = [self.enterContext(connect(self.server.url, max_size=None, compression=None)) for _ in range(8)]
        for reader in readers:
            self.receive(reader)
            self.subscribe(reader, "chat:8")
            for number in range(asked):
                self.send(reader, type="history", id=number, channel="chat:8")
        # 160 MB, if all of it were made at once.
        for number in range(asked):
            for reader in readers:
                reply = self.receive(reader)
                self.assertEqual((reply["id"], reply["data"]["complete"]), (number, True))
                self.assertEqual(len(reply["data"]["messages"]), 100)
        grown = self.peak_bytes(self.server) - before
        self.assertLess(grown, 50_000_000, "1 MiB may wait for each, and as much is on its way")

    # capability: 27 85
    def test_no_more_questions_wait_than_may(self):
        self.file.write_text("[limits]\nsubscriptions_max = 5\n" + RULES)
        with self.start() as server:
            reader = self.client(server)
            self.subscribe(reader, "chat:9")
            questions = [{"type": "history", "id": number, "channel": "chat:9"} for number in range(80)]
            self.send(reader, type="batch", messages=questions)
            replies = [self.receive(reader) for _ in questions]
            busy = [reply["id"] for reply in replies if reply["type"] == "error"]
            self.assertEqual(busy, list(range(69, 80)), "one for each subscription, and 64")
            self.assertEqual({reply["code"] for reply in replies if reply["type"] == "error"}, {"busy"})
            answered = [reply["id"] for reply in replies if reply["type"] == "response"]
            self.assertEqual(answered, list(range(69)), "in the order of the questions")
            self.send(reader, type="history", id=80, channel="chat:9")
            self.assertEqual(self.receive(reader)["type"], "response")

    # capability: 64 85
    def test_who_may_not_ask_any_more_is_not_answered_later(self):
        publisher, reader = self.client(), self.client()
        self.publish(publisher, "chat:10", [1])
        self.subscribe(reader, "chat:10")
        questions = [{"type": "history", "id": number, "channel": "chat:10"} for number in range(3)]
        self.send(reader, type="batch", messages=[*questions, {"type": "unsubscribe", "id": 3, "channel": "chat:10"}])
        replies = {reply["id"]: reply for reply in (self.receive(reader) for _ in range(4))}
        self.assertEqual([replies[number]["type"] for number in (0, 3)], ["response", "unsubscribed"])
        self.assertEqual([replies[number]["code"] for number in (1, 2)], ["forbidden", "forbidden"])

    # capability: 85
    def test_subscriptions_are_counted_alike_with_and_without_a_history(self):
        subscribe = lambda name: {"type": "subscribe", "id": name, "channel": name}
        unsubscribe = lambda name: {"type": "unsubscribe", "id": f"not {name}", "channel": name}
        outcomes = []
        for rule in ("", "history = 10\n", 'presence = "list"\n'):
            self.file.write_text('[limits]\nsubscriptions_max = 5\n[[channels]]\npattern = "*"\n' + rule)
            with self.start() as server:
                client = self.client(server)
                deeds = [*map(subscribe, "aab"), unsubscribe("b"), *map(subscribe, "cdefg"), unsubscribe("a"), subscribe("h")]
                self.send(client, type="batch", messages=deeds)
                replies = [self.receive(client) for _ in deeds]
                refused = [reply["id"] for reply in replies if reply.get("code") == "too_many_subscriptions"]
                self.send(client, type="request", method="channels")
                outcomes.append((refused, sorted(self.receive(client)["data"]["channels"])))
        self.assertEqual(outcomes, [(["g"], ["c", "d", "e", "f", "h"])] * 3)

    def test_who_unsubscribes_at_once_is_not_subscribed(self):
        publisher, reader = self.client(), self.client()
        for number in range(50):
            self.send(reader, type="subscribe", id="s", channel="chat:4")
            self.send(reader, type="unsubscribe", id="u", channel="chat:4")
            replies = {reply["id"]: reply for reply in (self.receive(reader), self.receive(reader))}
            self.assertEqual(replies["u"]["type"], "unsubscribed")
            self.assertTrue(replies["s"]["type"] == "subscribed" or replies["s"]["code"] == "cancelled")
            self.publish(publisher, "chat:4", [number])
            self.assert_nothing_else(reader)

    def test_members_of_a_channel_with_a_history_are_announced(self):
        one, two = self.client(), self.client()
        for socket in (one, two):
            self.send(socket, type="join", id="j", channel="chat:5")
            reply = self.receive(socket)
            self.assertEqual((reply["type"], reply["data"]["joined"]), ("joined", "chat:5"))
        self.assertEqual(self.receive(one)["type"], "join")
        two.close()
        self.assertEqual(self.receive(one)["type"], "leave")

    # capability: 69 85
    def test_a_member_that_joins_again_is_told_where_the_channel_stands(self):
        member, other = self.client(), self.client()
        self.subscribe(other, "chat:7")
        told = []
        for fields in ({}, {"recover": {"since": 0}}):
            self.send(member, type="join", id="j", channel="chat:7", **fields)
            joined = self.receive(member)
            self.assertEqual((joined["type"], joined["id"], joined["channel"]), ("joined", "j", "chat:7"))
            told.append(joined["data"])
            self.publish(member, "chat:7", [1])
        self.assertEqual(set(told[0]), {"joined", "offset", "epoch"})
        self.assertEqual(told[1], {**told[0], "offset": 1}, "who was subscribed all the time has missed nothing")
        self.assert_nothing_else(member)
        refused = self.ask(member, type="join", channel="chat:7", recover={"offset": -1})
        self.assertEqual(refused["code"], "invalid_message")
        # It is announced once.
        self.assertEqual([self.receive(other)["type"] for _ in range(3)], ["join", "message", "message"])
        self.assert_nothing_else(other)

    def test_echo_and_exclusion_are_the_same_with_a_history(self):
        socket = self.client()
        self.subscribe(socket, "chat:6")
        self.send(socket, type="message", channel="chat:6", data="to all")
        self.assertEqual(self.messages(socket, 1), [("to all", 1)])
        self.publish(socket, "chat:6", [2])
        self.assert_nothing_else(socket)

    def test_time_ends_what_is_kept(self):
        publisher, reader = self.client(), self.client()
        epoch = self.publish(publisher, "brief:1", [1])[0]["epoch"]
        time.sleep(1.1)
        self.assertEqual(self.publish(publisher, "brief:1", [2])[0], {"published": True, "offset": 2, "epoch": epoch})
        data = self.subscribe(reader, "brief:1", recover={"offset": 0, "epoch": epoch})
        self.assertFalse(data["recovered"])
        self.assertEqual(self.receive(reader)["next"], 2)
        self.assertEqual(self.messages(reader, 1), [(2, 2)])

    def test_another_run_is_another_epoch(self):
        before = self.publish(self.client(), "chat:7", [1])[0]
        with self.start() as server:
            reader = self.client(server)
            data = self.subscribe(reader, "chat:7", recover={"offset": 1, "epoch": before["epoch"]})
            self.assertNotEqual(data["epoch"], before["epoch"])
            self.assertEqual((data["offset"], data["recovered"]), (0, False))
            self.assertEqual(self.receive(reader)["next"], 1)
            self.assert_nothing_else(reader)


if __name__ == "__main__":
    unittest.main()
