"""Students of all-MiniLM-L6-v2 with three layers: trained, scored, and tried on long texts.

python notes/bench/distillation.py --data mixed.jsonl.gz --sts stsbenchmark-test.jsonl

The data is JSON lines with "kind" and "text". Two students, a BERT and a JinaBERT, each in two
steps of `jaxbert train distil`: at a constant rate, then, the sentences in another order, at one
that falls to 0. Both see the same sentences, so the teacher embeds them once. A last command goes
on with pairs (`jaxbert train pairs`): the title and the end of an abstract, and as the hard
negative the end of the abstract whose title shares the most rare words.

40 pages of the data are held out. A student's vector of the first 64 ... 1024 tokens of a page is
compared with the mean of the teacher's vectors of its parts of 64 tokens: by the cosine, and by
whether it is nearer to that of its own page than to those of the other 39. The STS pairs score
models and are never trained on.

Every command's CPU time, that of its compilations included, and its wall time are kept beside its
model in build/bench/distillation; what is there is not done again.
"""

import argparse
import gzip
import json
import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from peers import machine
from tokenizers import Tokenizer

from jaxbert import Embedder
from jaxbert.corpus.run_identity import describe_software
from jaxbert.errors import InputError
from jaxbert.train.evaluate import correlation, read_scored
from jaxbert.train.sentences import sentences
from jaxbert.train.texts import Texts

TEACHER = "sentence-transformers/all-MiniLM-L6-v2"
FOLDER = Path(__file__).parents[2] / "build" / "bench" / "distillation"
FILE = Path(__file__).with_name("distillation.json")
HELD_OUT, LONG = 40, 1100  # pages, and the word pieces that each has at least
LENGTHS, PART = (64, 128, 256, 512, 1024), 64
END, HELD_PAIRS = 32, 500  # words of the end of an abstract, and pairs that are held out

VECTORS = "vectors"
ALL = ("--freeze", "encoder.embeddings.word", "--batch", "32", "--quiet")
TEXTS = ("--texts", "texts.jsonl", "--sentences", "16", "--sample", "40000", "--length", "24")
FIRST = ("--schedule", "constant", "--rate", "8e-4", "--warmup", "60", "--seed", "0")
SECOND = ("--schedule", "linear", "--rate", "8e-4", "--warmup", "10", "--seed", "1")
BERT = ("--layers", "0,2,4")
JINABERT = (*BERT, "--architecture", "jinabert")


def first(base, steps):
    """The first step, which begins with layers of the teacher."""
    how = (*TEXTS, "--vectors", VECTORS, "--steps", str(steps), *FIRST, *ALL)
    return ("distil", "--base", TEACHER, *base, *how)


def second(base, steps):
    """The second step, which goes on with the model of the first one."""
    how = (*TEXTS, "--vectors", VECTORS, "--steps", str(steps), *SECOND, *ALL)
    return ("distil", "--base", base, "--teacher", TEACHER, *how)


def contrast(base):
    """Pairs for a student."""
    how = ("--length", "32", "--steps", "62", "--rate", "2e-5", "--buckets", "2")
    return ("pairs", "--base", base, "--data", "pairs.jsonl", *how, *ALL)


# The commands by the names of their models, in their order.
COMMANDS = {
    "bert-first": first(BERT, 800),
    "bert": second("bert-first", 800),
    "jinabert-first": first(JINABERT, 600),
    "jinabert": second("jinabert-first", 700),
    "bert-pairs": contrast("bert"),
}

# --- the data ------------------------------------------------------------------------------------


def write(name, rows):
    """A file of JSON lines."""
    with (FOLDER / name).open("w") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)


def prepare(data):
    """Write the texts, the pages that are held out, and the pairs."""
    held, rest, abstracts = [], [], []
    with gzip.open(data, "rt") as lines:
        for row in map(json.loads, lines):
            page = row["kind"].startswith("pages") and row["wordpieces"] > LONG
            (held if page and len(held) < HELD_OUT else rest).append({"text": row["text"]})
            if row["kind"] == "abstract":
                abstracts.append(row["text"])
    write("held.jsonl", held)
    write("texts.jsonl", rest)
    pairs = titles_and_ends(abstracts)
    write("pairs.jsonl", pairs[:-HELD_PAIRS])
    write("held-pairs.jsonl", pairs[-HELD_PAIRS:])


def titles_and_ends(abstracts):
    """Titles with the last words of their abstracts, and with those of the most similar title."""
    split = [[x.text for x in sentences([Texts("", text)], END)] for text in abstracts]
    split = [own for own in split if len(own) >= 3]
    words = [set(own[0].lower().split()) for own in split]
    names = {word: i for i, word in enumerate(sorted(set().union(*words)))}
    count = np.zeros((len(split), len(names)), np.float32)
    for row, own in zip(count, words, strict=True):
        row[[names[word] for word in own]] = 1
    rare = np.log(len(split) / count.sum(axis=0))
    shared = (count * rare) @ count.T
    np.fill_diagonal(shared, -1)
    return [
        {"anchor": own[0], "positive": own[-1], "negative": split[other][-1]}
        for own, other in zip(split, shared.argmax(axis=1), strict=True)
    ]


# --- the commands --------------------------------------------------------------------------------


def trained(name, sts):
    """The record of a command, which is run unless its model is there."""
    kept = FOLDER / f"{name}.json"
    if not kept.exists():
        command = ["train", *COMMANDS[name], "-o", name, "--evaluate"]
        begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-m", "jaxbert.cli", *command, str(sts)],
            cwd=FOLDER,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(FOLDER.parents[2])},
        )
        if done.returncode:
            raise SystemExit(f"{name} failed: {done.stderr}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = sum(getattr(after, x) - getattr(before, x) for x in ("ru_utime", "ru_stime"))
        told = " ".join(["jaxbert", *command, sts.name])
        write(kept.name, [record(told, done.stderr, used, time.monotonic() - begun)])
    return json.loads(kept.read_text())


def record(command, told, cpu, wall):
    """What is kept of a command: itself, its time, and the scores before and after."""
    scores = re.findall(r"(before|after) training: Spearman's correlation ([\d.]+)", told)
    return {
        "command": command,
        "cpu_seconds": round(cpu),
        "wall_seconds": round(wall),
        "sts": {when: float(value) for when, value in scores},
    }


def rows_of(name):
    """The steps and the texts and tokens of all steps of a run."""
    steps = lines(f"{name}.run/metrics.jsonl")
    return {"steps": len(steps), "tokens": sum(own["tokens"] for own in steps)}


# --- long texts ----------------------------------------------------------------------------------


def cut(tokenizer, text, parts):
    """The beginning of a text that has so many parts of PART tokens, and the parts."""
    room = PART - 2  # beside the special tokens
    ends = tokenizer.encode(text, add_special_tokens=False).offsets[: parts * room]
    own = [ends[i : i + room] for i in range(0, len(ends), room)]
    return text[: ends[-1][1]], [text[part[0][0] : part[-1][1]] for part in own]


def long_texts(embedder, teacher, pages):
    """By length: the mean cosine with the teacher's mean of parts, and the share of own nearest."""
    whole = Tokenizer.from_str(teacher.tokenizer.backend.to_str())
    whole.no_truncation()
    found = {}
    for length in LENGTHS:
        wholes, parts = zip(*(cut(whole, page, length // PART) for page in pages), strict=True)
        try:
            vectors = embedder.encode(list(wholes), max_length=length)
        except InputError as error:
            found[length] = str(error)
            continue
        wanted = np.stack([teacher.encode(own, max_length=PART).mean(axis=0) for own in parts])
        wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
        cosines = vectors @ wanted.T
        nearest = float((cosines.argmax(axis=1) == np.arange(len(pages))).mean())
        found[length] = {"cosine": float(np.diagonal(cosines).mean()), "nearest": nearest}
    return found


def found_ends(embedder, pairs):
    """The share of titles whose own end is the nearest of all ends and all hard negatives."""
    kinds = ("anchor", "positive", "negative")
    titles, ends, others = (embedder.encode([row[kind] for row in pairs]) for kind in kinds)
    own = (titles * ends).sum(axis=1)
    most = (titles @ np.concatenate([ends, others]).T).max(axis=1)
    return float((own >= most - 1e-6).mean())


def lines(name):
    """The rows of a file of JSON lines."""
    return [json.loads(line) for line in (FOLDER / name).read_text().splitlines()]


def main():
    """Train, score and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sts", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=list(COMMANDS), choices=list(COMMANDS))
    given = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    prepare(given.data)
    runs = {}
    for name in given.only:
        runs[name] = trained(name, given.sts.resolve()) | rows_of(name)
        print(name, runs[name], flush=True)
    pages, pairs = [row["text"] for row in lines("held.jsonl")], lines("held-pairs.jsonl")
    scored, teacher = read_scored([str(given.sts)]), Embedder.from_pretrained(TEACHER)
    models = {"teacher": teacher}
    last = [name for name in given.only if not name.endswith("-first")]
    models |= {name: Embedder.from_pretrained(FOLDER / name) for name in last}
    result = {
        "machine": machine(),
        "software": describe_software(),
        "runs": runs,
        "sts": {name: correlation(own.encode, scored) for name, own in models.items()},
        "titles": {name: found_ends(own, pairs) for name, own in models.items()},
        "long_texts": {name: long_texts(own, teacher, pages) for name, own in models.items()},
    }
    FILE.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({name: result[name] for name in ("sts", "titles", "long_texts")}, indent=1))


if __name__ == "__main__":
    main()
