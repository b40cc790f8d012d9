"""Corpus runs: speed beside encode, the start of a resumed run, and memory for millions of rows.

python notes/bench/corpus.py speed --data mixed.jsonl.gz [--texts 400] [--rounds 3]
python notes/bench/corpus.py resume [--rows 1000000]
python notes/bench/corpus.py memory [--rows 1000000 3000000 10000000]

speed: real all-MiniLM-L6-v2, texts as they are mixed, cut at 256 tokens; `encode` with
deterministic=True and a whole run (reading, parts, assembling) of the same texts, interleaved in
one process, programs compiled before. resume and memory: a tiny encoder with MiniLM's tokenizer,
short texts, a process per figure: rows count, not arithmetic.
"""

import argparse
import gzip
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORDS = "river stone cloud maple engine copper violet harbour winter signal".split()


# --- speed -------------------------------------------------------------------------------------


def speed(options):
    from jaxbert import Embedder
    from jaxbert.checkpoint import hub

    with gzip.open(options.data, "rt", encoding="utf-8") as file:
        rows = random.Random(0).sample([json.loads(line) for line in file], options.texts)
    texts = [row["text"] for row in rows]
    embedder = Embedder.from_pretrained(hub.installed_package(), deterministic=True)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.jsonl"
        source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        embedder.encode(texts)
        seconds = {"encode": [], "run to .npy": [], "run to .jsonl": []}
        for _ in range(options.rounds):
            start = time.perf_counter()
            embedder.encode(texts)
            seconds["encode"].append(time.perf_counter() - start)
            for suffix in (".npy", ".jsonl"):
                out = Path(folder) / f"out{suffix}"
                seconds[f"run to {suffix}"].append(timed(embedder, source, out))
                out.unlink()
    print(f"{options.texts} texts\n\n| | s, least | of encode |\n|---|---|---|")
    for name, own in seconds.items():
        print(f"| {name} | {min(own):.2f} | {min(own) / min(seconds['encode']):.3f} |")


def timed(embedder, source, out, size=16_384):
    """Seconds of a run, from reading to the assembled file."""
    start = time.perf_counter()
    run = made(embedder, source, out, size)
    with run.parts:
        summary = run.work()
        metadata = {**run.output.metadata, **summary.metadata}
        run.parts.assemble(
            summary.parts, lambda files, file: run.output.format.assemble(files, file, metadata)
        )
    return time.perf_counter() - start


def made(embedder, source, out, size):
    """A run from an embedder that is there."""
    from jaxbert.corpus.bad_rows import FailOnBadRows
    from jaxbert.corpus.formats import format_of
    from jaxbert.corpus.output import Output
    from jaxbert.corpus.progress import Silence
    from jaxbert.corpus.rows import Reading, Source
    from jaxbert.corpus.run import Run
    from jaxbert.corpus.run_parts import RunParts

    parts = RunParts(out)
    parts.open({"made for": "a benchmark"})
    width = embedder.get_embedding_dimension()
    metadata = {"vectors": {"dtype": "float32", "width": width}, "with_text": False}
    finish, bad_rows = embedder.finish(None, False, "float32", None), FailOnBadRows()
    return Run(
        source=Source([str(source)], Reading()),
        parts=parts,
        request=embedder.request(None, None, None, False, None, "truncate"),
        output=Output(format_of(out), finish, "float32", (), bad_rows, metadata),
        bad_rows=bad_rows,
        report=Silence(),
        size=size,
    )


# --- many rows ---------------------------------------------------------------------------------


def tiny():
    """An encoder that costs nothing, with a real tokenizer."""
    from flax import nnx

    from jaxbert import Embedder, Encoder, EncoderConfig
    from jaxbert.checkpoint import hub
    from jaxbert.checkpoint.sentence_transformers.stack import Stack
    from jaxbert.inference.planning import ByText
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
    encoder = Encoder(config, rngs=nnx.Rngs(0))
    return Embedder(encoder, tokenizer, Stack(max_length=64), ByText(longest=64))


def short_rows(file, number):
    """JSON lines of two to eleven words."""
    draw = random.Random(0)
    with file.open("w") as stream:
        for i in range(number):
            text = " ".join(draw.choices(WORDS, k=draw.randrange(2, 12)))
            stream.write(f'{{"id": {i}, "text": "{text}"}}\n')


def resume(options):
    """How long a run of which all parts but the last are done takes to begin with that."""
    number = options.rows[0]
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "in.jsonl", Path(folder) / "out.npy"
        short_rows(source, number)
        embedder = tiny()
        run = made(embedder, source, out, 16_384)
        start = time.perf_counter()
        summary = run.work()
        whole = time.perf_counter() - start
        run.parts.record(summary.parts - 1).unlink()
        run.parts.close()
        again = made(embedder, source, out, 16_384)
        start = time.perf_counter()
        begun = []
        tokenised = type(again).tokenised

        def noted(self, window):
            begun.append(time.perf_counter() - start)
            return tokenised(self, window)

        type(again).tokenised = noted
        again.work()
        print(
            f"{number} rows, {summary.parts} parts, the whole run {whole:.1f} s; all parts but one "
            f"done: the first text of that is tokenised after {begun[0]:.2f} s"
        )
        again.parts.close()


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory(options):
    print("| rows | peak of the process, MiB | s | rows/s |\n|---|---|---|---|", flush=True)
    for number in options.rows:
        subprocess.run([sys.executable, __file__, "one", "--rows", str(number)], check=True)


def one(options):
    number = options.rows[0]
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "in.jsonl", Path(folder) / "out.npy"
        short_rows(source, number)
        spent = timed(tiny(), source, out)
        print(f"| {number} | {peak():.0f} | {spent:.1f} | {number / spent:.0f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("speed", "resume", "memory", "one"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--texts", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    options = parser.parse_args()
    {"speed": speed, "resume": resume, "memory": memory, "one": one}[options.what](options)


if __name__ == "__main__":
    main()
