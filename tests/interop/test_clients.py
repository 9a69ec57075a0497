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
    """What every client meets. `client` is its class."""

    # What the example is told of compression, and the parameters that follow for who offers it.
    arguments = ()
    agreed = None

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
        # Who can is always ready to compress.
        compress = {"compress": True} if self.client.compresses else {}
        socket = await self.wait(self.client.open(self.wire.url, **compress, **options))
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
        (connection,) = self.wire.connections
        sent = connection.client.frames
        self.assertGreater(sum(not frame.fin for frame in sent), 300)
        begun = [frame.rsv for frame in connection.client.messages() if not frame.fin]
        self.assertEqual(set(begun), {0 if connection.agreed() is None else 4})

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

    async def test_many_clients_at_once(self):
        async def client(number):
            socket = await self.open()
            for round in range(5):
                await self.echoed(socket, f"{number} {round} " * 200)

        await asyncio.gather(*(client(number) for number in range(60)))

    async def test_compression_is_agreed_on_if_both_want_it(self):
        socket = await self.open()
        await self.echoed(socket, "compressible " * 1_000)
        (connection,) = self.wire.connections
        self.assertEqual("permessage-deflate" in (connection.offer() or ""), self.client.compresses)
        agreed = self.agreed if self.client.compresses else None
        self.assertEqual(connection.agreed(), agreed)
        self.assertEqual(socket.compressed, agreed is not None)
        for direction in connection.client, connection.server:
            (frame,) = direction.messages()
            self.assertEqual((frame.rsv, frame.length < 13_000), (0, False) if agreed is None else (4, True))

    async def asyncTearDown(self):
        for connection in self.wire.connections:
            connection.check()


class Compressed(Cases):
    """What those meet that speak permessage-deflate (RFC 7692), too."""

    arguments = ("--compress",)
    agreed = {"server_no_context_takeover": True, "client_no_context_takeover": True}

    async def echoed_frame(self, socket, message):
        """The frame by which a message has come back."""
        await self.echoed(socket, message)
        return self.wire.connections[-1].server.messages()[-1]

    def text(self, size):
        """Text that becomes smaller by half, but has no words to refer back to."""
        return self.random.randbytes(size // 2).hex()

    async def test_only_what_gains_by_it_is_compressed(self):
        socket = await self.open()
        for size in [0, 1, 125, THRESHOLD_BYTES - 1]:
            self.assertEqual((await self.echoed_frame(socket, "x" * size)).rsv, 0)
        for size in [THRESHOLD_BYTES, 65_536, MESSAGE_BYTES_MAX]:
            self.assertEqual((await self.echoed_frame(socket, self.text(size))).rsv, 4)
            self.assertEqual((await self.echoed_frame(socket, self.random.randbytes(size))).rsv, 0)
        for frame in self.wire.connections[0].client.messages():
            self.assertEqual(frame.rsv, 4)

    async def test_messages_refer_to_earlier_ones_only_if_agreed(self):
        socket = await self.open()
        text = self.text(3_000)
        first, again = [await self.echoed_frame(socket, text) for _ in range(2)]
        # What is not compressed in between is not referred to, and does not matter.
        await self.echoed(socket, self.random.randbytes(3_000))
        last = await self.echoed_frame(socket, text)
        for frame in again, last:
            if self.agreed:
                self.assertEqual(frame.length, first.length)
            else:
                self.assertLess(frame.length, first.length / 10)

    async def exchange(self, socket, count):
        """All kinds of messages, of which many look like earlier ones."""
        blocks = [self.text(2_000), "x" * 2_000, BEYOND_ASCII * 50, *(self.text(20) for _ in range(20))]
        for number in range(count):
            message = "".join(self.random.choices(blocks, k=self.random.choice([0, 1, 10, 50])))
            if number % 4 == 1:
                message = message.encode()
            if number % 4 == 3:
                message = self.random.randbytes(self.random.choice([1, 2_000, 70_000]))
            await self.echoed(socket, message)
        for direction in self.wire.connections[-1].client, self.wire.connections[-1].server:
            self.assertIn(4, [frame.rsv for frame in direction.messages()])

    async def test_message_after_message(self):
        await self.exchange(await self.open(), 400)

    async def test_every_window(self):
        offers = list(self.client.window_offers())
        if not offers:
            self.skipTest("it offers no windows")
        for offer in offers:
            with self.subTest(offer=offer):
                socket = await self.open(**offer)
                agreed = self.wire.connections[-1].agreed()
                # What is offered is agreed to, and what the server wants besides.
                asked = {name: value for name, value in offer.items() if value and name != "client_max_window_bits"}
                self.assertEqual({**agreed, **self.agreed, **asked}, agreed)
                self.assertLessEqual(agreed.get("client_max_window_bits", 15), offer.get("client_max_window_bits", 15))
                await self.exchange(socket, 20)


class Takeover(Compressed):
    """The same where messages refer to earlier ones."""

    arguments = ("--compress=takeover",)
    agreed = {}


class Unasked(Cases):
    """A server that compresses, but not for who does not ask for it."""

    arguments = ("--compress",)
    agreed = {}


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


# A class for each client and mode, so that a failure names them.
for client in CLIENTS:
    for mode in (Cases, Compressed, Takeover) if client.compresses else (Cases, Unasked):
        name = f"{client.__name__}{mode.__name__}"
        globals()[name] = type(name, (mode, unittest.IsolatedAsyncioTestCase), {"client": client})


if __name__ == "__main__":
    unittest.main()
