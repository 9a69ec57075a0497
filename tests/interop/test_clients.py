"""Python's WebSocket clients against the echo example on two cores: each meets every case in every mode."""

import asyncio
import random
import unittest

from clients import CLIENTS
from support import PATIENCE_S, Server
from wire import Wire

# The largest message that the engine takes unless it is told otherwise.
MESSAGE_BYTES_MAX = 1024 * 1024
# Messages below it are not compressed by the engine.
THRESHOLD_BYTES = 1024
# Both sides of the borders between the forms of a frame's length, of the threshold, and of a receive buffer.
SIZES = [0, 1, 125, 126, 127, 1023, 1024, 16_383, 16_384, 65_535, 65_536, 65_537, 1_000_000, MESSAGE_BYTES_MAX]
CLOSES = [(1000, ""), (1001, "leaving"), (3000, "é" * 61), (4999, "x" * 123)]
BEYOND_ASCII = "κόσμε, 世界, \N{CRICKET BAT AND BALL}, \0"


class Cases:
    """What every client meets. `client` is its class, `arguments` are those of the example."""

    arguments = ()

    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(Server("examples/echo", "127.0.0.1:{port}", "--cores", 2, *cls.arguments))

    async def asyncSetUp(self):
        # The test case switches it on, and then a busy machine is reported at length.
        asyncio.get_running_loop().set_debug(False)
        # The bytes are arbitrary, and the same in every run.
        self.random = random.Random(1)
        self.wire = await self.enterAsyncContext(Wire(self.server.port))

    async def open(self, **options):
        socket = await self.wait(self.client.open(self.wire.url, compress=bool(self.arguments), **options))
        self.addAsyncCleanup(socket.leave)
        return socket

    async def wait(self, what):
        return await asyncio.wait_for(what, PATIENCE_S)

    async def echoed(self, socket, message):
        await self.wait(socket.send(message))
        # Megabytes are not worth a comparison of the differences.
        answer = await self.wait(socket.receive())
        self.assertTrue(answer == message, f"of {message[:100]!r} has become {answer[:100]!r}")

    async def test_text_of_every_length(self):
        socket = await self.open()
        for size in SIZES:
            await self.echoed(socket, "x" * size)

    async def test_text_beyond_ascii(self):
        socket = await self.open()
        await self.echoed(socket, BEYOND_ASCII)
        await self.echoed(socket, BEYOND_ASCII * 10_000)

    async def test_binary_of_every_length(self):
        socket = await self.open()
        for size in SIZES:
            await self.echoed(socket, self.random.randbytes(size))

    async def test_many_messages_in_flight_keep_their_order(self):
        socket = await self.open()
        words = [self.random.randbytes(3).hex() for _ in range(100)]
        messages = [" ".join(self.random.choices(words, k=number % 400)) for number in range(1_000)]

        async def send_all():
            for message in messages:
                await socket.send(message)

        sending = asyncio.create_task(send_all())
        for message in messages:
            self.assertEqual(await self.wait(socket.receive()), message)
        await self.wait(sending)

    async def test_fragments_are_joined_and_a_ping_between_them_is_answered_at_once(self):
        if not self.client.fragments:
            self.skipTest("it sends no fragments")
        socket = await self.open()
        between = lambda: self.wait(socket.ping(b"between"))
        await self.wait(socket.send_fragments([b"before ", b"", b"after"], text=True, between=between))
        self.assertEqual(await self.wait(socket.receive()), "before after")
        texts = [[b"Ha", b"l", b"", b"lo"], [BEYOND_ASCII.encode()] * 500]
        if self.client.cuts_characters:
            euro = "€".encode()
            texts.append([euro[:1], euro[1:], b""])
        for pieces in texts:
            await self.wait(socket.send_fragments(pieces, text=True))
            self.assertEqual(await self.wait(socket.receive()), b"".join(pieces).decode())
        for pieces in [[b"", b""], [self.random.randbytes(1_000) for _ in range(300)], [b"twice" * 1_000] * 20]:
            await self.wait(socket.send_fragments(pieces, text=False))
            self.assertEqual(await self.wait(socket.receive()), b"".join(pieces))
        sent = self.wire.connections[0].client.frames
        self.assertGreater(sum(not frame.fin for frame in sent), 300)

    async def test_pings_of_every_length(self):
        socket = await self.open()
        for size in [0, 1, 8, 125]:
            await self.wait(socket.ping(self.random.randbytes(size)))
        await self.wait(socket.pong(b"nobody has asked"))
        await self.echoed(socket, "still here")
        heard = self.wire.connections[0].server.frames
        self.assertEqual([frame.length for frame in heard if frame.opcode == 0xA], [0, 1, 8, 125])

    async def test_the_clients_close_is_answered_with_its_code(self):
        for code, reason in CLOSES:
            with self.subTest(code=code):
                socket = await self.open()
                await self.echoed(socket, "last words")
                answer = await self.wait(socket.close(code, reason))
                self.assertEqual(answer[0], code)
                self.assertEqual(self.wire.connections[-1].server.close_code(), code)

    async def test_a_message_beyond_the_limit_is_closed_with_1009(self):
        # Compressed, the first fits into any limit; the second does not become smaller.
        for message in ["x" * (MESSAGE_BYTES_MAX + 1), self.random.randbytes(MESSAGE_BYTES_MAX + 1)]:
            socket = await self.open()
            await self.echoed(socket, "before")
            await self.wait(socket.send(message))
            code, reason = await self.wait(socket.closed())
            self.assertEqual(code, 1009)
            self.assertIn("message", reason)

    async def test_invalid_text_is_closed_with_1007(self):
        if not self.client.sends_invalid_text:
            self.skipTest("it sends no invalid text")
        socket = await self.open()
        await self.wait(socket.send_invalid_text(b"\xff\xfe" * THRESHOLD_BYTES))
        self.assertEqual((await self.wait(socket.closed()))[0], 1007)

    async def test_what_is_not_offered_is_not_chosen(self):
        offered = None if self.client.insists_on_subprotocol else ["chat", "superchat"]
        socket = await self.open(subprotocols=offered)
        self.assertIsNone(socket.subprotocol)
        self.check_agreed(socket, self.wire.connections[0])

    async def test_many_clients_at_once(self):
        async def client(number):
            socket = await self.open()
            for round in range(5):
                await self.echoed(socket, f"{number} {round} " * 200)

        await asyncio.gather(*(client(number) for number in range(60)))

    async def asyncTearDown(self):
        """What holds on the wire whatever was said."""
        for connection in self.wire.connections:
            for direction, masked in [(connection.client, True), (connection.server, False)]:
                for frame in direction.frames:
                    may_be_compressed = connection.agreed() is not None and frame.opcode in (0x1, 0x2)
                    self.assertIn(frame.rsv, (0, 4) if may_be_compressed else (0,), frame)
                    self.assertEqual(frame.masked, masked, frame)
                    self.assertTrue(direction is connection.client or frame.fin, frame)

    def check_agreed(self, socket, connection):
        """That nothing is compressed."""
        self.assertIsNone(connection.agreed())


class Plain(Cases):
    """Without compression: the server is told nothing of it, and the clients are."""

    async def open(self, **options):
        compress = {"compress": True} if self.client.compresses else {}
        socket = await self.wait(self.client.open(self.wire.url, **compress, **options))
        self.addAsyncCleanup(socket.leave)
        return socket

    async def test_an_offer_of_compression_is_passed_over(self):
        if not self.client.compresses:
            self.skipTest("it does not compress")
        socket = await self.open()
        await self.echoed(socket, "plain" * THRESHOLD_BYTES)
        connection = self.wire.connections[0]
        self.assertIn("permessage-deflate", connection.offer())
        self.assertIsNone(connection.agreed())
        self.assertFalse(socket.compressed)


class Closes(unittest.IsolatedAsyncioTestCase):
    """What the server closes with, and the subprotocol that it chooses, from a server that does what it is told."""

    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(Server("examples/actor", "127.0.0.1:{port}"))

    async def test_the_servers_close_has_code_and_reason(self):
        for client in CLIENTS:
            for code, reason in CLOSES:
                with self.subTest(client=client.__name__, code=code):
                    socket = await client.open(self.server.url)
                    await socket.send(f"close {code} {reason}")
                    self.assertEqual(await asyncio.wait_for(socket.closed(), PATIENCE_S), (code, reason))
                    await socket.leave()

    async def test_the_subprotocol_is_one_of_those_offered(self):
        for client in CLIENTS:
            with self.subTest(client=client.__name__):
                socket = await client.open(self.server.url + "chat", subprotocols=["superchat", "chat"])
                self.assertEqual(socket.subprotocol, "chat")
                await socket.leave()


# A class for each client, so that a failure names it.
for client in CLIENTS:
    name = f"{client.__name__}Plain"
    globals()[name] = type(name, (Plain, unittest.IsolatedAsyncioTestCase), {"client": client})


if __name__ == "__main__":
    unittest.main()
