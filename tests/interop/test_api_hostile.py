"""Clients of the server API that mean it no good. Whatever they do, the next request is answered."""

import socket
import time
import unittest

from api import KEY, ApiServer
from support import PATIENCE_S

# What the server allows for a head and for a body, and then some for a busy machine.
HEAD_TIMEOUT_S = 5
REQUEST_TIMEOUT_S = 15
SLACK_S = 15
CONNECTIONS_MAX = 256

HEAD = f"POST /api/broadcast HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\nContent-Type: application/json\r\n"


# capability: 33 80
class Hostile(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(ApiServer())
        cls.http = cls.enterClassContext(cls.server.http())

    def tearDown(self):
        self.assertEqual(self.http.get("/api/stats").status_code, 200, "others are unaffected")

    def connect(self):
        connection = self.enterContext(socket.create_connection(("127.0.0.1", self.server.api_port)))
        connection.settimeout(PATIENCE_S)
        return connection

    def answer(self, connection):
        """All that comes until the end."""
        text = b""
        try:
            while part := connection.recv(65536):
                text += part
        except ConnectionResetError:
            pass
        return text.decode()

    def test_a_head_that_does_not_end(self):
        connection, started = self.connect(), time.monotonic()
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        # A byte now and then does not buy more time.
        connection.settimeout(0.5)
        while True:
            try:
                connection.sendall(b"X")
                if not connection.recv(4096):
                    break
            except TimeoutError:
                self.assertLess(time.monotonic() - started, HEAD_TIMEOUT_S + SLACK_S)
            except ConnectionError:
                break
        self.assertGreater(time.monotonic() - started, HEAD_TIMEOUT_S - 1)

    def test_a_client_that_says_nothing(self):
        connection, started = self.connect(), time.monotonic()
        self.assertEqual(self.answer(connection), "")
        self.assertLess(time.monotonic() - started, HEAD_TIMEOUT_S + SLACK_S)

    def test_a_body_that_does_not_end(self):
        connection, started = self.connect(), time.monotonic()
        connection.sendall(f"{HEAD}Content-Length: 100\r\n\r\n{{".encode())
        answer = self.answer(connection)
        self.assertIn(" 408 ", answer.splitlines()[0])
        self.assertIn('"timeout"', answer)
        self.assertLess(time.monotonic() - started, REQUEST_TIMEOUT_S + SLACK_S)

    def test_a_body_of_ten_megabytes(self):
        connection = self.connect()
        connection.sendall(f"{HEAD}Content-Length: 10000000\r\n\r\n".encode())
        answer = self.answer(connection)
        self.assertIn(" 413 ", answer.splitlines()[0])
        self.assertIn('"too_large"', answer)

    def test_a_body_of_ten_megabytes_in_chunks(self):
        connection = self.connect()
        connection.sendall(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode())
        chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
        try:
            for _ in range(160):
                connection.sendall(chunk)
        except ConnectionError:
            pass
        self.assertIn(" 413 ", self.answer(connection).splitlines()[0])

    def test_a_head_without_bounds(self):
        connection = self.connect()
        try:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 1_000_000)
        except ConnectionError:
            pass
        self.assertIn(" 431 ", self.answer(connection).splitlines()[0])

    def test_json_that_is_none(self):
        deep = '{"data":' + "[" * 100_000 + "]" * 100_000 + "}"
        bodies = {
            "": "invalid_json",
            "{": "invalid_json",
            "nil": "invalid_json",
            '{"data":1}}': "invalid_json",
            "[1]": "invalid_message",
            "7": "invalid_message",
            "{}": "invalid_message",
            '{"data":1,"more":2}': "invalid_message",
            '{"data":1,"data":2}': "invalid_message",
            deep: "invalid_message",
        }
        for body, code in bodies.items():
            response = self.http.post("/api/broadcast", content=body, headers={"Content-Type": "application/json"})
            self.assertEqual((response.status_code, response.json()["code"]), (400, code), body[:40])
        response = self.http.post(
            "/api/broadcast", content=b'{"data":"\xff"}', headers={"Content-Type": "application/json"}
        )
        self.assertEqual(response.status_code, 400)
        response = self.http.post("/api/broadcast", content='{"data":1}', headers={"Content-Type": "text/plain"})
        self.assertEqual((response.status_code, response.json()["code"]), (415, "unsupported_media_type"))

    def test_channels_that_are_none(self):
        for channel in ("", "x" * 257, "ä" * 129, "a\nb", 7, None, ["a"], {"a": 1}):
            response = self.http.post("/api/publish", json={"channel": channel, "data": 1})
            self.assertEqual((response.status_code, response.json()["code"]), (400, "invalid_channel"), channel)
        response = self.http.post("/api/publish", json={"channel": "a", "data": 1, "exclude": "me"})
        self.assertEqual(response.status_code, 400)

    def test_paths_and_methods_that_are_none(self):
        for path in ("/", "/api", "/api/", "/api/../metrics/x", "/%2e%2e/etc/passwd", "/api/users/", "/api/users/a/b", "//api//stats"):
            response = self.http.get(path)
            self.assertEqual((response.status_code, response.json()["code"]), (404, "not_found"), path)
        self.assertEqual(self.http.get("/api/users/%ff").status_code, 400)
        self.assertEqual(self.http.get("/api/users/%00").json(), {"user": "\0", "connections": []})
        for method, path, allowed in (("DELETE", "/api/stats", "GET,HEAD"), ("GET", "/api/publish", "POST")):
            response = self.http.request(method, path)
            self.assertEqual((response.status_code, response.json()["code"]), (405, "method_not_allowed"))
            self.assertEqual(response.headers["Allow"].replace(" ", ""), allowed)

    # capability: 33 82
    def test_more_strangers_than_there_may_be(self):
        crowd = [self.connect() for _ in range(CONNECTIONS_MAX + 44)]
        started = time.monotonic()
        for path in ("/healthz", "/readyz", "/metrics"):
            with self.server.http(key=None) as http:
                self.assertEqual(http.get(path).status_code, 200)
        self.assertLess(time.monotonic() - started, HEAD_TIMEOUT_S, "nobody has to wait until they have timed out")
        [evicted] = self.server.metrics()["crore_api_evicted"].samples
        self.assertGreaterEqual(evicted.value, 44)
        # The first to come are the first to go.
        self.assertEqual(self.answer(crowd[0]), "")


if __name__ == "__main__":
    unittest.main()
