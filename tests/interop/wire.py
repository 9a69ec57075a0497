"""What really goes over the wire: a relay that reads along, since most clients do not tell."""

import asyncio
import dataclasses
import zlib

DATA_OPCODES = (0x1, 0x2)


@dataclasses.dataclass
class Frame:
    """A frame as it was sent: `length` is that of its payload, compressed if `rsv` says so.

    `payload` is there for the control frames and the compressed frames of a server."""

    fin: bool
    rsv: int
    opcode: int
    masked: bool
    length: int
    payload: bytes


class Direction:
    """The bytes from one side: an HTTP head, then frames."""

    def __init__(self):
        self.head = None
        self.frames = []
        self.buffer = bytearray()
        # Bytes of the last frame that are still to come.
        self.rest = 0

    def feed(self, data):
        passed = min(self.rest, len(data))
        self.rest -= passed
        self.buffer += memoryview(data)[passed:]
        if self.head is None:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self.head = self.buffer[:end].decode()
            del self.buffer[: end + 4]
        while self.parse_frame():
            pass

    def parse_frame(self):
        """Takes a frame from the buffer; false if its header is not there yet (RFC 6455, section 5.2)."""
        buffer = self.buffer
        if len(buffer) < 2:
            return False
        masked, short = bool(buffer[1] & 0x80), buffer[1] & 0x7F
        extended = {126: 2, 127: 8}.get(short, 0)
        start = 2 + extended + 4 * masked
        if len(buffer) < start:
            return False
        length = int.from_bytes(buffer[2 : 2 + extended], "big") if extended else short
        fin, rsv, opcode = bool(buffer[0] & 0x80), buffer[0] >> 4 & 7, buffer[0] & 0xF
        payload = b""
        if (rsv or opcode >= 0x8) and not masked:
            if len(buffer) < start + length:
                return False
            payload = bytes(buffer[start : start + length])
        self.frames.append(Frame(fin, rsv, opcode, masked, length, payload))
        end = min(start + length, len(buffer))
        self.rest = start + length - end
        del buffer[:end]
        return True

    def messages(self):
        """The frames that messages begin with."""
        return [frame for frame in self.frames if frame.opcode in DATA_OPCODES]

    def close_code(self):
        """The code of the close frame."""
        (close,) = (frame for frame in self.frames if frame.opcode == 0x8)
        return int.from_bytes(close.payload[:2], "big")

    def header(self, name):
        """A header of the HTTP head, or nothing."""
        for line in self.head.split("\r\n")[1:]:
            field, _, value = line.partition(":")
            if field.lower() == name:
                return value.strip()


class Connection:
    """A connection that has been relayed, and what each side has said."""

    def __init__(self):
        self.client = Direction()
        self.server = Direction()

    def offer(self):
        return self.client.header("sec-websocket-extensions")

    def agreed(self):
        """The parameters of permessage-deflate that the server has chosen, or nothing if it has not chosen it."""
        header = self.server.header("sec-websocket-extensions")
        if header is None:
            return None
        name, *parameters = (part.strip() for part in header.split(";"))
        assert name == "permessage-deflate" and "," not in header, header
        pairs = [parameter.partition("=") for parameter in parameters]
        agreed = {name: int(value) if value else True for name, _, value in pairs}
        assert len(agreed) == len(parameters), f"a parameter comes twice: {header}"
        return agreed

    def check(self):
        """What holds whatever was said."""
        agreed = self.agreed()
        for direction, masked in [(self.client, True), (self.server, False)]:
            for frame in direction.frames:
                allowed = (0, 4) if agreed is not None and frame.opcode in DATA_OPCODES else (0,)
                assert frame.rsv in allowed, f"{frame} after {agreed}"
                assert frame.masked == masked, frame
                assert masked or frame.fin, "the server sends no fragments"
        if agreed is not None:
            self.check_window(agreed.get("server_max_window_bits", 15), "server_no_context_takeover" not in agreed)

    def check_window(self, bits, context_takeover):
        """That the server refers back no further than it may."""
        decompressor = None
        for frame in self.server.messages():
            if frame.rsv:
                if decompressor is None or not context_takeover:
                    decompressor = zlib.decompressobj(wbits=-bits)
                data, size = frame.payload + b"\x00\x00\xff\xff", 0
                for start in range(0, len(data), 64):
                    rest = data[start : start + 64]
                    # Within one call all output can be referred to; so no call puts out much.
                    while output := decompressor.decompress(rest, 8):
                        size += len(output)
                        rest = decompressor.unconsumed_tail
                assert size > frame.length, f"{size} bytes were compressed to {frame.length}"


class Wire:
    """A port in front of another one of this host. Reads along while it is entered."""

    def __init__(self, port):
        self.port = port
        self.connections = []
        self.relays = []

    async def __aenter__(self):
        self.listener = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        self.url = "ws://127.0.0.1:{}/".format(self.listener.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_):
        self.listener.close()
        for relay in self.relays:
            relay.cancel()
        await asyncio.gather(*self.relays, return_exceptions=True)

    def accept(self, reader, writer):
        self.relays.append(asyncio.create_task(self.relay(reader, writer)))

    async def relay(self, reader, writer):
        connection = Connection()
        self.connections.append(connection)
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self.port)
        await asyncio.gather(
            self.pump(reader, upstream_writer, connection.client), self.pump(upstream_reader, writer, connection.server)
        )
        writer.close()
        upstream_writer.close()

    async def pump(self, reader, writer, direction):
        try:
            while data := await reader.read(65_536):
                direction.feed(data)
                writer.write(data)
                await writer.drain()
            writer.write_eof()
        except OSError:
            # A reset is passed on as one.
            writer.transport.abort()
