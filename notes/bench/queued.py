"""AsyncEmbedder beside bare Embedder.encode: its share of the throughput, and how long it takes.

python notes/bench/queued.py throughput [--rounds 3]
python notes/bench/queued.py latency     (of single sentences at half of the capacity)
python notes/bench/queued.py document [--nice 19 | --one-process]
                                         (the same with documents of 8192 tokens among them)
python notes/bench/queued.py all

The texts are those of notes/*.md, by sentence and by paragraph. The model is all-MiniLM-L6-v2, that
of the documents a JinaBERT of 4 layers and 512 features with random weights.

throughput: bare encode has a process of its own, with JAX's defaults and all texts in one call; it
and the queue take turns. A share is the queue's texts a second over those of bare encode just
before it; of several rounds the least and the middle one are printed.
latency: requests come at random times (an open loop, exponential gaps with a fixed seed), whether
or not others are answered; half of the capacity is half of what 128 callers at once get.
latency and document keep all times in notes/bench/queued.json: notes/figures/queued.py draws them.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import multiprocessing
import random
import re
import statistics
import time
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from jaxbert import Embedder, Encoder, EncoderConfig
from jaxbert.checkpoint import hub
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.inference.apart import Apart
from jaxbert.inference.coarse_first import finest
from jaxbert.inference.queue import AsyncEmbedder

# Name, kind of texts, how many, texts a request, callers at once.
ROWS = (
    ("sentences", 400, 1, 16),
    ("sentences", 400, 1, 64),
    ("sentences", 400, 1, 128),
    ("paragraphs", 256, 32, 4),
)
ALONE = 60  # requests one after the other
SECONDS = 20.0  # of a stream of requests
DOCUMENT, EVERY = 8192, 12.0  # tokens of a document, and seconds between two of them
SPAWN = multiprocessing.get_context("spawn")
FILE = Path(__file__).with_name("queued.json")


def texts_of(kind, number):
    """Sentences of 20 to 200 characters, or paragraphs, of the notes, in a random order."""
    folder, found = Path(__file__).parents[1], []
    for file in sorted(folder.glob("*.md")):
        for block in file.read_text(encoding="utf-8").split("\n\n"):
            paragraph = " ".join(block.split())
            if kind == "paragraphs":
                found.append(paragraph[:1200])
            else:
                found += re.split(r"(?<=[.:;]) ", paragraph)
    most = 1200 if kind == "paragraphs" else 200
    kept = sorted({text for text in found if 20 <= len(text) <= most})
    return random.Random(0).sample(kept, number)


def minilm():
    """The model of the package of the weights, in the batches of one that has seen many texts."""
    embedder = Embedder.from_pretrained(hub.installed_package())
    embedder.engine.planner = finest(embedder.planner)
    return embedder


def jinabert():
    """A JinaBERT in the sizes of jina-embeddings-v2-small, with random weights."""
    sizes = {"vocab_size": 30528, "hidden_size": 512, "num_layers": 4, "num_heads": 8}
    config = EncoderConfig.jinabert(**sizes, intermediate_size=2048)
    encoder = Encoder(config, rngs=nnx.Rngs(0))
    return Embedder(encoder, minilm().tokenizer, Stack(max_length=DOCUMENT))


# --- throughput ----------------------------------------------------------------------------------


def bare(pipe):
    """A process of bare encode: texts in, seconds out."""
    embedder = minilm()
    with contextlib.suppress(EOFError):
        while True:
            texts = pipe.recv()
            start = time.perf_counter()
            embedder.encode(texts)
            pipe.send(time.perf_counter() - start)


async def closed_loop(queue, texts, size, callers):
    """Seconds in which so many callers get all texts, `size` in a request."""
    left = iter([texts[i : i + size] for i in range(0, len(texts), size)])

    async def caller():
        for request in left:
            await queue.encode(request)

    start = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return time.perf_counter() - start


async def throughput(rounds):
    async with AsyncEmbedder(minilm()) as queue:
        await shares_of(queue, rounds)


async def shares_of(queue, rounds):
    pipe, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=bare, args=(theirs,), daemon=True)
    process.start()
    print(f"{await queue.warmup()} shapes compiled", flush=True)
    shares = {row: [] for row in ROWS}
    for turn in range(rounds + 1):  # the first one finds what is to be compiled
        for row in ROWS:
            kind, number, size, callers = row
            texts = texts_of(kind, number)
            pipe.send(texts)
            bare_time = await asyncio.to_thread(pipe.recv)
            seconds, before = time.process_time(), queue.embedder.stats
            own = await closed_loop(queue, texts, size, callers)
            stats = queue.embedder.stats - before
            if turn:
                shares[row].append(bare_time / own)
                print(
                    f"{kind}, {size} a request, {callers} callers: bare {number / bare_time:.0f}/s,"
                    f" queue {number / own:.0f}/s, share {bare_time / own:.2f}; cpu "
                    f"{(time.process_time() - seconds) / own:.2f}; {stats.batches} batches, "
                    f"padding efficiency {stats.padding_efficiency:.2f}",
                    flush=True,
                )
    print("\ntexts a request, callers: least and middle share")
    for (kind, _, size, callers), found in shares.items():
        least, middle = min(found), statistics.median(found)
        print(f"{kind} {size} x {callers}: {least:.2f} {middle:.2f}")
    pipe.close()


# --- latency -------------------------------------------------------------------------------------


async def alone(queue, texts):
    """Milliseconds of requests one after the other."""
    found = []
    for text in texts[:ALONE]:
        start = time.perf_counter()
        await queue.encode([text])
        found.append(1e3 * (time.perf_counter() - start))
    return found


async def stream(queue, texts, rate, seconds, seed=0):
    """Milliseconds of requests that come at random, `rate` a second on average."""
    gaps, waiting, found = random.Random(seed), [], []

    async def one(text):
        start = time.perf_counter()
        await queue.encode([text])
        found.append(1e3 * (time.perf_counter() - start))

    due = start = time.perf_counter()
    for text in itertools.cycle(texts):
        due += gaps.expovariate(rate)
        if due > start + seconds:
            break
        await asyncio.sleep(due - time.perf_counter())
        waiting.append(asyncio.ensure_future(one(text)))
    await asyncio.gather(*waiting)
    return found


def keep(part, **found):
    """Put what a part of the benchmark found into the file, beside that of the others."""
    known = json.loads(FILE.read_text()) if FILE.is_file() else {}
    rounded = {
        name: round(own, 1) if isinstance(own, float) else sorted(round(ms, 1) for ms in own)
        for name, own in found.items()
    }
    FILE.write_text(json.dumps(known | {part: rounded}) + "\n")


def say(name, found):
    p50, p99 = np.percentile(found, [50, 99])
    print(f"{name}: {len(found)} requests, p50 {p50:.0f}, p99 {p99:.0f}, max {max(found):.0f} ms")
    return p50, p99


async def capacity(queue, texts):
    """Texts a second that 128 callers get."""
    await closed_loop(queue, texts, 1, 128)
    rate = len(texts) / await closed_loop(queue, texts, 1, 128)
    print(f"capacity {rate:.0f} texts/s", flush=True)
    return rate


async def latency():
    async with AsyncEmbedder(minilm()) as queue:
        await waits_of(queue)


async def waits_of(queue):
    texts = texts_of("sentences", 400)
    await queue.warmup()
    rate = await capacity(queue, texts)
    one, half = await alone(queue, texts), await stream(queue, texts, rate / 2, SECONDS)
    (middle, _), (_, p99) = say("one alone", one), say("at half load", half)
    keep("latency", capacity=rate, alone=one, half=half)
    print(f"p99 at half load is {p99 / middle:.1f} times one alone", flush=True)


async def document(apart):
    texts, words = texts_of("sentences", 200), "the paper is a text to be read ".split()
    long = " ".join(itertools.islice(itertools.cycle(words), DOCUMENT))
    async with AsyncEmbedder(jinabert(), apart=apart) as queue:
        await queue.warmup(128)
        times = []
        for _ in range(2):  # the first one compiles
            start = time.perf_counter()
            await queue.encode([long])
            times.append(time.perf_counter() - start)
        print(f"the document alone: {times[-1]:.1f} s", flush=True)
        rate = await capacity(queue, texts)
        half = await stream(queue, texts, rate / 2, SECONDS)
        _, without = say("at half load", half)

        among = []

        async def documents():
            for _ in range(2):
                start = time.perf_counter()
                await queue.encode([long])
                taken = time.perf_counter() - start
                among.append(1e3 * taken)
                print(f"a document among them: {taken:.1f} s", flush=True)
                await asyncio.sleep(max(0.0, EVERY - taken))

        mixed, _ = await asyncio.gather(stream(queue, texts, rate / 2, SECONDS), documents())
        _, p99 = say("with documents", mixed)
        print(f"p99 with documents is {p99 / without:.1f} times that without")
        own = {"document": 1e3 * times[-1], "documents": among}
        keep("document", capacity=rate, half=half, mixed=mixed, **own)


async def everything(rounds, apart):
    async with AsyncEmbedder(minilm()) as queue:
        await shares_of(queue, rounds)
        await waits_of(queue)
    await document(apart)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("throughput", "latency", "document", "all"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--nice", type=int, default=Apart().nice)
    parser.add_argument("--one-process", action="store_true")
    options = parser.parse_args()
    # As in a serving process; the process of bare encode keeps the default.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    apart = None if options.one_process else Apart(nice=options.nice)
    jobs = {
        "throughput": lambda: throughput(options.rounds),
        "latency": latency,
        "document": lambda: document(apart),
        "all": lambda: everything(options.rounds, apart),
    }
    asyncio.run(jobs[options.what]())


if __name__ == "__main__":
    main()
