"""A whole embedder -> one file of StableHLO: token ids in, vectors out, the weights inside.

    python convert/to_stablehlo.py MODEL OUT --length 256 --platform cpu

OUT is for one platform and one length; the number of texts is free, unless --batch fixes it.
OUT.json beside it says what is inside, what goes in and comes out, and what is left to the caller.
To call it takes jax and no jaxbert: `jax.export.deserialize(data).call(input_ids, attention_mask)`.

Exit status: 0 if the artefact agrees with the live model, or is for a platform that is not here;
1 if it differs; 2 if it could not be made. Files are written with status 0 only.
"""

import argparse
import hashlib
import json
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

import jaxbert
from jaxbert.arguments import integer
from jaxbert.checkpoint.sentence_transformers.modules_json import read_modules
from jaxbert.checkpoint.sums import sha256
from jaxbert.cli import one_line, warn
from jaxbert.errors import JaxbertError
from jaxbert.inference.batches import BatchArrays, Padded
from jaxbert.inference.engine import vectors
from jaxbert.model.attention import ATTENTIONS, KERNELS, implementation, named
from jaxbert.model.head import PoolingHead
from jaxbert.verify.compare import TEXTS
from jaxbert.verify.opened import Model, load_model

PLATFORMS = ("cpu", "cuda", "tpu")
# The largest difference of a component between artefact and live model, over the vector's norm.
# They are one program, compiled twice by one compiler for the same shape and processor, and were
# equal bit for bit wherever it was tried: this is a few roundings of float32, or of bfloat16, and
# not what another order of sums may move (notes/02). A mistake in what is exported moves more.
TOLERANCE = {"float32": 1e-6, "bfloat16": 3e-3}

USE = (
    "A text stands in its row from place 0 on, special tokens included; attention_mask is 1 there "
    "and 0 behind it, where input_ids is 0. vectors are what the folder's pooling, Dense and "
    "Normalize modules give; the tokenizer and what not_inside lists are left to the caller."
)

# What a folder says about texts and vectors that the artefact leaves out.
NOT_INSIDE = ("prompts", "default_prompt_name", "max_length", "truncate_dim", "similarity")


class NotExportedError(Exception):
    """What was asked for could not be made; OUT is as it was."""


def parser() -> argparse.ArgumentParser:
    """The model, the artefact, and what the artefact is for."""
    top = argparse.ArgumentParser(
        prog="to_stablehlo.py", description="Export a model with its pooling as StableHLO."
    )
    top.add_argument("name", metavar="MODEL", help="folder or hub name")
    top.add_argument("out", metavar="OUT", type=Path, help="the artefact; OUT.json describes it")
    top.add_argument(
        "--length", metavar="N", type=int, required=True, help="tokens of a row, padding included"
    )
    top.add_argument("--platform", choices=PLATFORMS, required=True, help="where it will run")
    top.add_argument(
        "--batch", metavar="N", type=int, help="texts in a call (default: any number from 1 on)"
    )
    top.add_argument(
        "--attention",
        choices=tuple(ATTENTIONS),
        default="auto",
        help="auto: what that platform takes for that length, if jax can export it, else blockwise",
    )
    top.add_argument("--dtype", choices=tuple(TOLERANCE), default="float32", help="of the weights")
    top.add_argument("--revision", help="branch, tag or commit on the hub")
    top.add_argument(
        "--ignore-config",
        action="append",
        default=[],
        metavar="KEY",
        help="a key of the model's JSON files to pass over; may be repeated",
    )
    return top


def first_line(error: Exception) -> str:
    """The reason without jax's advice to those who write the program."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# --- what can be exported ----------------------------------------------------------------------


def check_arguments(options: argparse.Namespace) -> None:
    """Refuse what needs no model to be refused."""
    try:
        import flatbuffers  # noqa: F401
    except ModuleNotFoundError as error:
        raise NotExportedError(
            "flatbuffers is not installed; it comes with jaxbert's extra named export"
        ) from error
    integer(options.length, "--length", 1)
    if options.batch is not None:
        integer(options.batch, "--batch", 1)
    if not options.out.parent.is_dir():
        raise NotExportedError(f"the folder {options.out.parent} is missing; make it first")
    for file in (options.out, description_file(options.out)):
        if file.is_dir():
            raise NotExportedError(f"{file} is a folder; name a file")


def obstacle(attention: str, platform: str, batch: int | None) -> str | None:
    """Why jax exports no such program, with what to do; None where it does."""
    if attention not in KERNELS:
        return None
    own = KERNELS[attention].platform
    if own != platform:
        return f"it is a kernel for {own}; take --attention blockwise"
    if own == "cuda":
        return "jax promises no compatibility for calls of Triton; take --attention blockwise"
    if batch is None:
        return "the kernel needs a fixed number of texts; pass --batch N, or --attention blockwise"
    return None


def chosen(asked: str, platform: str, length: int, batch: int | None) -> str:
    """The name of an attention that can be exported; raises NotExportedError if asked cannot.

    auto goes by the platform that the artefact is for, where attend itself would ask this process.
    """
    if asked != "auto":
        if why := obstacle(asked, platform, batch):
            raise NotExportedError(f"--attention {asked} cannot be exported for {platform}: {why}")
        return asked
    backend = next((key for key, own in KERNELS.items() if own.platform == platform), platform)
    usual = implementation(backend, length, jnp.float32).name
    return "blockwise" if obstacle(usual, platform, batch) else usual


def check_positions(model: Model, length: int) -> None:
    """Refuse a row that has more tokens than the model has positions: its vectors would be NaN."""
    limit = model.encoder.position.limit
    if limit is not None and length > limit:
        raise NotExportedError(
            f"--length is {length}, but the model learned positions for {limit} only; "
            f"take {limit} or less"
        )


# --- the program -------------------------------------------------------------------------------


def embedding(model: Model) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """(input_ids [b, t], attention_mask [b, t]) -> vectors [b, width], as Embedder.encode does."""
    head = PoolingHead(model.stack.pooling, model.stack.after)

    def embed(input_ids: jax.Array, attention_mask: jax.Array) -> jax.Array:
        segments = (attention_mask != 0).astype(jnp.int32)
        positions = jnp.arange(input_ids.shape[1], dtype=jnp.int32)[None, :]
        return vectors(model.encoder, head, BatchArrays(input_ids, segments, positions, None), 0)

    return embed


def exported(
    model: Model, platform: str, length: int, batch: int | None
) -> tuple[export.Exported, bytes]:
    """The model as a program for that platform; raises NotExportedError with jax's reason."""
    # Paths and lines of the source stay out, so that a model gives the same bytes anywhere.
    setting = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, setting)
    jax.config.update(setting, 0)
    try:
        shape = export.symbolic_shape(f"{batch or 'b'}, {length}")
        tokens = jax.ShapeDtypeStruct(shape, jnp.int32)
        made = export.export(jax.jit(embedding(model)), platforms=[platform])(tokens, tokens)
        return made, bytes(made.serialize())
    except Exception as error:  # whatever the model's parts and jax raise
        hint = "; try --batch N" if batch is None else ""
        raise NotExportedError(
            f"jax cannot export this model for {platform}: {first_line(error)}{hint}"
        ) from error
    finally:
        jax.config.update(setting, before)


# --- the proof ---------------------------------------------------------------------------------


def samples(model: Model, length: int, batch: int | None) -> list[BatchArrays]:
    """A batch of one text and one of three, or one of `batch`; the first text fills its row."""
    if model.tokenizer is None:
        random, vocabulary = np.random.default_rng(0), model.encoder.config.vocab_size
        tokens = [random.integers(0, vocabulary, n) for n in (length, length // 3 + 1, 1)]
    else:
        long = TEXTS[4] * (1 + length // 50)  # which has more than 50 tokens
        tokens = model.tokenizer([long, TEXTS[2], ""], length)
    members = [[1], [0, 1, 2]] if batch is None else [[row % 3 for row in range(batch)]]
    return [Padded(np.array(rows), len(rows), length).fill(tokens) for rows in members]


def live(model: Model, batch: BatchArrays) -> jax.Array:
    """What the engine computes, without an export."""
    return jax.jit(vectors)(
        model.encoder,
        PoolingHead(model.stack.pooling, model.stack.after),
        batch,
        np.array(0, np.int32),
    )


def largest_difference(artefact: bytes, model: Model, batches: Sequence[BatchArrays]) -> float:
    """The largest difference of a component over its vector's norm; NaN where a vector has it."""
    call = export.deserialize(bytearray(artefact)).call
    worst = 0.0
    for batch in batches:
        ours = np.asarray(live(model, batch), np.float64)
        theirs = np.asarray(call(batch.ids, batch.segments), np.float64)
        norm = np.linalg.norm(ours, axis=1, keepdims=True)
        worst = np.maximum(worst, (np.abs(theirs - ours) / norm).max())  # keeps NaN
    return float(worst)


def proved(artefact: bytes, model: Model, options: argparse.Namespace) -> tuple[str, bool]:
    """A sentence about how the artefact agrees with the live model, and whether it may be kept."""
    here = export.default_export_platform()
    if options.platform != here:
        return f"exported for {options.platform} and not run: this process has {here}", True
    batches = samples(model, options.length, options.batch)
    try:
        worst = largest_difference(artefact, model, batches)
    except Exception as error:  # the compiler's, and the device's
        raise NotExportedError(f"the artefact does not run: {first_line(error)}") from error
    tolerance = TOLERANCE[options.dtype]
    agreed = worst <= tolerance
    verdict = "agrees with" if agreed else "DIFFERS, so nothing is written, from"
    texts = " and ".join(str(len(batch.ids)) for batch in batches)
    return (
        f"the artefact {verdict} the live model: at most {worst:.1e} of a vector's norm, "
        f"in batches of {texts} (tolerance {tolerance:g})",
        agreed,
    )


# --- the description ---------------------------------------------------------------------------


def description_file(out: Path) -> Path:
    """OUT.json."""
    return out.with_name(f"{out.name}.json")


def weight_files(model: Model) -> list[Path]:
    """The encoder's, and those of Dense modules."""
    dense = [path for kind, path in read_modules(model.opened.folder) if kind == "Dense"]
    return [*model.stored.files, *(path / "model.safetensors" for path in dense)]


def array(name: str, aval: Any) -> dict[str, Any]:
    """An input or output; a free number of rows is the letter b."""
    shape = [size if isinstance(size, int) else str(size) for size in aval.shape]
    return {"name": name, "dtype": aval.dtype.name, "shape": shape}


def described(
    options: argparse.Namespace, attention: str, model: Model, made: export.Exported
) -> dict[str, Any]:
    """What OUT.json says; no dates and no paths, so that it is the same wherever it is made."""
    folder, stack = model.opened.folder, model.stack
    given, files = Path(options.name), weight_files(model)
    return {
        "model": given.resolve().name if given.is_dir() else options.name,
        "revision": options.revision,
        "weights": {file.relative_to(folder).as_posix(): sha256(file) for file in files},
        "platform": options.platform,
        "attention": attention,
        "dtype": options.dtype,
        "length": options.length,
        "inputs": list(map(array, ("input_ids", "attention_mask"), made.in_avals)),
        "output": array("vectors", made.out_avals[0]),
        "use": USE,
        "not_inside": {name: getattr(stack, name) for name in NOT_INSIDE},
        "versions": {
            "jax": jax.__version__,
            "jaxbert": jaxbert.__version__,
            "calling_convention": made.calling_convention_version,
        },
    }


def put(files: Mapping[Path, bytes]) -> None:
    """Write all files beside their places, then rename them."""
    partial = {file: file.with_name(f"{file.name}.partial") for file in files}
    try:
        for file, contents in files.items():
            partial[file].write_bytes(contents)
        for file in files:
            partial[file].replace(file)
    finally:
        for file in partial.values():
            file.unlink(missing_ok=True)


# --- the command -------------------------------------------------------------------------------


def convert(options: argparse.Namespace) -> bool:
    """Export, prove, write, and say so; whether the artefact may be used."""
    check_arguments(options)
    attention = chosen(options.attention, options.platform, options.length, options.batch)
    model = load_model(
        options.name,
        revision=options.revision,
        ignore_config=tuple(options.ignore_config),
        dtype=options.dtype,
        attention=named(attention),
    )
    check_positions(model, options.length)
    made, artefact = exported(model, options.platform, options.length, options.batch)
    sentence, usable = proved(artefact, model, options)
    if usable:
        about = described(options, attention, model, made)
        about["sha256"] = hashlib.sha256(artefact).hexdigest()
        text = json.dumps(about, indent=2, ensure_ascii=False) + "\n"
        put({description_file(options.out): text.encode(), options.out: artefact})
        print(
            f"{options.out}: {len(artefact):,} bytes for {options.platform}, {options.dtype}, "
            f"attention {attention}, {made.in_avals[0]} -> {made.out_avals[0]}"
        )
    print(sentence)
    return usable


def main(arguments: Sequence[str] | None = None) -> int:
    """Export one model; what prevents that is one sentence on stderr and exit status 2."""
    options = parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = warn
            return 0 if convert(options) else 1
    except (JaxbertError, NotExportedError, OSError) as error:
        print(f"to_stablehlo.py: {one_line(error)}", file=sys.stderr)
    except KeyboardInterrupt:
        print("to_stablehlo.py: interrupted; nothing was written", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
