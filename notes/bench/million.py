"""Peak memory of encode for more and more short texts, a process each.

python notes/bench/million.py [--texts 100000 300000 1000000]
A tiny encoder with MiniLM's tokenizer, so that the texts count and not the arithmetic. The texts
and the vectors [n, 8] are the caller's and are subtracted.
"""

import argparse
import random
import resource
import subprocess
import sys

WORDS = "river stone cloud maple engine copper violet harbour winter signal".split()


def texts_of(number):
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS, k=draw.randrange(2, 12))) for _ in range(number)]


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def one(number):
    from flax import nnx

    from jaxbert import Embedder, Encoder, EncoderConfig
    from jaxbert.checkpoint import hub
    from jaxbert.checkpoint.sentence_transformers.stack import Stack
    from jaxbert.text.tokenizer import Tokenizer

    config = EncoderConfig.bert(
        vocab_size=30522,
        hidden_size=8,
        num_layers=1,
        num_heads=2,
        intermediate_size=16,
        max_positions=64,
    )
    tokenizer = Tokenizer.from_folder(hub.installed_package())
    embedder = Embedder(Encoder(config, rngs=nnx.Rngs(0)), tokenizer, Stack(max_length=64))
    texts = texts_of(number)
    embedder.encode(texts[:20000])
    before = peak()
    vectors = embedder.encode(texts)
    grown = peak() - before - vectors.nbytes
    stats = embedder.stats
    print(
        f"| {number} | {grown / 2**20:.0f} | {stats.seconds:.1f} | {stats.padding_efficiency:.3f} "
        f"| {stats.compilations} |",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, nargs="+", default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--one", type=int)
    options = parser.parse_args()
    if options.one:
        one(options.one)
        return
    print("| texts | peak, MiB more than after 20,000 | s | padding efficiency | compilations |")
    print("|---|---|---|---|---|", flush=True)
    for number in options.texts:
        subprocess.run([sys.executable, __file__, "--one", str(number)], check=True)


if __name__ == "__main__":
    main()
