"""What the Python tests share: the programs under test, run as a user runs them."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
# Where cargo has put the programs; tests/run says so.
PROGRAMS = pathlib.Path(os.environ.get("TEST_PROGRAMS", TARGET / "debug"))
# How long anything may take before it counts as hung.
PATIENCE_S = 60


def free_port():
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def eventually(holds, otherwise=lambda: None):
    """Waits until something holds, and returns it; if it never does, `otherwise` tells of what there is instead."""
    deadline = time.monotonic() + PATIENCE_S
    while not (outcome := holds()):
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.05)
    return outcome


class Messages:
    """For tests with Python's `websockets`: what is sent and received is JSON."""

    def send(self, socket, **message):
        socket.send(json.dumps(message))

    def receive(self, socket):
        return json.loads(socket.recv(timeout=PATIENCE_S))

    def ask(self, socket, **message):
        self.send(socket, **message)
        return self.receive(socket)


class Server:
    """A server program that listens on `port` of 127.0.0.1 while it is entered, with some variables set.

    Its standard error stream goes to the file `stderr`, if there is one.
    """

    def __init__(self, program, *arguments, port=None, variables=None, stderr=None):
        self.port = port or free_port()
        self.url = f"ws://127.0.0.1:{self.port}/"
        self.environment = {**os.environ, **(variables or {})}
        self.stderr = stderr
        self.command = [PROGRAMS / program, *(str(argument).format(port=self.port) for argument in arguments)]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, env=self.environment, stderr=self.stderr)
        self.stopped = False
        deadline = time.monotonic() + PATIENCE_S
        while not self.listens():
            assert self.process.poll() is None, f"{self.command} has ended with {self.process.returncode}"
            assert time.monotonic() < deadline, f"{self.command} does not listen"
            time.sleep(0.02)
        return self

    def __exit__(self, *_):
        if not self.stopped:
            died = self.process.poll()
            self.stop()
            assert died is None, f"{self.command} has ended in the middle of a test with {died}"

    def stop(self, signal_number=signal.SIGTERM):
        """Ends it, and returns how it has ended."""
        self.stopped = True
        self.process.send_signal(signal_number)
        return self.process.wait(PATIENCE_S)

    def listens(self):
        """Whether this very process listens: its predecessor's listeners may outlive it for a moment."""
        try:
            own = {os.readlink(entry) for entry in pathlib.Path(f"/proc/{self.process.pid}/fd").iterdir()}
        except FileNotFoundError:
            return False
        sockets = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
        # Fields of proc(5): local address, state (0A is LISTEN), inode.
        return any(
            socket[1].endswith(f":{self.port:04X}") and socket[3] == "0A" and f"socket:[{socket[9]}]" in own
            for socket in sockets
        )
