"""Who may listen on a port, and when."""

import signal
import subprocess
import unittest

from websockets.sync.client import connect

from support import PATIENCE_S, Server


class Port(unittest.TestCase):
    def test_a_second_server_does_not_share_the_port(self):
        with Server("examples/echo", "127.0.0.1:{port}") as first:
            second = subprocess.run(first.command, capture_output=True, text=True, timeout=PATIENCE_S)
            self.assertNotEqual(second.returncode, 0)
            self.assertIn("AddrInUse", second.stderr)

    def test_a_killed_server_is_replaced_at_once(self):
        server = Server("examples/echo", "127.0.0.1:{port}", "--cores", 2)
        for _ in range(5):
            # The successor is started while the kernel still takes down its predecessor's rings.
            server.__enter__().stop(signal.SIGKILL)
            with server, connect(server.url) as socket:
                socket.send("alive")
                self.assertEqual(socket.recv(timeout=PATIENCE_S), "alive")


if __name__ == "__main__":
    unittest.main()
