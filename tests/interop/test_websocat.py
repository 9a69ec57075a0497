"""websocat in a terminal and in a pipe, against the chat example."""

import json
import subprocess
import unittest

from support import PATIENCE_S, TARGET, Server
from terminal import Terminal

WEBSOCAT = TARGET / "tools/bin/websocat"


class Websocat(unittest.TestCase):
    def setUp(self):
        self.server = self.enterContext(Server("examples/chat", "127.0.0.1:{port}", "--cores", 2))

    def test_lines_are_messages(self):
        terminal = self.enterContext(Terminal([WEBSOCAT, self.server.url]))
        terminal.expect("Welcome! Please identify yourself.")
        terminal.type('{"type":"join","username":"TestUser","content":"","timestamp":123456}\n')
        terminal.expect("TestUser has joined the chat")

    def test_what_is_piped_in_is_heard(self):
        terminal = self.enterContext(Terminal([WEBSOCAT, self.server.url]))
        terminal.expect("Welcome! Please identify yourself.")
        join = json.dumps({"type": "join", "username": "TestUser", "content": "", "timestamp": 123456})
        subprocess.run([WEBSOCAT, self.server.url], input=join, text=True, timeout=PATIENCE_S, check=True)
        terminal.expect("TestUser has joined the chat")
        terminal.expect("TestUser has left the chat")


if __name__ == "__main__":
    unittest.main()
