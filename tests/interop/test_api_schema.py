"""The server API is what its OpenAPI document says, as Schemathesis finds it."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

from api import KEY, ApiServer
from support import ROOT

# Per operation and phase: enough to reach every constraint, and done in a minute or two.
EXAMPLES_MAX = 15
RUN_TIMEOUT_S = 500


class Schema(unittest.TestCase):
    # capability: 80 82 98
    def test_the_document_that_is_served_is_the_one_in_the_repository(self):
        with ApiServer() as server, server.http() as http:
            self.assertEqual(http.get("/api/openapi.json").text, (ROOT / "server/openapi.json").read_text())

    # capability: 80 82 98
    def test_every_operation_keeps_to_the_document(self):
        document = json.loads((ROOT / "server/openapi.json").read_text())
        # A schema counts characters and the server's limit counts bytes, which are the same in ASCII.
        document["components"]["schemas"]["Publish"]["properties"]["channel"]["pattern"] = "^[ -~]+$"
        with ApiServer() as server, tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory, "openapi.json")
            path.write_text(json.dumps(document))
            command = [
                pathlib.Path(sys.executable).parent / "schemathesis",
                "run",
                path,
                f"--url={server.api_url}",
                f"--header=Authorization: Bearer {KEY}",
                f"--max-examples={EXAMPLES_MAX}",
                "--seed=5",
                "--checks=all",
                "--continue-on-failure",
                "--warnings=off",
            ]
            run = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=RUN_TIMEOUT_S)
            self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
            self.assertIn("Tested: 22", run.stdout)


if __name__ == "__main__":
    unittest.main()
