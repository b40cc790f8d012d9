"""A whole embedder -> a folder as ONNX models are deployed: onnx/model.onnx, tokenizer, configs.

    python convert/to_onnx.py MODEL FOLDER
    python convert/to_onnx.py MODEL FOLDER --output sentence_embedding

onnx/model.onnx takes input_ids, attention_mask and token_type_ids, int64 [batch, sequence] with
both sizes free, and gives last_hidden_state [batch, sequence, d], or sentence_embedding [batch,
width]: what the folder's pooling, Dense and Normalize modules make of it. Weights are float32,
operators those of ONNX's opset 20. The other files of MODEL that describe it are copied beside it,
and onnx/jaxbert.json says what was done.

FOLDER must be new or empty. Before it gets its name, onnxruntime runs the file beside the encoder
on a few texts. Exit status: 0 if both agree; 1 if they differ; 2 if the file could not be made.
FOLDER is there with status 0 only.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import NotDoneError, allowed, beside, put_in_place, run, vacant

OUTPUTS = ("last_hidden_state", "sentence_embedding")
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
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


def largest_difference(file: bytes, model: Any, output: str) -> tuple[float, int]:
    """The largest difference between onnxruntime and the encoder, relative, and on how many texts.

    Texts of several lengths share a batch, and one is alone.
    """
    import jax.numpy as jnp
    import numpy as np
    import onnxruntime

    from jaxbert.model.head import PoolingHead
    from jaxbert.verify.report import sample

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    ids, mask, _ = sample(model)
    worst = 0.0
    for rows in (slice(None), slice(0, 1)):
        given = [ids[rows], mask[rows], np.zeros_like(ids[rows])]
        if model.encoder.config.type_vocab_size > 1:
            given[2] = (np.cumsum(given[1], axis=1) > 3).astype(np.int32)  # as in a pair of texts
        names = [port.name for port in session.get_inputs()]
        arrays = dict(zip(INPUTS, (array.astype(np.int64) for array in given), strict=True))
        (theirs,) = session.run([output], {name: arrays[name] for name in names})
        ours = model.encoder(*given)
        if output == "sentence_embedding":
            head = PoolingHead(model.stack.pooling, model.stack.after)
            ours = np.asarray(head(ours, jnp.asarray(given[1] != 0)))
        else:
            theirs, ours = theirs[given[1] != 0], np.asarray(ours)[given[1] != 0]
        scale = np.abs(ours).max(axis=-1, keepdims=True)
        worst = np.maximum(worst, (np.abs(theirs - ours) / scale).max())  # keeps NaN
    return float(worst), len(ids)


# --- the folder ----------------------------------------------------------------------------------


def described(options: argparse.Namespace, model: Any) -> dict[str, Any]:
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


def convert(options: argparse.Namespace) -> bool:
    """Export, prove, write, and say so; whether the file agrees with the encoder."""
    place = vacant(options.folder)
    try:
        import onnxruntime  # noqa: F401
    except ModuleNotFoundError as error:
        raise NotDoneError(
            "onnxruntime is not installed, and no file is written unproved; it comes with "
            "jaxbert's extra named parity"
        ) from error
    from jaxbert.verify.opened import load_model

    model = load_model(
        options.name,
        revision=options.revision,
        ignore_config=tuple(options.ignore_config),
        dtype="float32",
    )
    file = exported(model, options.output)
    worst, texts = largest_difference(file, model, options.output)
    if not worst <= TOLERANCE:
        print(
            f"the file DIFFERS from the encoder, so nothing is written: {worst:.1e} of the largest "
            f"number, on {texts} texts (tolerance {TOLERANCE:g})"
        )
        return False
    partial = beside(place)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        (partial / "onnx").mkdir(parents=True)
        (partial / "onnx" / "model.onnx").write_bytes(file)
        about = json.dumps(described(options, model), indent=2, ensure_ascii=False)
        (partial / "onnx" / "jaxbert.json").write_text(about + "\n", encoding="utf-8")
        copy_descriptions(model, partial)
        put_in_place(partial, place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    print(f"{options.folder}: onnx/model.onnx, {len(file):,} bytes, gives {options.output}")
    print(
        f"onnxruntime agrees with the encoder: at most {worst:.1e} of the largest number, on "
        f"{texts} texts (tolerance {TOLERANCE:g})"
    )
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Export one model; what prevents that is one sentence on stderr and exit status 2."""
    options = parser().parse_args(arguments)
    return run("to_onnx.py", lambda: convert(options))


if __name__ == "__main__":
    sys.exit(main())
