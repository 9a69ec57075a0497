"""Python's WebSocket clients behind one interface, so that all meet the same cases.

A client is opened by `await Client.open(url, …)`. What a client cannot do is said by its class: the cases look there.
"""

import asyncio
import itertools
import struct

import aiohttp
import picows
import picows.websockets.asyncio.client
import picows.websockets.exceptions
import websocket
import websockets.asyncio.client
import websockets.exceptions
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from support import PATIENCE_S

# Above every message of the cases.
MESSAGE_BYTES_MAX = 64 * 1024 * 1024


class Client:
    """What the cases need; the verbs are coroutines."""

    # Whether it can send a message in fragments of the caller's choice.
    fragments = True
    # Whether fragments of text may end within a character.
    cuts_characters = True
    # Whether it can be made to send text that is none.
    sends_invalid_text = True
    # Whether it speaks permessage-deflate, and says that it is spoken.
    compresses = False
    compressed = False
    # Whether it refuses a server that chooses none of the subprotocols that it has offered.
    insists_on_subprotocol = False

    @classmethod
    def window_offers(cls):
        """Options of `open`: the parameters of permessage-deflate that it can offer."""
        return []


class Websockets(Client):
    """`websockets`."""

    compresses = True
    closed_errors = websockets.exceptions.ConnectionClosed

    @classmethod
    async def open(cls, url, subprotocols=None, compress=False, **parameters):
        self = cls()
        extensions = [ClientPerMessageDeflateFactory(**{"client_max_window_bits": True, **parameters})]
        self.socket = await websockets.asyncio.client.connect(
            url,
            subprotocols=subprotocols,
            compression=None,
            extensions=extensions if compress else None,
            max_size=None,
            ping_interval=None,
            open_timeout=PATIENCE_S,
            close_timeout=PATIENCE_S,
        )
        return self

    @classmethod
    def window_offers(cls):
        # The smallest window is one that it decompresses, but can't compress.
        for number, (server_bits, client_bits) in enumerate(itertools.product(range(8, 16), range(9, 16))):
            yield {
                "server_max_window_bits": server_bits,
                "client_max_window_bits": client_bits,
                "server_no_context_takeover": number % 2 == 1,
                "client_no_context_takeover": number % 4 >= 2,
            }

    @property
    def subprotocol(self):
        return self.socket.subprotocol

    @property
    def compressed(self):
        """What the client itself says of the extension."""
        return [extension.name for extension in self.socket.protocol.extensions] == ["permessage-deflate"]

    async def send(self, message):
        await self.socket.send(message)

    async def send_fragments(self, pieces, text, between=None):
        """Sends a message in these fragments; `between` is awaited behind the first."""

        async def fragments():
            for number, piece in enumerate(pieces):
                yield piece
                if number == 0 and between:
                    await between()

        await self.socket.send(fragments(), text=text)

    async def send_invalid_text(self, data):
        await self.socket.send(data, text=True)

    async def receive(self):
        return await self.socket.recv()

    async def ping(self, payload):
        """Returns when the pong has come."""
        await (await self.socket.ping(payload))

    async def pong(self, payload):
        await self.socket.pong(payload)

    async def close(self, code, reason):
        """Closes, and returns code and reason of the server's answer."""
        await self.socket.close(code, reason)
        return self.socket.close_code, self.socket.close_reason

    async def closed(self):
        """Waits for the server's close, and returns its code and reason."""
        try:
            message = await self.socket.recv()
        except self.closed_errors as closed:
            return closed.rcvd.code, closed.rcvd.reason or ""
        raise AssertionError(f"{message!r} instead of a close")

    async def leave(self):
        await self.socket.close()


class PicowsWebsockets(Websockets):
    """`picows.websockets`, which has the interface of `websockets`, and a codec of its own."""

    # Fragments of text are given as text.
    cuts_characters = False
    sends_invalid_text = False
    closed_errors = picows.websockets.exceptions.ConnectionClosed

    @classmethod
    async def open(cls, url, subprotocols=None, compress=False):
        self = cls()
        self.socket = await picows.websockets.asyncio.client.connect(
            url,
            subprotocols=subprotocols,
            compression="deflate" if compress else None,
            max_size=None,
            ping_interval=None,
            open_timeout=PATIENCE_S,
            close_timeout=PATIENCE_S,
        )
        return self

    @classmethod
    def window_offers(cls):
        return []

    @property
    def compressed(self):
        return self.socket.response.headers.get("Sec-WebSocket-Extensions") is not None

    async def send_fragments(self, pieces, text, between=None):
        await super().send_fragments([piece.decode() for piece in pieces] if text else pieces, None, between)


class Picows(Client, picows.WSListener):
    """`picows` by its own interface, which is frames."""

    def __init__(self):
        self.frames = asyncio.Queue()
        self.pongs = asyncio.Queue()

    def on_ws_frame(self, transport, frame):
        if frame.msg_type == picows.WSMsgType.PONG:
            self.pongs.put_nowait(frame.get_payload_as_bytes())
        elif frame.msg_type == picows.WSMsgType.CLOSE:
            code = frame.get_close_code()
            code_and_reason = int(getattr(code, "value", code)), frame.get_close_reason() or ""
            self.frames.put_nowait((frame.msg_type, code_and_reason))
            transport.send_close(picows.WSCloseCode(code))
            transport.disconnect()
        else:
            assert frame.fin, "nothing is echoed in fragments"
            self.frames.put_nowait((frame.msg_type, frame.get_payload_as_bytes()))

    @classmethod
    async def open(cls, url, subprotocols=None, compress=False):
        headers = [("Sec-WebSocket-Protocol", ", ".join(subprotocols))] if subprotocols else None
        transport, self = await picows.ws_connect(
            cls, url, extra_headers=headers, websocket_handshake_timeout=PATIENCE_S, max_frame_size=MESSAGE_BYTES_MAX
        )
        self.transport = transport
        return self

    @property
    def subprotocol(self):
        return self.transport.response.headers.get("Sec-WebSocket-Protocol")

    async def send(self, message):
        if isinstance(message, str):
            self.transport.send(picows.WSMsgType.TEXT, message.encode())
        else:
            self.transport.send(picows.WSMsgType.BINARY, message)

    async def send_fragments(self, pieces, text, between=None):
        opcode = picows.WSMsgType.TEXT if text else picows.WSMsgType.BINARY
        for number, piece in enumerate(pieces):
            self.transport.send(opcode, piece, fin=number == len(pieces) - 1)
            opcode = picows.WSMsgType.CONTINUATION
            if number == 0 and between:
                await between()

    async def send_invalid_text(self, data):
        self.transport.send(picows.WSMsgType.TEXT, data)

    async def receive(self):
        opcode, payload = await self.frames.get()
        assert opcode != picows.WSMsgType.CLOSE, payload
        return payload.decode() if opcode == picows.WSMsgType.TEXT else payload

    async def ping(self, payload):
        self.transport.send_ping(payload)
        assert await self.pongs.get() == payload

    async def pong(self, payload):
        self.transport.send_pong(payload)

    async def close(self, code, reason):
        self.transport.send(picows.WSMsgType.CLOSE, struct.pack("!H", code) + reason.encode())
        return await self.closed()

    async def closed(self):
        opcode, payload = await self.frames.get()
        assert opcode == picows.WSMsgType.CLOSE, payload
        return payload

    async def leave(self):
        self.transport.disconnect()


class Aiohttp(Client):
    """`aiohttp`."""

    fragments = False
    compresses = True

    @classmethod
    async def open(cls, url, subprotocols=(), compress=False, server_max_window_bits=15):
        self = cls()
        self.session = aiohttp.ClientSession()
        self.socket = await self.session.ws_connect(
            url,
            protocols=subprotocols or (),
            compress=server_max_window_bits if compress else 0,
            max_msg_size=0,
            # What is a pong is seen by the case that waits for one.
            autoping=False,
        )
        return self

    @classmethod
    def window_offers(cls):
        for bits in range(9, 15):
            yield {"server_max_window_bits": bits}

    @property
    def subprotocol(self):
        return self.socket.protocol

    @property
    def compressed(self):
        return self.socket.compress != 0

    async def send(self, message):
        await (self.socket.send_str(message) if isinstance(message, str) else self.socket.send_bytes(message))

    async def send_invalid_text(self, data):
        await self.socket.send_frame(data, aiohttp.WSMsgType.TEXT)

    async def next(self):
        """The next message, or control frame; the server's heartbeat is answered."""
        while (message := await self.socket.receive()).type == aiohttp.WSMsgType.PING:
            await self.socket.pong(message.data)
        return message

    async def receive(self):
        message = await self.next()
        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
        return message.data

    async def ping(self, payload):
        await self.socket.ping(payload)
        message = await self.next()
        assert (message.type, bytes(message.data)) == (aiohttp.WSMsgType.PONG, payload), message

    async def pong(self, payload):
        await self.socket.pong(payload)

    async def close(self, code, reason):
        await self.socket.close(code=code, message=reason.encode())
        return self.socket.close_code, None

    async def closed(self):
        message = await self.next()
        assert message.type == aiohttp.WSMsgType.CLOSE, message
        return message.data, message.extra

    async def leave(self):
        await self.socket.close()
        await self.session.close()


class WebsocketClient(Client):
    """`websocket-client`, which blocks: every verb runs on a thread."""

    insists_on_subprotocol = True

    @classmethod
    async def open(cls, url, subprotocols=None, compress=False):
        self = cls()
        self.socket = await asyncio.to_thread(
            websocket.create_connection, url, timeout=PATIENCE_S, subprotocols=subprotocols, skip_utf8_validation=False
        )
        return self

    @property
    def subprotocol(self):
        return self.socket.getsubprotocol()

    async def send(self, message):
        verb = self.socket.send if isinstance(message, str) else self.socket.send_binary
        await asyncio.to_thread(verb, message)

    async def send_fragments(self, pieces, text, between=None):
        opcode = websocket.ABNF.OPCODE_TEXT if text else websocket.ABNF.OPCODE_BINARY
        for number, piece in enumerate(pieces):
            frame = websocket.ABNF(int(number == len(pieces) - 1), 0, 0, 0, opcode, 1, piece)
            await asyncio.to_thread(self.socket.send_frame, frame)
            opcode = websocket.ABNF.OPCODE_CONT
            if number == 0 and between:
                await between()

    async def send_invalid_text(self, data):
        await asyncio.to_thread(self.socket.send, data, websocket.ABNF.OPCODE_TEXT)

    async def frame(self):
        """The next message, or control frame that is no heartbeat, and its payload."""
        while True:
            opcode, data = await asyncio.to_thread(self.socket.recv_data, True)
            if opcode != websocket.ABNF.OPCODE_PING:
                return opcode, data

    async def receive(self):
        opcode, data = await self.frame()
        assert opcode in (websocket.ABNF.OPCODE_TEXT, websocket.ABNF.OPCODE_BINARY), (opcode, data)
        return data.decode() if opcode == websocket.ABNF.OPCODE_TEXT else data

    async def ping(self, payload):
        await asyncio.to_thread(self.socket.ping, payload)
        assert await self.frame() == (websocket.ABNF.OPCODE_PONG, payload)

    async def pong(self, payload):
        await asyncio.to_thread(self.socket.pong, payload)

    async def close(self, code, reason):
        await asyncio.to_thread(self.socket.send_close, code, reason)
        frame = await asyncio.to_thread(self.socket.recv_frame)
        assert frame.opcode == websocket.ABNF.OPCODE_CLOSE, frame
        return self.code_and_reason(frame.data)

    async def closed(self):
        opcode, data = await self.frame()
        assert opcode == websocket.ABNF.OPCODE_CLOSE, (opcode, data)
        return self.code_and_reason(data)

    @staticmethod
    def code_and_reason(data):
        return struct.unpack("!H", data[:2])[0], data[2:].decode()

    async def leave(self):
        await asyncio.to_thread(self.socket.shutdown)


CLIENTS = [Websockets, Aiohttp, WebsocketClient, Picows, PicowsWebsockets]
