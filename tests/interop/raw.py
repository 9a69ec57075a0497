"""A WebSocket client without manners, for what no library does: it sends what it is told, byte by byte if it must."""

import json
import socket
import struct

from support import PATIENCE_S

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
CONTINUATION = 0


def request(path="/ws", headers=()):
    """An upgrade, as bytes."""
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *headers,
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


def frame(opcode, payload=b"", fin=True, masked=True, length=None):
    """A frame of a client (RFC 6455, section 5.2), which may announce more than there is of it."""
    length = len(payload) if length is None else length
    short = length if length < 126 else 126 if length < 65_536 else 127
    head = struct.pack("!BB", fin << 7 | opcode, masked << 7 | short)
    if short >= 126:
        head += length.to_bytes(2 if short == 126 else 8, "big")
    if not masked:
        return head + payload
    # A mask of zeros, under which the payload stays what it is.
    return head + bytes(4) + payload


class Raw:
    """A connection to 127.0.0.1, not upgraded yet."""

    def __init__(self, port, receive_bytes=None):
        self.socket = socket.socket()
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(("127.0.0.1", port))
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def upgraded(self, path="/ws", headers=()):
        self.send(request(path, headers))
        head = self.head()
        assert head.startswith("HTTP/1.1 101 "), head
        return self

    def send(self, data):
        self.socket.sendall(data)

    def say(self, **message):
        self.send(frame(TEXT, json.dumps(message).encode()))

    def take(self, length):
        while len(self.buffer) < length:
            data = self.socket.recv(65_536)
            if not data:
                raise EOFError
            self.buffer += data
        taken, self.buffer = self.buffer[:length], self.buffer[length:]
        return taken

    def head(self):
        """The head of an HTTP answer."""
        while b"\r\n\r\n" not in self.buffer:
            data = self.socket.recv(65_536)
            if not data:
                raise EOFError
            self.buffer += data
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        return head.decode()

    def frame(self):
        """The opcode and the payload of the next frame."""
        first, second = self.take(2)
        extended = {126: 2, 127: 8}.get(second, 0)
        length = int.from_bytes(self.take(extended), "big") if extended else second
        return first & 0xF, self.take(length)

    def hear(self):
        """The next message that is no ping, which is not answered."""
        while True:
            opcode, payload = self.frame()
            if opcode == TEXT:
                return json.loads(payload)
            assert opcode == PING, (opcode, payload)

    def ask(self, **message):
        self.say(**message)
        return self.hear()

    def end(self):
        """How the server ends the connection: the code of its close frame, or None if it is cut. And what came before."""
        before = []
        try:
            while True:
                opcode, payload = self.frame()
                if opcode == CLOSE:
                    return int.from_bytes(payload[:2], "big"), before
                before.append((opcode, payload))
        except (EOFError, ConnectionError):
            return None, before

    def is_cut(self):
        """Waits until the server has let go of the connection, whatever it says before."""
        try:
            while self.socket.recv(65_536):
                pass
        except ConnectionError:
            pass
        return True

    def reset(self):
        """Ends it without a word (SO_LINGER in socket(7))."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
