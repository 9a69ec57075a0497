"""A backend that decides what the webhook asks, as its users write one, with every fault that one can have."""

import collections
import http.server
import json
import socket
import threading

from support import PATIENCE_S

Asked = collections.namedtuple("Asked", "path headers body raw")


def result(**fields):
    return {"result": fields}


def error(code="not_allowed", message="You may not"):
    return {"error": {"code": code, "message": message}}


def disconnect(code=4321, reason="Go away"):
    return {"disconnect": {"code": code, "reason": reason}}


class Raw(collections.namedtuple("Raw", "status body headers", defaults=[{}])):
    """An answer as it is, whatever it is."""


class Backend:
    """`answers` has a function for each event, from what was asked to an answer; all is asked at `url` + event."""

    def __init__(self, context=None):
        self.answers = {}
        self.asked = []
        self.lock = threading.Lock()
        self.connections = 0
        self.at_once = 0
        self.at_once_most = 0
        backend = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with backend.lock:
                    backend.connections += 1

            def do_POST(self):
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                asked = Asked(self.path, self.headers, json.loads(raw), raw)
                with backend.lock:
                    backend.asked.append(asked)
                    backend.at_once += 1
                    backend.at_once_most = max(backend.at_once_most, backend.at_once)
                try:
                    answer = backend.answers[asked.body["event"]](asked)
                finally:
                    with backend.lock:
                        backend.at_once -= 1
                if answer is None:
                    # Neither an answer nor a word about it.
                    self.close_connection = True
                    return
                if not isinstance(answer, Raw):
                    answer = Raw(200, json.dumps(answer).encode())
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if "Transfer-Encoding" not in answer.headers:
                    self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *_):
                pass

        class Listener(http.server.ThreadingHTTPServer):
            request_queue_size = 256

            def handle_error(self, *_):
                """Whoever has asked may have given up."""

        self.listener = Listener(("127.0.0.1", 0), Handler)
        scheme = "http"
        if context:
            self.listener.socket = context.wrap_socket(self.listener.socket, server_side=True)
            scheme = "https"
        self.port = self.listener.server_address[1]
        self.url = f"{scheme}://127.0.0.1:{self.port}/"

    def __enter__(self):
        self.thread = threading.Thread(target=self.listener.serve_forever, args=[0.05])
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown()
        self.thread.join(PATIENCE_S)
        self.listener.server_close()

    def answer(self, event, answer):
        """The same answer, or what a function makes of the question."""
        self.answers[event] = answer if callable(answer) else lambda _: answer

    def about(self, event):
        """What was asked about an event, in the order in which it came."""
        with self.lock:
            return [asked.body for asked in self.asked if asked.body["event"] == event]


class Gate:
    """Keeps questions until it is opened; `entered` counts them."""

    def __init__(self, answer):
        self.answer = answer
        self.opened = threading.Event()
        self.entered = threading.Semaphore(0)

    def __call__(self, asked):
        self.entered.release()
        assert self.opened.wait(PATIENCE_S)
        return self.answer(asked) if callable(self.answer) else self.answer

    def wait(self):
        assert self.entered.acquire(timeout=PATIENCE_S), "nothing was asked"
