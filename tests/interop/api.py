"""The `crore` server on two cores, with its API on a second port."""

import json

import httpx
from prometheus_client.parser import text_string_to_metric_families
from websockets.sync.client import connect

from support import PATIENCE_S, Server, free_port

KEY = "a-key-of-the-tests-0123456789"


class ApiServer(Server):
    """Variables add to the usual ones, and outrank them; None leaves one out."""

    def __init__(self, **variables):
        self.api_port = free_port()
        self.api_url = f"http://127.0.0.1:{self.api_port}"
        usual = {
            "CRORE_API_ENABLED": "true",
            "CRORE_API_LISTEN": f"127.0.0.1:{self.api_port}",
            "CRORE_API_KEY": KEY,
            "CRORE_IDENTITY_TRUST_USER_HEADER": "true",
            "CRORE_WELCOME_ENABLED": "true",
        }
        chosen = {name: value for name, value in {**usual, **variables}.items() if value is not None}
        super().__init__("crore", "--listen", "127.0.0.1:{port}", "--cores", 2, variables=chosen)

    def http(self, key=KEY):
        """A client of the API with a key."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.api_url, headers=headers, timeout=PATIENCE_S)

    def metrics(self):
        """The families by name, read as Prometheus reads them."""
        response = httpx.get(f"{self.api_url}/metrics", timeout=PATIENCE_S)
        assert response.status_code == 200, response.text
        return {family.name: family for family in text_string_to_metric_families(response.text)}


class Client:
    """A WebSocket that has been welcomed."""

    def __init__(self, server, user=None):
        headers = {"X-User-ID": user} if user else {}
        self.socket = connect(f"{server.url}ws", additional_headers=headers)
        self.id = self.receive()["connection_id"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def receive(self):
        return json.loads(self.socket.recv(timeout=PATIENCE_S))

    def ask(self, **message):
        self.socket.send(json.dumps(message))
        return self.receive()

    def subscribe(self, channel):
        assert self.ask(type="subscribe", channel=channel)["type"] == "subscribed"

    def nothing_came(self):
        return self.ask(type="ping", id="last")["type"] == "pong"
