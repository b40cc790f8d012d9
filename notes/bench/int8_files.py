"""What int8 changes: bytes, cosines and Spearman's correlation of the real all-MiniLM-L6-v2.

PYTHONPATH=convert python notes/bench/int8_files.py --data mixed.jsonl.gz \
  --sts stsbenchmark-test.jsonl
(--only weights, or any other part of a title, for some of the rows)

By mode of convert/to_onnx.py --int8, in ONNX Runtime and in OpenVINO. `full` is calibrated on 300
sentences of the data, on 30, on one, and on 300 texts of all its kinds. Cosines to the float32 file
are those of the 2758 texts of the pairs, and of each hundredth text of the data, of all kinds and
up to 256 tokens, none of which it was calibrated on. Nothing is timed.
"""

import argparse
import gzip
import json
from pathlib import Path

import int8
import numpy as np
import to_onnx
from runtimes import RUNTIMES, in_onnxruntime

from jaxbert.checkpoint import hub
from jaxbert.train.evaluate import spearman
from jaxbert.verify.opened import load_model

OUTPUT = "sentence_embedding"
HELD_OUT = 100


def plans(rows):
    """Modes and texts for calibration, by title."""
    kept = [row for i, row in enumerate(rows) if i % HELD_OUT]
    sentences = [row["text"] for row in kept if row["kind"] == "sentence"]
    evenly = [kept[i]["text"] for i in np.linspace(0, len(kept) - 1, 300).round().astype(int)]
    return {
        "weights": ("weights", ()),
        "weights-symmetric": ("weights-symmetric", ()),
        "full, 300 sentences": ("full", sentences[:300]),
        "full, 30 sentences": ("full", sentences[:30]),
        "full, one sentence": ("full", sentences[:1]),
        "full, 300 of all kinds": ("full", evenly),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sts", type=Path, required=True)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    with gzip.open(given.data, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    held_out, pairs = [row["text"] for row in rows[::HELD_OUT]], int8.scored_pairs(given.sts)
    texts = [text for pair in pairs for text in (pair.first, pair.second)]
    model = load_model(hub.installed_package(), revision=None, ignore_config=(), dtype="float32")
    float32 = to_onnx.exported(model, OUTPUT)
    scores = np.array([pair.score for pair in pairs])

    def vectors(run):
        encode = int8.encoder_of(run, model, OUTPUT)
        return encode(texts), encode(held_out)

    def correlation(own):
        return 100 * spearman((own[::2] * own[1::2]).sum(axis=1), scores)  # unit vectors

    expected = vectors(in_onnxruntime(float32))
    full = correlation(expected[0])
    print(f"float32: {len(float32):,} bytes, Spearman x 100 {full:.3f}; {len(held_out)} held out")
    print("| int8 | bytes | runtime | Spearman x 100 | cosine, pairs | cosine, held out |")
    print("|---|---|---|---|---|---|")
    for title, (mode, calibration) in plans(rows).items():
        if given.only not in title:
            continue
        file = int8.Plan(mode, calibration).file(float32, model)
        for name, start in RUNTIMES.items():
            own = vectors(start(file))
            score = correlation(own[0])
            found = [int8.cosines([pair]) for pair in zip(own, expected, strict=True)]
            cells = " | ".join(f"{x.least:.4f}, {x.mean:.5f}" for x in found)
            moved = f"{score:.3f} ({score - full:+.3f})"
            print(f"| {title} | {len(file):,} | {name} | {moved} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
