"""A whole embedder -> a folder as ONNX models are deployed: onnx/model.onnx, tokenizer, configs.

    python convert/to_onnx.py MODEL FOLDER
    python convert/to_onnx.py MODEL FOLDER --output sentence_embedding
    python convert/to_onnx.py MODEL FOLDER --int8 weights
    python convert/to_onnx.py MODEL FOLDER --int8 full --calibration texts.txt --sts pairs.jsonl

onnx/model.onnx takes input_ids, attention_mask and token_type_ids, int64 [batch, sequence] with
both sizes free, and gives last_hidden_state [batch, sequence, d], or sentence_embedding [batch,
width]: what the folder's pooling, Dense and Normalize modules make of it. Weights are float32,
operators those of ONNX's opset 20. The other files of MODEL that describe it are copied beside it,
and onnx/jaxbert.json says what was done.

FOLDER must be new or empty. Before it gets its name, onnxruntime runs the file beside the encoder
on a few texts. Exit status: 0 if both agree; 1 if they differ; 2 if the file could not be made.
FOLDER is there with status 0 only.

--int8 (extra int8) puts the weights, or all products, into int8 once the float32 file is proved;
onnx/model.onnx is then the int8 file. Printed are its bytes, the cosines of its rows to the
encoder's in ONNX Runtime and in OpenVINO, and with --sts both files' correlation with scores.
Texts for calibration and pairs are taken as they are: no prompt is put before them.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import int8
from common import NotDoneError, allowed, beside, put_in_place, run, vacant
from runtimes import INPUTS, as_pairs, beside_encoder, in_onnxruntime, onnxruntime

OUTPUTS = ("last_hidden_state", "sentence_embedding")
# The largest difference of a number over the largest of its state or vector. Both are float32 in
# other orders of sums, which gives 1e-6; the smallest mistake that is known, tanh gelu for exact
# gelu, gives 1e-4.
TOLERANCE = 1e-5


def parser() -> argparse.ArgumentParser:
    """The model, the folder, and what the file gives."""
    top = argparse.ArgumentParser(
        prog="to_onnx.py", description="Export a model as a folder with an ONNX file."
    )
    top.add_argument("name", metavar="MODEL", help="folder or hub name")
    top.add_argument("folder", metavar="FOLDER", type=Path, help="new or empty")
    top.add_argument("--output", choices=OUTPUTS, default=OUTPUTS[0], help="default: %(default)s")
    top.add_argument("--revision", help="branch, tag or commit on the hub")
    top.add_argument("--int8", choices=int8.MODES, help="the file in int8, by NNCF")
    top.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE.txt",
        help="texts for --int8 full, one a line, like those that will be embedded",
    )
    top.add_argument(
        "--sts",
        type=Path,
        metavar="FILE",
        help="pairs with scores, on which int8 is compared: JSONL, CSV or TSV with sentence1, "
        "sentence2, score",
    )
    top.add_argument(
        "--ignore-config",
        action="append",
        default=[],
        metavar="KEY",
        help="a key of the model's JSON files to pass over; may be repeated",
    )
    return top


# --- the graph -----------------------------------------------------------------------------------


def exported(model: Any, output: str) -> bytes:
    """The ONNX file of a model; NoGraphError for one that has no graph."""
    import numpy as np

    from jaxbert.graphs.encoder import INT, Tokens, states
    from jaxbert.graphs.graph import Graph
    from jaxbert.graphs.heads import pooled
    from jaxbert.model.head import PoolingHead

    graph, tail = Graph(), np.array([-1], INT)
    ids, mask, types = INPUTS
    seen = graph.op("Cast", mask, to=9)  # to bool: any number but 0
    keys = graph.op("Cast", seen, to=6)  # to int32, 1 where there is a token
    length = graph.op("Squeeze", graph.op("Shape", ids, start=1, end=2), np.zeros(1, INT))
    counted = graph.op("Range", np.zeros((), INT), length, np.ones((), INT))
    positions = graph.op("Cast", graph.op("Unsqueeze", counted, np.zeros(1, INT)), to=6)
    queries = np.ones((1, 1), np.int32)  # a text to a row, so that all tokens read the same keys
    tokens = Tokens(ids, types, positions, graph.constant(queries), keys)
    x, width = states(graph, model.encoder, tokens), model.encoder.config.hidden_size
    shape: list[Any] = ["batch", "sequence", width]
    if output == "sentence_embedding" and not model.stack.pooling.include_prompt:
        raise NotDoneError(
            "this model does not pool the tokens of prompts, which an ONNX file cannot tell from "
            "others; take --output last_hidden_state"
        )
    if output == "sentence_embedding":
        weight = graph.op("Unsqueeze", graph.op("Cast", seen, to=1), tail)  # float32 [b, t, 1]
        x = pooled(graph, PoolingHead(model.stack.pooling, model.stack.after), x, weight)
        shape = ["batch", model.stack.width(width)]
    axes = {name: (np.int64, ["batch", "sequence"]) for name in INPUTS}
    return graph.model(axes, {output: (x, shape)})


# --- the proof -----------------------------------------------------------------------------------


def largest_difference(file: bytes, model: Any, output: str) -> float:
    """The largest difference between onnxruntime and the encoder, relative to each row's largest.

    It is NaN where a number is.
    """
    import numpy as np

    session, worst = in_onnxruntime(file), 0.0
    for theirs, ours in beside_encoder(session, model, output, as_pairs(model)):
        scale = np.abs(ours).max(axis=-1, keepdims=True)
        worst = np.maximum(worst, (np.abs(theirs - ours) / scale).max())
    return float(worst)


# --- the folder ----------------------------------------------------------------------------------


def described(options: argparse.Namespace, model: Any, plan: int8.Plan | None) -> dict[str, Any]:
    """What onnx/jaxbert.json says; no dates and no paths, so that it is the same everywhere."""
    import jaxbert
    from jaxbert.checkpoint.sums import sha256
    from jaxbert.graphs.graph import OPSET

    given = Path(options.name)
    return {
        "model": given.resolve().name if given.is_dir() else options.name,
        "revision": options.revision,
        "weights_sha256": {file.name: sha256(file) for file in model.stored.files},
        "opset": OPSET,
        "output": options.output,
        "max_length": model.part.max_length,
        "jaxbert": jaxbert.__version__,
        **({} if plan is None else {"int8": plan.about}),
    }


def copy_descriptions(model: Any, folder: Path) -> None:
    """Copy all files that describe the model, and weights of modules behind the encoder."""
    source, inside = model.opened.folder, {file.resolve() for file in model.stored.files}
    for file in sorted(source.rglob("*")):
        name = file.relative_to(source).as_posix()
        encoder = file.resolve() in inside or name.endswith(".safetensors.index.json")
        if file.is_file() and allowed(name) and not encoder:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / name)


def write(place: Path, file: bytes, about: dict[str, Any], model: Any) -> None:
    """Make the folder: complete, or not at all."""
    partial = beside(place)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        (partial / "onnx").mkdir(parents=True)
        (partial / "onnx" / "model.onnx").write_bytes(file)
        text = json.dumps(about, indent=2, ensure_ascii=False)
        (partial / "onnx" / "jaxbert.json").write_text(text + "\n", encoding="utf-8")
        copy_descriptions(model, partial)
        put_in_place(partial, place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def planned(options: argparse.Namespace) -> int8.Plan | None:
    """What is to be done about int8; NotDoneError for options that need it and lack it."""
    if options.int8 is not None:
        return int8.Plan.of(options.int8, options.calibration, options.sts)
    if options.calibration or options.sts:
        raise NotDoneError(
            f"--calibration and --sts are for --int8; add --int8 {' or '.join(int8.MODES)}"
        )
    return None


def convert(options: argparse.Namespace) -> bool:
    """Export, prove, write, and say so; whether the file agrees with the encoder."""
    place = vacant(options.folder)
    onnxruntime()
    plan = planned(options)
    from jaxbert.verify.opened import load_model
    from jaxbert.verify.report import sample

    model = load_model(
        options.name,
        revision=options.revision,
        ignore_config=tuple(options.ignore_config),
        dtype="float32",
    )
    file = float32 = exported(model, options.output)
    worst = largest_difference(float32, model, options.output)
    *_, what = sample(model)
    proof = f"{worst:.1e} of the largest number, on {what} (tolerance {TOLERANCE:g})"
    if not worst <= TOLERANCE:
        print(f"the file DIFFERS from the encoder, so nothing is written: {proof}")
        return False
    lines = [f"onnxruntime agrees with the encoder: at most {proof}"]
    if plan is not None:
        file = plan.file(float32, model)
        found = int8.beside_float32(file, model, options.output)
        if not int8.close_enough(found):
            print("the file in int8 DIFFERS from the encoder, so nothing is written:")
            print(*int8.cosine_lines(found), plan.advice, sep="\n")
            return False
        share = f"{len(file) / len(float32):.2f} of {len(float32):,} in float32"
        lines = [f"{lines[0]}, before int8", f"int8, {plan.mode}: {len(file):,} bytes, {share}"]
        lines += int8.cosine_lines(found)
        lines += plan.correlated(float32, file, model, options.output)
    write(place, file, described(options, model, plan), model)
    print(f"{options.folder}: onnx/model.onnx, {len(file):,} bytes, gives {options.output}")
    print(*lines, sep="\n")
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Export one model; what prevents that is one sentence on stderr and exit status 2."""
    options = parser().parse_args(arguments)
    return run("to_onnx.py", lambda: convert(options))


if __name__ == "__main__":
    sys.exit(main())
