"""What the tests of the webhook share: a server that asks a backend, and its clients."""

import json
import pathlib
import tempfile
import unittest

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from api import ApiServer, Client
from backend import Backend, result
from support import PATIENCE_S, free_port

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
RULE = '[[channels]]\npattern = "asked:*"\n'
# As long as it may be.
LONG = "30s"
# What waits does so in the server, which reads on.
DROP = {"limits_inbound_overload": "drop"}
UNAVAILABLE = {"type": "error", "code": "unavailable", "error": "Service unavailable, try again later"}


def nobody():
    """A backend that has not been started: nothing listens there."""
    backend = Backend()
    backend.listener.server_close()
    backend.url = f"http://127.0.0.1:{free_port()}/"
    return backend


class WebhookCase(unittest.TestCase):
    def setUp(self):
        self.directory = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.log = self.directory / "log"

    def serve(self, *events, backend=None, rules=None, variables=None, **settings):
        """A server that asks about these events, and a backend that consents to all of them."""
        self.backend = backend or self.enterContext(Backend())
        for event in events:
            self.backend.answers.setdefault(event, lambda _: result())
        path = self.directory / "crore.toml"
        asked = [f"{event}_webhook = true\n" for event in ("subscribe", "publish") if event in events]
        self.rules = RULE + "".join(asked)
        path.write_text(self.rules if rules is None else rules)
        urls = {f"CRORE_WEBHOOK_{event.upper()}_URL": self.backend.url + event for event in events}
        named = {f"CRORE_{name.upper()}": value for name, value in settings.items()}
        named.update(variables or {})
        usual = {"CRORE_CONFIG": str(path), "CRORE_WEBHOOK_TIMEOUT": LONG, "CRORE_LOG_LEVEL": "debug"}
        self.server = ApiServer(**{**usual, **urls, **named})
        self.server.stderr = self.enterContext(self.log.open("wb"))
        self.enterContext(self.server)

    def client(self, user=None):
        return self.enterContext(Client(self.server, user))

    def socket(self, **options):
        return self.enterContext(connect(f"{self.server.url}ws", **options))

    def receive(self, client):
        message = client.receive() if isinstance(client, Client) else json.loads(client.recv(timeout=PATIENCE_S))
        self.assertIsInstance(message.pop("timestamp"), int)
        return message

    def ask(self, client, **message):
        client.socket.send(json.dumps(message))
        return self.receive(client)

    def assert_closed(self, client, code, reason):
        with self.assertRaises(ConnectionClosed) as closed:
            (client.socket if isinstance(client, Client) else client).recv(timeout=PATIENCE_S)
        self.assertEqual((closed.exception.rcvd.code, closed.exception.rcvd.reason), (code, reason))

    def counted(self, event, outcome):
        return self.sample("crore_webhook_answers", event=event, outcome=outcome)

    def sample(self, family, **labels):
        found = [sample for sample in self.server.metrics()[family].samples if sample.labels == labels]
        self.assertEqual(len(found), 1, (family, labels))
        return found[0].value
