"""Python's `websockets` against the echo example on two cores."""

import asyncio
import random
import unittest

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK
from websockets.frames import Close

from support import PATIENCE_S, Server

# The largest message that the engine takes unless it is told otherwise.
MESSAGE_BYTES_MAX = 1024 * 1024
# Both sides of the borders between the forms of a frame's length, and of a receive buffer.
SIZES = [0, 1, 125, 126, 127, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 1_000_000, MESSAGE_BYTES_MAX]
# The bytes are arbitrary, and the same in every run.
RANDOM = random.Random(1)


class Echo(unittest.IsolatedAsyncioTestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(Server("examples/echo", "127.0.0.1:{port}", "--cores", 2))

    async def asyncSetUp(self):
        # The test case switches it on, and then a busy machine is reported at length.
        asyncio.get_running_loop().set_debug(False)
        self.socket = await connect(self.server.url, max_size=None, ping_interval=None)
        self.addAsyncCleanup(self.socket.close)

    async def receive(self, socket=None):
        async with asyncio.timeout(PATIENCE_S):
            return await (socket or self.socket).recv()

    async def echoed(self, message, expected=None):
        await self.socket.send(message)
        self.assertEqual(await self.receive(), message if expected is None else expected)

    async def test_text_of_every_length(self):
        for size in SIZES:
            with self.subTest(size=size):
                await self.echoed("x" * size)

    async def test_binary_of_every_length(self):
        for size in SIZES:
            with self.subTest(size=size):
                await self.echoed(RANDOM.randbytes(size))

    async def test_text_beyond_ascii(self):
        await self.echoed("κόσμε, 世界, \N{CRICKET BAT AND BALL}, \0" * 10_000)

    async def test_many_messages_in_flight_keep_their_order(self):
        messages = [bytes([number % 256]) * (number % 700) for number in range(2_000)]
        sending = asyncio.create_task(self.send_all(messages))
        for message in messages:
            self.assertEqual(await self.receive(), message)
        await sending

    async def send_all(self, messages):
        for message in messages:
            await self.socket.send(message)

    async def test_fragments_are_joined(self):
        # A cut in the middle of a character is the codec's business, not the reader's.
        await self.echoed(["Ha", "l", "", "lo"], expected="Hallo")
        euro = "€".encode()
        await self.echoed([euro[:1], euro[1:], b""], expected=euro)
        pieces = [RANDOM.randbytes(1_000) for _ in range(1_000)]
        await self.echoed(pieces, expected=b"".join(pieces))

    async def test_a_ping_between_fragments_is_answered_at_once(self):
        pong = None

        async def pieces():
            nonlocal pong
            yield "before "
            pong = await self.socket.ping(b"between")
            await asyncio.wait_for(pong, PATIENCE_S)
            yield "after"

        await self.echoed(pieces(), expected="before after")
        self.assertTrue(pong.done())

    async def test_pings_of_every_length(self):
        for size in [0, 1, 8, 125]:
            pong = await self.socket.ping(RANDOM.randbytes(size) if size else b"")
            await asyncio.wait_for(pong, PATIENCE_S)

    async def test_an_unasked_pong_is_ignored(self):
        await self.socket.pong(b"12345678")
        await self.socket.pong()
        await self.echoed("still here")

    async def test_the_clients_close_is_answered_with_its_code(self):
        for code, reason in [(1000, ""), (1001, "leaving"), (3000, "é" * 61), (4999, "x" * 123)]:
            with self.subTest(code=code):
                socket = await connect(self.server.url)
                await socket.send("last words")
                await socket.close(code, reason)
                self.assertEqual(await self.receive(socket), "last words")
                with self.assertRaises((ConnectionClosedOK, ConnectionClosedError)) as closed:
                    await self.receive(socket)
                self.assertEqual(closed.exception.sent, Close(code, reason))
                self.assertEqual(closed.exception.rcvd.code, code)

    async def test_the_servers_close_has_code_and_reason(self):
        await self.socket.send("before")
        await self.socket.send(b"x" * (MESSAGE_BYTES_MAX + 1))
        self.assertEqual(await self.receive(), "before")
        with self.assertRaises(ConnectionClosedError) as closed:
            await self.receive()
        self.assertEqual(closed.exception.rcvd.code, 1009)
        self.assertIn("message", closed.exception.rcvd.reason)
        self.assertTrue(closed.exception.rcvd_then_sent)

    async def test_invalid_text_is_closed_with_1007(self):
        await self.socket.send(b"\xff\xfe", text=True)
        with self.assertRaises(ConnectionClosedError) as closed:
            await self.receive()
        self.assertEqual(closed.exception.rcvd.code, 1007)

    async def test_what_is_not_offered_is_not_chosen(self):
        async with connect(self.server.url + "any/path?query=1", subprotocols=["chat", "superchat"]) as socket:
            self.assertIsNone(socket.subprotocol)
            self.assertEqual(socket.response.status_code, 101)

    async def test_hundreds_of_clients_at_once(self):
        async def client(number):
            async with connect(self.server.url, ping_interval=None, open_timeout=PATIENCE_S) as socket:
                for round in range(10):
                    await socket.send(f"{number} {round}")
                    self.assertEqual(await self.receive(socket), f"{number} {round}")

        await asyncio.gather(*(client(number) for number in range(300)))


if __name__ == "__main__":
    unittest.main()
