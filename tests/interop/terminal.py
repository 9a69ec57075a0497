"""Programs in terminals."""

import codecs
import os
import pty
import re
import signal
import threading

from support import PATIENCE_S


class Terminal:
    """A program in a terminal: what it shows can be waited for, what a user would type is typed."""

    def __init__(self, command):
        self.shown = ""
        self.read = 0
        self.more = threading.Condition()
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            # Node 18 tries only the first address that `localhost` has.
            environment = {**os.environ, "TZ": "UTC", "NODE_OPTIONS": "--dns-result-order=ipv4first"}
            try:
                os.execvpe(command[0], [str(argument) for argument in command], environment)
            finally:
                os._exit(127)
        threading.Thread(target=self.collect, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def collect(self):
        decoder = codecs.getincrementaldecoder("utf-8")()
        while True:
            try:
                data = os.read(self.master, 65_536)
            except OSError:
                data = b""
            with self.more:
                self.shown += decoder.decode(data)
                self.more.notify_all()
            if not data:
                return

    def expect(self, pattern):
        """Waits until something matches behind what has matched before, and returns the match."""
        with self.more:
            found = lambda: re.compile(pattern).search(self.shown, self.read)
            if not self.more.wait_for(found, PATIENCE_S):
                raise AssertionError(f"{pattern!r} does not come after:\n{self.shown}")
            match = found()
            self.read = match.end()
            return match

    def type(self, text):
        os.write(self.master, text.encode())
