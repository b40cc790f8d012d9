"""Does a server grow? Many requests of changing sizes, and its memory after each tenth of them.

    python notes/bench/serving_soak.py --write build/soak
    jaxbert serve build/soak --port 8000 &
    python notes/bench/serving_soak.py --url http://127.0.0.1:8000 --pid $! --requests 100000

Prints resident MiB and the answers by status. --write makes a model of one layer and 32 features
with random weights: with it a hundred thousand requests take minutes, and what they pass through
is the same. Any other model does too.
"""

import argparse
import asyncio
import re
from collections import Counter
from pathlib import Path

import httpx
from flax import nnx

from jaxbert import Embedder, Encoder, EncoderConfig
from jaxbert.checkpoint import hub
from jaxbert.checkpoint.sentence_transformers.stack import Stack

WORDS = "a text of words that differ in number from one request to another and back again".split()


def resident(pid):
    """The resident memory of a process, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


def write(folder):
    """Write a model that computes next to nothing, with the tokenizer of MiniLM."""
    sizes = {"vocab_size": 30528, "hidden_size": 32, "num_layers": 1, "num_heads": 2}
    encoder = Encoder(EncoderConfig.bert(**sizes, intermediate_size=64), rngs=nnx.Rngs(0))
    tokenizer = Embedder.from_pretrained(hub.installed_package()).tokenizer
    Embedder(encoder, tokenizer, Stack(max_length=256)).save_pretrained(folder)


def body(i):
    """Request i: 1 to 13 texts of 0 to 60 words, numbers or base64."""
    texts = [" ".join((WORDS * 5)[: (7 * i + 11 * j) % 61]) for j in range(1 + i % 13)]
    return {"input": texts, "encoding_format": ("float", "base64")[i % 2]}


async def soak(url, pid, requests, clients):
    """Run all requests, and say what the memory is on the way."""
    seen, numbers = Counter(), iter(range(requests))

    async def client(http):
        for i in numbers:
            answer = await http.post(f"{url}/v1/embeddings", json=body(i))
            seen[answer.status_code] += 1
            if (i + 1) % (requests // 10) == 0:
                print(f"{i + 1:>8} requests  {resident(pid):8.1f} MiB  {dict(seen)}", flush=True)

    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(timeout=120, limits=limits) as http:
        await asyncio.gather(*(client(http) for _ in range(clients)))
    print(f"all answered  {resident(pid):8.1f} MiB  {dict(seen)}")


def main():
    """Read the options and begin."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--pid", type=int, help="of the server")
    parser.add_argument("--write", metavar="FOLDER", help="only write a small model")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=32)
    options = parser.parse_args()
    if options.write is not None:
        write(options.write)
    elif options.pid is None:
        parser.error("--pid says which process's memory is meant")
    else:
        asyncio.run(soak(options.url, options.pid, options.requests, options.clients))


if __name__ == "__main__":
    main()
