"""The ONNX file of an encoder in int8, by NNCF, and what that changes.

A weight w of an output feature becomes round(w / scale) + zero_point in 8 bits, with a scale for
each feature. MODES:

weights            scales and zero points; states and products stay float32
weights-symmetric  the same without zero points, [-127, 127]
full               weights without zero points, and the inputs of all products in int8 too; their
                   ranges are measured on texts for calibration

Source: NNCF, compress_weights (INT8_ASYM, INT8_SYM) and quantize (ModelType.TRANSFORMER: smooth
quantisation 0.95, bias correction).
"""

import csv
import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import NotDoneError
from runtimes import RUNTIMES, Runtime, as_texts, beside_encoder, feeds, in_onnxruntime

MODES = ("weights", "weights-symmetric", "full")
# As many texts as NNCF takes by default; more are thinned out evenly.
CALIBRATION = 300
# The least mean cosine to the float32 encoder, on a few texts. all-MiniLM-L6-v2 has 0.989 and more,
# and 0.48 where its ranges were measured on one word (tests/parity/test_int8.py).
FLOOR = 0.9
ROWS = 32  # texts of a batch, which are of about the same length


def nncf() -> Any:
    """The package nncf; MissingPackageError where it, or openvino beside it, is not installed.

    It is imported without openvino_telemetry, through which it would tell a server of each call.
    """
    from jaxbert.errors import MissingPackageError
    from jaxbert.inference.openvino import without_module

    with without_module("openvino_telemetry"):
        for name in ("openvino", "nncf"):
            try:
                package = import_module(name)
            except ModuleNotFoundError as error:
                raise MissingPackageError(name, "int8") from error
    return package


# --- texts ---------------------------------------------------------------------------------------


def calibration_texts(file: Path | None) -> list[str]:
    """The lines of a file that are not blank, at most CALIBRATION of them, evenly spread.

    NotDoneError for no file, for one that is no UTF-8, and for one without a text.
    """
    if file is None:
        raise NotDoneError(
            "--int8 full measures the ranges of numbers on texts; give --calibration FILE.txt with "
            f"some {CALIBRATION} of the texts that will be embedded, one a line"
        )
    try:
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise NotDoneError(f"{file} is not UTF-8; write its texts so, one a line") from error
    if not lines:
        raise NotDoneError(f"{file} has no text in it; give texts for calibration, one a line")
    chosen = np.linspace(0, len(lines) - 1, min(CALIBRATION, len(lines))).round().astype(int)
    return [lines[i] for i in chosen]


def scored_pairs(file: Path) -> list[Any]:
    """Pairs of texts with scores: JSONL, CSV, Parquet or TSV with sentence1, sentence2 and score.

    A TSV has a header, and its quotes are characters like others. Errors as of read_scored;
    NotDoneError for a TSV that has no such rows.
    """
    from jaxbert.train.evaluate import Scored, read_scored

    if file.suffix.lower() != ".tsv":
        return read_scored([str(file)])
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
        found = [Scored(row["sentence1"], row["sentence2"], float(row["score"])) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise NotDoneError(
            f"{file} is not a table with a header and the columns sentence1, sentence2 and score, "
            "separated by tabs; correct it, or give JSONL or CSV"
        ) from error
    if len(found) < 2:
        raise NotDoneError(f"{file} has {len(found)} pairs; a correlation needs two")
    return found


def batch_of(model: Any, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """The inputs [b, t] of texts as they are, without a prompt; long ones are cut."""
    from jaxbert.verify.compare import pad

    return feeds(*pad(model.needed_tokenizer(texts, model.part.max_length)))


# --- the file ------------------------------------------------------------------------------------


@contextmanager
def quiet() -> Iterator[None]:
    """A context in which NNCF's bars go to stderr, and its failures become a NotDoneError."""
    import logging

    nncf().set_log_level(logging.ERROR)
    try:
        with redirect_stdout(sys.stderr):
            yield
    except Exception as error:  # NNCF's errors have no common class
        raise NotDoneError(f"NNCF failed ({error}); export without --int8") from error


def in_int8(file: bytes, mode: str, calibration: Sequence[Mapping[str, np.ndarray]] = ()) -> bytes:
    """The file in one of MODES; calibration is the inputs of single texts, which `full` needs.

    The same arguments give the same bytes.
    """
    import onnx

    package, model = nncf(), onnx.load_from_string(file)
    taken = {port.name for port in model.graph.input}
    with quiet():
        if mode == "full":
            # One by one, for the states of padding would be counted too.
            given = [{k: x for k, x in one.items() if k in taken} for one in calibration]
            made = package.quantize(
                model,
                package.Dataset(given),
                model_type=package.ModelType.TRANSFORMER,
                preset=package.QuantizationPreset.MIXED,
                target_device=package.TargetDevice.CPU,
                subset_size=len(given),
                fast_bias_correction=True,
            )
        else:
            kinds = package.CompressWeightsMode
            kind = kinds.INT8_SYM if mode == "weights-symmetric" else kinds.INT8_ASYM
            made = package.compress_weights(model, mode=kind)
    return bytes(made.SerializeToString())


# --- what it changes -----------------------------------------------------------------------------


class Cosines(NamedTuple):
    """The least and the mean cosine of rows of numbers, int8 and float32."""

    least: float
    mean: float


def cosines(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> Cosines:
    """The cosines of rows [n, d] of both sides; NaN where one is not finite."""
    found = []
    for pair in pairs:
        a, b = (np.asarray(side, np.float64) for side in pair)
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        found.append((a * b).sum(axis=1) / np.maximum(lengths, np.finfo(np.float64).tiny))
    together = np.concatenate(found)
    return Cosines(float(together.min()), float(together.mean()))


def encoder_of(run: Runtime, model: Any, output: str) -> Callable[[Sequence[str]], np.ndarray]:
    """A function of texts that gives their vectors [n, width] by a file; states are pooled."""
    import jax.numpy as jnp

    from jaxbert.model.head import PoolingHead

    head = PoolingHead(model.stack.pooling, model.stack.after)

    def encode(texts: Sequence[str]) -> np.ndarray:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        found: list[Any] = [None] * len(texts)
        for start in range(0, len(order), ROWS):
            chosen = order[start : start + ROWS]
            given = batch_of(model, [texts[i] for i in chosen])
            rows = run(given)
            if output != "sentence_embedding":
                seen = jnp.asarray(given["attention_mask"] != 0)
                rows = np.asarray(head(jnp.asarray(rows), seen))
            for i, row in zip(chosen, rows, strict=True):
                found[i] = row
        return np.stack(found)

    return encode


def beside_float32(file: bytes, model: Any, output: str) -> dict[str, Cosines]:
    """By runtime, the cosines of the file's rows to those of the encoder, on a few texts."""
    return {
        name: cosines(beside_encoder(start(file), model, output, as_texts(model)))
        for name, start in RUNTIMES.items()
    }


def cosine_lines(found: Mapping[str, Cosines]) -> list[str]:
    """A sentence for each runtime."""
    return [
        f"cosine to the float32 encoder in {name}: least {own.least:.4f}, mean {own.mean:.5f}"
        for name, own in found.items()
    ]


def close_enough(found: Mapping[str, Cosines]) -> bool:
    """Whether every mean cosine is at least FLOOR; NaN is not."""
    return all(own.mean >= FLOOR for own in found.values())


def correlations(
    files: Mapping[str, bytes], model: Any, output: str, pairs: Sequence[Any]
) -> dict[str, float]:
    """Spearman's correlation times 100 on pairs with scores.

    files are those in float32 and in int8, by these names; the first runs in ONNX Runtime, the
    second in each of RUNTIMES, by whose names their results are.
    """
    from jaxbert.train.evaluate import correlation

    runs = {"float32": in_onnxruntime(files["float32"])}
    runs |= {name: start(files["int8"]) for name, start in RUNTIMES.items()}
    return {name: correlation(encoder_of(run, model, output), pairs) for name, run in runs.items()}


# --- all of it -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What is asked for: one of MODES, texts for calibration, pairs with scores."""

    mode: str
    texts: Sequence[str] = ()
    pairs: Sequence[Any] = ()

    @classmethod
    def of(cls, mode: str, calibration: Path | None, sts: Path | None) -> "Plan":
        """The plan of these options; its files are read, and nncf looked for, before long work.

        NotDoneError for options that do not go together; errors as of the functions that read.
        """
        if mode != "full" and calibration is not None:
            raise NotDoneError(
                f"--int8 {mode} looks at weights alone; leave --calibration out, or take "
                "--int8 full"
            )
        nncf()
        texts = calibration_texts(calibration) if mode == "full" else ()
        return cls(mode, texts, () if sts is None else scored_pairs(sts))

    @property
    def about(self) -> dict[str, Any]:
        """What onnx/jaxbert.json says of it."""
        found: dict[str, Any] = {"mode": self.mode, "nncf": nncf().__version__}
        if self.texts:
            joined = "\n".join(self.texts).encode("utf-8")
            found["calibration_texts"] = len(self.texts)
            found["calibration_sha256"] = hashlib.sha256(joined).hexdigest()
        return found

    @property
    def advice(self) -> str:
        """What to do where the file is not close enough."""
        if self.mode == "full":
            return (
                f"the ranges were measured on {len(self.texts)} texts; give more of them, of all "
                "kinds and lengths, or take --int8 weights"
            )
        return "this model's weights do not bear 8 bits; export it without --int8"

    def file(self, float32: bytes, model: Any) -> bytes:
        """The file in int8."""
        given = [batch_of(model, [text]) for text in self.texts]
        return in_int8(float32, self.mode, given)

    def correlated(self, float32: bytes, file: bytes, model: Any, output: str) -> list[str]:
        """Sentences about the correlation of both files with the scores; none without pairs."""
        if not self.pairs:
            return []
        found = correlations({"float32": float32, "int8": file}, model, output, self.pairs)
        full = found.pop("float32")
        head = f"Spearman x 100 on {len(self.pairs)} pairs"
        return [
            f"{head}: {full:.3f} in float32",
            *(f"{head}, int8 in {k}: {x:.3f} ({x - full:+.3f})" for k, x in found.items()),
        ]
