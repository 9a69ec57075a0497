"""The chat's two clients, as they are and in terminals, against the chat example and the server, on two cores."""

import datetime
import json
import logging
import pathlib
import re
import subprocess
import sys
import time
import unittest

from websockets.sync.client import connect

from support import PATIENCE_S, PROGRAMS, TARGET, Server
from terminal import Terminal

HERE = pathlib.Path(__file__).resolve().parent
# The port is written into the clients. tests/run gives the test a network of its own where it can.
PORT = 8080
CLIENTS = {
    "Python": [sys.executable, HERE / "chat/ws_client.py"],
    # tests/run has stripped the types.
    "TypeScript": ["node", TARGET / "node/chat/ws-client.js"],
}


class Cases:
    """What the clients meet, whoever serves them."""

    def setUp(self):
        self.server = self.enterContext(self.serve())

    def client(self, language, name):
        terminal = self.enterContext(Terminal([*CLIENTS[language], name]))
        terminal.expect(f"You are logged in as: {name}")
        self.expect_line(terminal, "System: Welcome! Please identify yourself.")
        self.expect_line(terminal, f"System: {name} has joined the chat")
        return terminal

    def observer(self):
        """A connection of the test's own."""
        # This client reads no close frame behind messages that nobody has fetched: it need not wait for one,
        # nor tell of it.
        quiet = logging.getLogger("quiet")
        quiet.addHandler(logging.NullHandler())
        socket = self.enterContext(connect(self.server.url, close_timeout=0, logger=quiet))
        self.assertEqual(self.receive(socket)["content"], "Welcome! Please identify yourself.")
        return socket

    def receive(self, socket):
        return json.loads(socket.recv(timeout=PATIENCE_S))

    def expect_line(self, terminal, text):
        """A line with the time of day, which must be about now: else its unit has been mistaken."""
        shown = terminal.expect(r"\[(\d+:\d\d:\d\d(?: [AP]M)?)\] " + re.escape(text) + r"\r?\n")[1]
        form = "%I:%M:%S %p" if shown.endswith("M") else "%H:%M:%S"
        now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
        time = datetime.datetime.combine(now.date(), datetime.datetime.strptime(shown, form).time())
        apart = abs(now - time)
        self.assertLess(min(apart, datetime.timedelta(days=1) - apart), datetime.timedelta(minutes=10), shown)

    # capability: 102
    def test_both_clients_talk_to_each_other(self):
        alice = self.client("Python", "Alice")
        bob = self.client("TypeScript", "Bob")
        self.expect_line(alice, "System: Bob has joined the chat")

        alice.type("Hello, Bob\n")
        for terminal in (alice, bob):
            self.expect_line(terminal, "Alice: Hello, Bob")
        bob.type("Grüß dich \"Alice\"\n")
        for terminal in (alice, bob):
            self.expect_line(terminal, 'Bob: Grüß dich "Alice"')

        bob.type("\x03")
        self.expect_line(alice, "System: Bob has left the chat")
        carol = self.client("TypeScript", "Carol")
        # The line feed lets the client's own thread end, which waits for a line.
        alice.type("\x03\n")
        self.expect_line(carol, "System: Alice has left the chat")

    def test_many_clients_hear_all(self):
        people = [self.client(language, f"{language}{number}") for number in range(3) for language in CLIENTS]
        for number, speaker in enumerate(people):
            speaker.type(f"line {number}\n")
            for listener in people:
                listener.expect(f": line {number}\r?\n")

    # capability: 86 102
    def test_clients_reconnect(self):
        alice, bob = self.client("Python", "Alice"), self.client("TypeScript", "Bob")
        self.server.stop()
        for terminal in (alice, bob):
            terminal.expect("Disconnected from server")
        self.server.__enter__()
        for terminal, name in ((alice, "Alice"), (bob, "Bob")):
            terminal.expect("Connected to")
            self.expect_line(terminal, f"System: {name} has joined the chat")

    # capability: 41 102
    def test_private_messages_reach_only_whom_they_are_for(self):
        alice, bob = self.client("Python", "Alice"), self.client("TypeScript", "Bob")
        observer, bobs_other = self.observer(), self.observer()
        bobs_other.send(json.dumps({"type": "join", "username": "Bob"}))
        self.assertEqual(self.receive(observer)["content"], "Bob has joined the chat")
        self.assertEqual(self.receive(bobs_other)["content"], "Bob has joined the chat")

        for to in ("Bob", "Alice", "Nobody"):
            observer.send(json.dumps({"type": "private", "to": to, "content": f"for {to}"}))
        private = self.receive(bobs_other)
        self.assertIsInstance(private.pop("timestamp"), float)
        whisper = {"type": "private", "username": "Anonymous", "from": "Anonymous", "to": "Bob", "content": "for Bob"}
        self.assertEqual(private, whisper)
        self.expect_line(bob, "Anonymous: for Bob")
        self.expect_line(alice, "Anonymous: for Alice")
        error = self.receive(observer)
        self.assertEqual((error["type"], error["content"]), ("error", "Nobody is not online"))
        self.assertNotIn("for Bob", alice.shown)
        self.assertNotIn("for Alice", bob.shown)

    def test_typing_is_shown_to_the_others(self):
        alice, bob = self.client("Python", "Alice"), self.client("TypeScript", "Bob")
        carol, observer = self.observer(), self.observer()
        carol.send(json.dumps({"type": "join", "username": "Carol"}))
        self.assertEqual(self.receive(carol)["content"], "Carol has joined the chat")
        self.assertEqual(self.receive(observer)["content"], "Carol has joined the chat")
        for is_typing, shown in ((True, "is typing..."), (False, "has stopped typing")):
            carol.send(json.dumps({"type": "typing", "username": "Carol", "isTyping": is_typing}))
            for terminal in (alice, bob):
                self.expect_line(terminal, f"Carol: {shown}")
            typing = self.receive(observer)
            self.assertEqual((typing["type"], typing["username"]), ("typing", "Carol"))
            self.assertIs(typing["isTyping"], is_typing)
        carol.send(json.dumps({"type": "message", "content": "done"}))
        self.assertEqual(self.receive(carol)["content"], "done")

    def test_nonsense_is_answered_and_survived(self):
        observer = self.observer()
        for nonsense in ("", "{", "[]", "null", '{"type": 1}', '{"type": "dance"}', b"\xff\x00"):
            observer.send(nonsense)
            self.assertEqual(self.receive(observer)["type"], "error")


class Chat(Cases, unittest.TestCase):
    def serve(self):
        return Server("examples/chat", "127.0.0.1:{port}", "--cores", 2, port=PORT)


class Crore(Cases, unittest.TestCase):
    def serve(self):
        options = {"port": PORT, "variables": {"CRORE_CHAT_PATH": "/"}}
        return Server("crore", "--listen", "127.0.0.1:{port}", "--cores", 2, **options)

    def test_the_room_is_a_world_of_its_own(self):
        alice, observer = self.client("Python", "Alice"), self.observer()
        with connect(self.server.url + "ws") as outsider:
            self.assertEqual(self.receive(outsider)["type"], "welcome")
            outsider.send(json.dumps({"type": "broadcast", "data": "to all", "id": 1}))
            self.assertEqual({self.receive(outsider)["type"] for _ in range(2)}, {"broadcast", "response"})
        observer.send(json.dumps({"type": "message", "content": "only this"}))
        self.assertEqual(self.receive(observer)["content"], "only this")
        self.expect_line(alice, "Anonymous: only this")
        # A name is asked for.
        observer.send(json.dumps({"type": "join", "username": ""}))
        self.assertEqual(self.receive(observer)["content"], "`username` has 1 to 128 bytes of printable text")

    # capability: 102
    def test_who_joins_by_another_name_leaves_by_the_one_before_it(self):
        observer, joiner = self.observer(), self.observer()
        for name, told, told_to_all in (
            ("bob", ["bob has joined the chat"], True),
            # Its client may wait for an answer; to the others nothing is new.
            ("bob", ["bob has joined the chat"], False),
            ("carl", ["bob has left the chat", "carl has joined the chat"], True),
        ):
            joiner.send(json.dumps({"type": "join", "username": name}))
            joiner.send(json.dumps({"type": "message", "content": "hello"}))
            for socket in (joiner, observer):
                expected = [("System", text) for text in told if told_to_all or socket is joiner]
                heard = [self.receive(socket) for _ in (*expected, "hello")]
                shown = [(line["username"], line["content"]) for line in heard]
                self.assertEqual(shown, [*expected, (name, "hello")])
        joiner.close()
        self.assertEqual(self.receive(observer)["content"], "carl has left the chat")

    # capability: 102
    def test_the_servers_name_is_nobody_elses(self):
        observer = self.observer()
        for name in ("System", "system", " SYSTEM "):
            observer.send(json.dumps({"type": "join", "username": name}))
            error = self.receive(observer)
            self.assertEqual((error["type"], "the server's own name" in error["content"]), ("error", True))
        observer.send(json.dumps({"type": "message", "content": "who am I?"}))
        self.assertEqual(self.receive(observer)["username"], "Anonymous")

    # capability: 41 53 102
    def test_a_users_name_is_nobody_elses(self):
        self.server.stop()
        secret = "a secret of more than thirty-two bytes"
        auth = {"CRORE_AUTH_MODE": "optional", "CRORE_AUTH_SECRET": secret}
        # Its clients answer no close frame while the test holds them.
        variables = {"CRORE_CHAT_PATH": "/", "CRORE_SHUTDOWN_TIMEOUT": "100ms", **auth}
        with Server("crore", "--listen", "127.0.0.1:{port}", "--cores", 2, port=PORT, variables=variables) as self.server:

            def ask(socket, **message):
                socket.send(json.dumps(message))
                return self.receive(socket)

            # Before its user comes a name is anybody's.
            mallory = self.observer()
            self.assertEqual(ask(mallory, type="join", username="ann")["content"], "ann has joined the chat")
            gen_token = [PROGRAMS / "crore", "gen-token", "--user", "ann", "--expires", "10m"]
            made = subprocess.run(gen_token, env=self.server.environment, capture_output=True, text=True, check=True)
            ann = self.enterContext(connect(f"{self.server.url}?token={made.stdout.strip()}", close_timeout=0))
            self.assertEqual([self.receive(ann)["type"] for _ in range(2)], ["authenticated", "message"])
            self.assertEqual(ask(ann, type="join")["content"], "ann has joined the chat")
            self.assertEqual(self.receive(mallory)["content"], "ann has joined the chat")
            # What is said to her is hers.
            bob = self.observer()
            bob.send(json.dumps({"type": "private", "to": "ann", "content": "for ann"}))
            self.assertEqual(self.receive(ann)["content"], "for ann")
            # Whoever had her name speaks by it no more.
            mallory.send(json.dumps({"type": "message", "content": "I am ann"}))
            told = {message["type"]: message["content"] for message in (self.receive(mallory), self.receive(mallory))}
            self.assertEqual(told["message"], "ann has left the chat")
            self.assertIn("a user who is online", told["error"])
            self.assertIn("a user who is online", ask(mallory, type="join", username="ann")["content"])
            self.assertEqual(ask(mallory, type="message", content="hello")["username"], "Anonymous")
            self.assertEqual(ask(mallory, type="join", username="mallory")["content"], "mallory has joined the chat")

    def test_private_messages_can_be_switched_off(self):
        self.server.stop()
        variables = {"CRORE_CHAT_PATH": "/", "CRORE_CLIENTS_PRIVATE": "false"}
        with Server("crore", "--listen", "127.0.0.1:{port}", "--cores", 2, variables=variables) as self.server:
            observer = self.observer()
            observer.send(json.dumps({"type": "private", "to": "Bob", "content": "for Bob"}))
            self.assertEqual(self.receive(observer)["content"], "`clients.private` is off")

    # capability: 24 60
    def test_a_sign_of_life_is_answered_and_never_limited(self):
        self.server.stop()
        variables = {"CRORE_CHAT_PATH": "/", "CRORE_RATE_LIMIT_ENABLED": "true", "CRORE_RATE_LIMIT_BURST": "5"}
        with Server("crore", "--listen", "127.0.0.1:{port}", "--cores", 2, variables=variables) as self.server:
            observer = self.observer()
            for _ in range(30):
                observer.send(json.dumps({"type": "ping"}))
                pong = self.receive(observer)
                # In seconds: it is a client in Python.
                self.assertLess(abs(pong.pop("timestamp") - time.time()), 600)
                self.assertEqual(pong, {"type": "pong"})
            observer.send(json.dumps({"type": "message", "content": "there is room for it"}))
            self.assertEqual(self.receive(observer)["content"], "there is room for it")

    def test_a_name_is_that_of_the_token(self):
        self.server.stop()
        secret = "a secret of more than thirty-two bytes"
        variables = {"CRORE_CHAT_PATH": "/chat", "CRORE_AUTH_MODE": "required", "CRORE_AUTH_SECRET": secret}
        arguments = ("--listen", "127.0.0.1:{port}", "--cores", 2)
        with Server("crore", *arguments, variables=variables) as server:
            gen_token = [PROGRAMS / "crore", "gen-token", "--user", "ann", "--expires", "10m"]
            token = subprocess.run(gen_token, env=server.environment, capture_output=True, text=True, check=True).stdout
            for query in (f"?token={token.strip()}", ""):
                with connect(f"{server.url}chat{query}") as socket:
                    if not query:
                        socket.send(json.dumps({"type": "auth", "token": token.strip()}))
                    self.assertEqual(self.receive(socket)["type"], "authenticated")
                    self.assertEqual(self.receive(socket)["content"], "Welcome! Please identify yourself.")
                    socket.send(json.dumps({"type": "join", "username": "eve"}))
                    self.assertEqual(self.receive(socket)["content"], "ann has joined the chat")
                    socket.send(json.dumps({"type": "message", "username": "eve", "content": "me"}))
                    self.assertEqual(self.receive(socket)["username"], "ann")


if __name__ == "__main__":
    unittest.main()
