"""`jaxbert serve` as a process of its own, and bare sockets to talk to it."""

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
SECONDS = 120  # for anything that should take few


class Server:
    """A server that listens; `url` is where."""

    def __init__(self, *arguments, **environment):
        command = [sys.executable, "-m", "jaxbert.cli", "serve", *map(str, arguments)]
        self.process = subprocess.Popen(
            [*command, "--port", "0"],
            env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = ""
        self.url = self.wait_for(r"(http://\S+) is open")
        host, port = self.url.removeprefix("http://").rsplit(":", 1)
        self.address = (host, int(port))

    def wait_for(self, pattern):
        """What the pattern finds in what the process says."""
        end = time.monotonic() + SECONDS
        while not (found := re.search(pattern, self.said)):
            assert time.monotonic() < end, self.said
            ready, _, _ = select.select([self.process.stderr], [], [], 0.1)
            if ready:
                read = os.read(self.process.stderr.fileno(), 65_536).decode()
                assert read or self.process.poll() is None, self.said
                self.said += read
        return found[found.re.groups]

    def ready(self):
        """The server, once it takes requests."""
        self.wait_for("jaxbert: ready")
        return self

    def ask(self, path, body=None, **more):
        """An answer, on a connection of its own."""
        method = "GET" if body is None else "POST"
        return httpx.request(method, self.url + path, json=body, timeout=SECONDS, **more)

    def socket(self, data):
        """A connection that has sent these bytes."""
        made = socket.create_connection(self.address, SECONDS)
        made.sendall(data)
        return made

    def memory(self):
        """The resident memory of the process, in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def end(self, number=signal.SIGTERM):
        """Send a signal and wait; the exit status."""
        self.process.send_signal(number)
        self.said += self.process.communicate(timeout=SECONDS)[1]
        return self.process.returncode


@contextlib.contextmanager
def running(*arguments, **environment):
    """A server that is killed at the latest when the block ends."""
    server = Server(*arguments, **environment)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.process.communicate()
