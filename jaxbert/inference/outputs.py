"""The outputs of `encode`: token states, width, normalisation and precision; long texts."""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from jaxbert.arguments import choice, flag
from jaxbert.errors import InputError, shown, warn_caller
from jaxbert.inference.quantise import (
    Precision,
    Ranges,
    check_enough,
    check_precision,
    quantize_embeddings,
)
from jaxbert.inference.similarity import unit_length
from jaxbert.process.backend import backend

Output = Literal["sentence_embedding", "token_embeddings"]
OnLong = Literal["truncate", "warn", "error"]
OnEmpty = Literal["error", "nan"]
# From torch's names of devices to JAX's.
PLATFORMS = {"cuda": "gpu", "xla": "tpu"}


class LongTextWarning(UserWarning):
    """Texts had more tokens than the model takes, and only their beginning was embedded."""


class TokenEmbeddings(NamedTuple):
    """The last states of one text's tokens, with their ids, offsets and pooling mask."""

    embeddings: np.ndarray  # [t, d] float32
    ids: np.ndarray  # [t] int32, special tokens and those of a prompt included
    offsets: np.ndarray  # [t, 2]: first character in the text, and end; 0, 0 outside it
    mask: np.ndarray  # [t] bool: pooled by `encode`

    def as_dict(self, vector: np.ndarray) -> dict[str, np.ndarray]:
        """These fields and the text's vector, by sentence-transformers' names."""
        return {
            "input_ids": self.ids,
            "attention_mask": np.ones_like(self.ids),
            "offset_mapping": self.offsets,
            "token_embeddings": self.embeddings,
            "sentence_embedding": vector,
        }


@dataclass(frozen=True)
class Finish:
    """The steps after the model: the first `width` features, length one, precision."""

    width: int
    normalize: bool = False
    precision: Precision = "float32"
    ranges: Ranges | None = None

    def __post_init__(self) -> None:
        """Raise InputError for an unknown precision, or ranges that do not fit it or the width."""
        check_precision(self.precision)
        if self.ranges is None:
            return
        if self.precision not in ("int8", "uint8"):
            raise InputError(f"ranges are for int8 and uint8; with {self.precision} leave them out")
        if len(self.ranges.low) != self.width:
            raise InputError(
                f"ranges are for {len(self.ranges.low)} features, but vectors have {self.width}; "
                "take them from vectors of the same model and truncate_dim"
            )

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors [n, full width] as [n, width], or [n, ceil(width / 8)] at a bit per feature."""
        vectors = vectors[:, : self.width]
        if self.normalize:
            vectors = unit_length(vectors)
        if self.precision == "float32":
            return vectors
        return quantize_embeddings(vectors, self.precision, self.ranges)


@dataclass
class LongTexts:
    """How texts beyond the maximum length are treated; the tokenizer reports each of them here."""

    what: OnLong = "truncate"
    most: int = 0
    tokens_of: dict[int, int] = field(default_factory=dict)  # cut text -> its tokens before

    def __post_init__(self) -> None:
        """Raise InputError for an unknown value of on_long."""
        choice(self.what, "on_long", get_args(OnLong))

    @property
    def listens(self) -> bool:
        """Whether the tokenizer must report cut texts, which costs it time."""
        return self.what != "truncate"

    def __call__(self, text: int, tokens: int) -> None:
        """Record a text that was cut. Raises InputError where on_long is "error"."""
        if self.what == "error":
            raise InputError(
                f"text {text} has {tokens} tokens, and the maximum is {self.most}; shorten it, cut "
                'it with on_long="truncate", or embed its parts with encode_chunks'
            )
        self.tokens_of[text] = tokens

    def report(self) -> None:
        """Warn once of all texts that were cut, where on_long is "warn"."""
        if self.what == "warn" and self.tokens_of:
            text = max(self.tokens_of, key=self.tokens_of.__getitem__)
            warn_caller(
                f"{len(self.tokens_of)} texts were cut to {self.most} tokens; the longest is text "
                f"{text} with {self.tokens_of[text]}",
                LongTextWarning,
            )


def check_output(output_value: Any, finish: Finish, texts: int) -> None:
    """Raise InputError for an unknown output_value, or steps that are for text vectors alone."""
    if output_value is not None:  # None asks for vectors and token states
        choice(output_value, "output_value", get_args(Output))
    if output_value != "sentence_embedding" and (finish.precision != "float32" or finish.normalize):
        raise InputError(
            "precision and normalize_embeddings are for sentence embeddings; leave them out, or "
            'ask for output_value="sentence_embedding"'
        )
    if finish.precision in ("int8", "uint8") and finish.ranges is None:
        check_enough(texts, finish.precision)


def check_on_empty(on_empty: Any, finish: Finish) -> None:
    """Raise InputError for an unknown on_empty, and for NaN in a precision without it."""
    if on_empty not in get_args(OnEmpty):
        raise InputError(
            f"on_empty is {on_empty!r}; it must be one of: {', '.join(get_args(OnEmpty))}"
        )
    if on_empty == "nan" and finish.precision != "float32":
        raise InputError(
            f'on_empty="nan" gives rows of NaN, which {finish.precision} has not; leave precision '
            "out, and quantise the rows that are finite"
        )


def check_device(device: Any) -> int | None:
    """The number in the name of a device, None where it has none, from a str or a torch.device.

    Raises InputError unless it names the platform of this process.
    """
    name = device if isinstance(device, str) else getattr(device, "type", None)
    name, _, number = name.partition(":") if isinstance(name, str) else ("", "", "")
    own = getattr(device, "index", None)  # of a torch.device; a method of a str
    number = str(own) if isinstance(own, int) else number
    here = backend()
    if PLATFORMS.get(name, name) != here or number.strip("0123456789"):
        raise InputError(
            f"device is {shown(device)}, but this process computes on {here}; leave it out, and "
            "choose the platform with the environment variable JAX_PLATFORMS"
        )
    return int(number) if number else None


def refuse_torch(numpy: bool, tensor: bool, device: Any, pool: Any, chunk_size: Any) -> None:
    """Raise InputError for sentence-transformers' arguments about tensors, devices, processes."""
    if flag(tensor, "convert_to_tensor") or not flag(numpy, "convert_to_numpy"):
        raise InputError(
            "vectors are NumPy arrays here, so leave out convert_to_tensor and convert_to_numpy; "
            "torch.from_numpy(vectors) makes a tensor of them"
        )
    if device is not None:
        check_device(device)
    if pool is not None or chunk_size is not None:
        raise InputError(
            "pool and chunk_size are for sentence-transformers' processes; leave them out, one "
            "process keeps the device busy here"
        )
