"""The same load against `jaxbert serve`, sentence-transformers behind FastAPI, and infinity.

python notes/bench/serving_peers.py --torch PYTHON --infinity PYTHON [--rounds 2] [--seconds 4]
python notes/bench/serving_peers.py ... --more    (further rounds to those of the file)
python notes/bench/serving_peers.py --show     (the table of notes/bench/serving_peers.json again)

PYTHON is that of an environment with sentence-transformers, fastapi and uvicorn, or with
infinity-emb; a peer whose PYTHON is not given is left out. This process runs with jaxbert[serve].

All servers are processes on 127.0.0.1, with the weights of all-MiniLM-L6-v2 and their defaults.
They take turns: those whose turn it is not are stopped (SIGSTOP), and use no core. The client is
one process, the same for all, and shares the cores with the server. Vectors come as JSON numbers.
Each server first answers some texts, and its vectors are compared with those of jaxbert.

Closed loops: each caller asks again when it is answered. Open loops: requests come at random times
(exponential gaps, a fixed seed), answered or not, and a time counts from the moment the request was
due. Their rates are half of what 64 callers got in a first pass, from the slowest server and from
jaxbert. A sentence has 20 to 200 characters.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from peers_models import machine
from queued import texts_of
from serving_client import Connection, Load, post

from jaxbert.checkpoint import hub

HERE = Path(__file__).parent
FILE = HERE / "serving_peers.json"
NAME = "all-MiniLM-L6-v2"
NEAREST = 0.9999  # cosine of a peer's vector and jaxbert's
# Name: callers, texts a request, kind of texts.
CLOSED = {
    "64 callers, a sentence": (64, 1, "sentences"),
    "16 callers, a sentence": (16, 1, "sentences"),
    "1 caller, a sentence": (1, 1, "sentences"),
    "4 callers, 32 paragraphs": (4, 32, "paragraphs"),
}
CAPACITY = "64 callers, a sentence"
MANY = 100  # requests from which on there is a p99
VERSIONS = (
    "import importlib.metadata as m;print(', '.join(f'{p} {m.version(p)}' for p in %r.split()))"
)


class Peer:
    """A server of one kind: its process, its port, its requests."""

    def __init__(self, name, command, packages, **environment):
        self.name, python = name, command[0]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        listed = subprocess.check_output([python, "-c", VERSIONS % packages], text=True)
        self.versions = listed.strip()
        command = [part.format(port=self.port) for part in command]
        self.log = open(f"/tmp/serving-{name.split()[0]}.log", "wb")  # noqa: SIM115
        env = os.environ | environment
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, env=env)

    def turn(self, on):
        """Let the process run, or stand still."""
        self.process.send_signal(signal.SIGCONT if on else signal.SIGSTOP)

    async def ready(self, path):
        """Wait until the path answers 200, three minutes at most."""
        ask = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
        for _ in range(360):
            if self.process.poll() is not None:
                raise SystemExit(f"{self.name} has ended, see {self.log.name}")
            try:
                connection = await Connection.to(self.port)
                status, _ = await connection.ask(ask)
                connection.transport.close()
                if status == 200:
                    return
            except ConnectionError:
                pass
            await asyncio.sleep(0.5)
        raise SystemExit(f"{self.name} is not ready after three minutes, see {self.log.name}")

    async def vectors(self, texts):
        """What it answers, unit rows [n, d]."""
        connection = await Connection.to(self.port)
        status, body = await connection.ask(post(texts, NAME))
        connection.transport.close()
        if status != 200:
            raise SystemExit(f"{self.name}: {status} {body[:200]!r}")
        rows = np.array([row["embedding"] for row in json.loads(body)["data"]])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def seconds(self):
        """The seconds of a core that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def started(options):
    """The peers that are asked for, with the path that says 200 when they are ready."""
    folder = str(hub.installed_package())
    ours = [sys.executable, "-m", "jaxbert.cli", "serve", folder, "--port", "{port}"]
    named = [*ours, "--served-name", NAME]
    yield Peer("jaxbert serve", named, "jaxbert jax uvicorn"), "/ready"
    if options.torch:
        command = [options.torch, "-m", "uvicorn", "--app-dir", str(HERE), "serving_peers_st:app"]
        command += ["--log-level", "warning", "--port", "{port}"]
        packages = "sentence-transformers torch transformers fastapi uvicorn"
        yield Peer("FastAPI", command, packages, MODEL_FOLDER=folder), "/health"
    if options.infinity:
        script = "from infinity_emb.cli import cli; cli()"
        command = [options.infinity, "-c", script, "v2", "--model-id", folder, "--port", "{port}"]
        command += ["--served-model-name", NAME, "--device", "cpu", "--url-prefix", "/v1"]
        command += ["--host", "127.0.0.1", "--log-level", "warning"]
        packages = "infinity-emb torch transformers sentence-transformers optimum"
        settings = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
        yield Peer("infinity", command, packages, **settings), "/health"


async def loaded(peer, run):
    """The figures of a load against a peer, with the cores that it used."""
    before, start = peer.seconds(), time.perf_counter()
    found = (await run).figures()
    found["cores"] = (peer.seconds() - before) / (time.perf_counter() - start)
    return found


async def closed(peer, name, seconds):
    """One of the closed loops against a peer."""
    callers, size, kind = CLOSED[name]
    texts = texts_of(kind, 400 if size == 1 else 256)
    requests = [post(texts[i : i + size], NAME) for i in range(0, len(texts), size)]
    return await loaded(peer, Load(peer.port, requests).closed(callers, seconds))


async def first_pass(peers, seconds):
    """The rates of the open loops by name, from what 64 callers get."""
    rates = {}
    for peer in peers:
        peer.turn(True)
        rates[peer.name] = (await closed(peer, CAPACITY, seconds))["rate"]
        peer.turn(False)
    print("64 callers at first, requests/s:", rates, flush=True)
    least, own = min(rates.values()) / 2, rates[peers[0].name] / 2
    return {"half of the slowest's": least} | ({"half of jaxbert's": own} if own > least else {})


async def one_round(peer, rates, seconds):
    """Each load against a peer: (its name, figures)."""
    sentences = [post([text], NAME) for text in texts_of("sentences", 400)]
    for name in CLOSED:
        yield name, await closed(peer, name, seconds)
    for name, rate in rates.items():
        load = Load(peer.port, sentences).open(rate, seconds)
        yield f"{name}: {rate:.0f} sentences a second", await loaded(peer, load)


async def measure(peers, options, found, rates):
    """Add all loads against all peers, round by round: found[load][peer] is a list of figures."""
    for peer in peers:  # shapes that the client's texts need are compiled here
        peer.turn(True)
        for name in CLOSED:
            await closed(peer, name, options.seconds / 4)
        peer.turn(False)
    rates = rates or await first_pass(peers, options.seconds)
    for turn in range(options.rounds):
        first = turn % len(peers)
        for peer in peers[first:] + peers[:first]:
            peer.turn(True)
            await closed(peer, CAPACITY, 0.5)  # it has slept
            async for load, figures in one_round(peer, rates, options.seconds):
                found.setdefault(load, {}).setdefault(peer.name, []).append(figures)
                print(f"{load}: {peer.name}: {say(figures)}", flush=True)
            peer.turn(False)
    return rates


def say(figures):
    """The figures of one load in words."""
    p50, p99 = np.percentile(figures["ms"], [50, 99])
    refused = f", {figures['refused']} refused" if figures["refused"] else ""
    times = f"p50 {p50:.0f}, p99 {p99:.0f} ms"
    return f"{figures['rate']:.0f}/s, {times}, {figures['cores']:.1f} cores{refused}"


def cell(rounds, size):
    """Texts a second, the middle and the least of the rounds; p50 and p99 of all their times."""
    rates = [size * one["rate"] for one in rounds]
    times = [ms for one in rounds for ms in one["ms"]]
    p50, p99 = np.percentile(times, [50, 99])
    refused = sum(one["refused"] for one in rounds)
    yield f"{statistics.median(rates):.0f} ({min(rates):.0f})"
    yield f"{p50:,.0f}"
    if len(times) >= MANY:
        yield f"{p99:,.0f}"
    if refused:
        yield f"{refused} of {len(times)} refused"


def table(result):
    """A row for each load, a column for each server."""
    names = list(result["versions"])
    yield f"| texts/s, middle (and least); p50, p99 ms | {' | '.join(names)} |"
    yield f"|---|{'---|' * len(names)}"
    for load, peers in result["loads"].items():
        size = CLOSED[load][1] if load in CLOSED else 1
        cells = ["; ".join(cell(peers[name], size)) for name in names]
        yield f"| {load} | {' | '.join(cells)} |"


async def run(options, known):
    """Start the peers, compare their vectors, measure; what is known, with further rounds."""
    asked, peers = list(started(options)), []
    try:
        for peer, path in asked:
            await peer.ready(path)
            peers.append(peer)
        await compare(peers)
        loads = known.get("loads", {})
        rates = await measure(peers, options, loads, known.get("rates"))
    finally:
        for peer, _ in asked:
            peer.turn(True)
            peer.process.kill()
    versions = {peer.name: peer.versions for peer in peers}
    return {"machine": machine(), "versions": versions, "rates": rates, "loads": loads}


async def compare(peers):
    """See that all have the vectors of the first; then they sleep."""
    texts = texts_of("sentences", 64)
    wanted = await peers[0].vectors(texts)
    for peer in peers:
        least = float((await peer.vectors(texts) * wanted).sum(1).min())
        print(f"{peer.name}: {peer.versions}; least cosine {least:.6f}", flush=True)
        if least < NEAREST:
            raise SystemExit(f"{peer.name} has other vectors")
        peer.turn(False)


def main():
    """Read the options; measure, unless the table is only shown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch", help="a Python with sentence-transformers, fastapi, uvicorn")
    parser.add_argument("--infinity", help="a Python with infinity-emb")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each load")
    parser.add_argument("--more", action="store_true", help="add rounds to those of the file")
    parser.add_argument("--show", action="store_true", help="only the table of the file")
    parser.add_argument("--json", type=Path, default=FILE)
    options = parser.parse_args()
    if not options.show:
        known = json.loads(options.json.read_text()) if options.more else {}
        result = asyncio.run(run(options, known))
        options.json.write_text(json.dumps(result) + "\n")
    print("\n".join(table(json.loads(options.json.read_text()))))


if __name__ == "__main__":
    main()
