"""websocat in a terminal and in a pipe: against the chat example, and against the echo example."""

import asyncio
import json
import random
import subprocess
import unittest

from support import PATIENCE_S, TARGET, Server
from terminal import Terminal
from wire import Wire

WEBSOCAT = TARGET / "tools/bin/websocat"


class Chat(unittest.TestCase):
    def setUp(self):
        self.server = self.enterContext(Server("examples/chat", "127.0.0.1:{port}", "--cores", 2))

    # capability: 101
    def test_lines_are_messages(self):
        terminal = self.enterContext(Terminal([WEBSOCAT, self.server.url]))
        terminal.expect("Welcome! Please identify yourself.")
        terminal.type('{"type":"join","username":"TestUser","content":"","timestamp":123456}\n')
        terminal.expect("TestUser has joined the chat")

    # capability: 101
    def test_what_is_piped_in_is_heard(self):
        terminal = self.enterContext(Terminal([WEBSOCAT, self.server.url]))
        terminal.expect("Welcome! Please identify yourself.")
        join = json.dumps({"type": "join", "username": "TestUser", "content": "", "timestamp": 123456})
        subprocess.run([WEBSOCAT, self.server.url], input=join, text=True, timeout=PATIENCE_S, check=True)
        terminal.expect("TestUser has joined the chat")
        terminal.expect("TestUser has left the chat")


class Echo(unittest.IsolatedAsyncioTestCase):
    @classmethod
    def setUpClass(cls):
        # It does not offer compression, and gets none from a server that would.
        cls.server = cls.enterClassContext(Server("examples/echo", "127.0.0.1:{port}", "--compress"))

    async def asyncSetUp(self):
        asyncio.get_running_loop().set_debug(False)
        self.wire = await self.enterAsyncContext(Wire(self.server.port))

    async def asyncTearDown(self):
        for connection in self.wire.connections:
            self.assertIsNone(connection.agreed())
            connection.check()

    async def start(self, *options):
        command = [WEBSOCAT, *options, self.wire.url]
        pipe = asyncio.subprocess.PIPE
        # A megabyte on one line.
        websocat = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=4 * 1024 * 1024)
        self.addAsyncCleanup(self.end, websocat)
        return websocat

    async def end(self, websocat):
        websocat.stdin.close()
        await asyncio.wait_for(websocat.wait(), PATIENCE_S)

    async def echoed(self, websocat, data):
        websocat.stdin.write(data)
        self.assertEqual(await asyncio.wait_for(websocat.stdout.readexactly(len(data)), PATIENCE_S), data)

    async def test_text(self):
        websocat = await self.start("--text", "--buffer-size", "2000000")
        for line in ["x", "κόσμε, 世界, \N{CRICKET BAT AND BALL}", "x" * 125, "x" * 126, "x" * 70_000, "x" * 1_000_000]:
            await self.echoed(websocat, f"{line}\n".encode())
        await self.end(websocat)
        (connection,) = self.wire.connections
        self.assertEqual({frame.opcode for frame in connection.server.messages()}, {0x1})
        self.assertIn(0x8, [frame.opcode for frame in connection.server.frames])

    async def test_binary(self):
        websocat = await self.start("--binary")
        for size in [1, 125, 126, 65_535, 65_536, 1_000_000]:
            await self.echoed(websocat, random.Random(size).randbytes(size))
        await self.end(websocat)
        (connection,) = self.wire.connections
        self.assertEqual({frame.opcode for frame in connection.server.messages()}, {0x2})

    async def test_pings_are_answered(self):
        websocat = await self.start("--exit-on-eof", "--ping-interval", "1", "--ping-timeout", str(PATIENCE_S))
        await self.echoed(websocat, b"before\n")
        (connection,) = self.wire.connections

        async def answered():
            while sum(frame.opcode == 0xA for frame in connection.server.frames) < 2:
                await asyncio.sleep(0.05)

        await asyncio.wait_for(answered(), PATIENCE_S)
        await self.echoed(websocat, b"after\n")

    async def test_its_close_is_answered_with_its_code(self):
        websocat = await self.start("--close-status-code", "4000", "--close-reason", "leaving")
        await self.echoed(websocat, b"last words\n")
        await self.end(websocat)
        self.assertEqual(self.wire.connections[0].server.close_code(), 4000)


if __name__ == "__main__":
    unittest.main()
