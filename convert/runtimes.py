"""An ONNX file of an encoder under the two runtimes that people deploy it with, on the CPU."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from common import NotDoneError

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# The arrays of INPUTS -> the one output; an array that the file does not take is left out.
Runtime = Callable[[Mapping[str, np.ndarray]], np.ndarray]


def feeds(ids: np.ndarray, mask: np.ndarray, types: np.ndarray | None = None) -> dict[str, Any]:
    """The arrays [b, t] by the names of the inputs, as int64; without types they are zeros."""
    given = (ids, mask, np.zeros_like(ids) if types is None else types)
    return dict(zip(INPUTS, (array.astype(np.int64) for array in given), strict=True))


def onnxruntime() -> Any:
    """The package onnxruntime; NotDoneError where it is not installed."""
    try:
        import onnxruntime as package
    except ModuleNotFoundError as error:
        raise NotDoneError(
            "onnxruntime is not installed, and no file is written unproved; it comes with "
            "jaxbert's extras named int8 and parity"
        ) from error
    return package


def in_onnxruntime(file: bytes) -> Runtime:
    """The file in onnxruntime; NotDoneError where that is not installed."""
    session = onnxruntime().InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]
    return lambda arrays: session.run(None, {name: arrays[name] for name in names})[0]


def in_openvino(file: bytes) -> Runtime:
    """The file in OpenVINO; MissingPackageError where that is not installed.

    Differs: what int8 leaves in floats is float32, where OpenVINO's default is bfloat16 on a
    processor that multiplies it.
    """
    from jaxbert.inference.openvino import one_sentence, openvino

    core = openvino().Core()
    with one_sentence():
        model = core.compile_model(
            core.read_model(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
        )
    names = [name for name in INPUTS for port in model.inputs if name in port.get_names()]

    def run(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        with one_sentence():
            return np.array(model({name: arrays[name] for name in names})[0])

    return run


RUNTIMES: Mapping[str, Callable[[bytes], Runtime]] = {
    "ONNX Runtime": in_onnxruntime,
    "OpenVINO": in_openvino,
}


def as_texts(model: Any) -> list[list[np.ndarray]]:
    """Ids, mask and types of batches: texts of several lengths, and one alone; types are zeros."""
    from jaxbert.verify.report import sample

    ids, mask, _ = sample(model)
    return [[ids, mask, np.zeros_like(ids)], [ids[:1], mask[:1], np.zeros_like(ids[:1])]]


def as_pairs(model: Any) -> list[list[np.ndarray]]:
    """The same with types as in pairs of texts, where the encoder has several."""
    if model.encoder.config.type_vocab_size == 1:
        return as_texts(model)
    return [
        [ids, mask, (np.cumsum(mask, axis=1) > 3).astype(np.int32)]
        for ids, mask, _ in as_texts(model)
    ]


def beside_encoder(
    run: Runtime, model: Any, output: str, batches: Iterable[Sequence[np.ndarray]]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of numbers, [n, d] from a runtime and from the encoder: states of tokens, or vectors."""
    import jax.numpy as jnp

    from jaxbert.model.head import PoolingHead

    for given in batches:
        theirs, ours, seen = run(feeds(*given)), model.encoder(*given), given[1] != 0
        if output == "sentence_embedding":
            head = PoolingHead(model.stack.pooling, model.stack.after)
            yield theirs, np.asarray(head(ours, jnp.asarray(seen)))
        else:
            yield theirs[seen], np.asarray(ours)[seen]
