"""What `encode` gives, and what it makes of vectors: width, length one, precision; long texts."""

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
# torch's names of devices, and JAX's.
PLATFORMS = {"cuda": "gpu", "xla": "tpu"}


class LongTextWarning(UserWarning):
    """Texts had more tokens than the model takes, and only their beginning was embedded."""


class TokenEmbeddings(NamedTuple):
    """The last states of one text's tokens, and what each token is."""

    embeddings: np.ndarray  # [t, d] float32
    ids: np.ndarray  # [t] int32, special tokens and those of a prompt included
    offsets: np.ndarray  # [t, 2]: from where to where in the text, in characters; 0, 0 outside it
    mask: np.ndarray  # [t] bool: pooled by `encode`

    def as_dict(self, vector: np.ndarray) -> dict[str, np.ndarray]:
        """This and the text's vector under the names that sentence-transformers has for them."""
        return {
            "input_ids": self.ids,
            "attention_mask": np.ones_like(self.ids),
            "offset_mapping": self.offsets,
            "token_embeddings": self.embeddings,
            "sentence_embedding": vector,
        }


@dataclass(frozen=True)
class Finish:
    """Vectors -> the first features, then length one, then fewer bits; checked when made."""

    width: int
    normalize: bool = False
    precision: Precision = "float32"
    ranges: Ranges | None = None

    def __post_init__(self) -> None:
        """Refuse a precision that there is not, and ranges that nothing uses."""
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
        """float32 [n, full width] -> [n, width], or [n, ceil(width / 8)] for one bit a feature."""
        kept = vectors[:, : self.width]
        if self.normalize:
            kept = unit_length(kept)
        if self.precision == "float32":
            return kept
        return quantize_embeddings(kept, self.precision, self.ranges)


@dataclass
class LongTexts:
    """What becomes of texts beyond the maximum length; `tokenizer` tells it of each."""

    what: OnLong = "truncate"
    most: int = 0
    found: dict[int, int] = field(default_factory=dict)  # text -> its tokens, uncut

    def __post_init__(self) -> None:
        """Refuse what is none of the three."""
        choice(self.what, "on_long", get_args(OnLong))

    @property
    def listens(self) -> bool:
        """Whether it wants to know; nobody is asked to count what is not used."""
        return self.what != "truncate"

    def __call__(self, text: int, tokens: int) -> None:
        """Note a text that was cut, or refuse it."""
        if self.what == "error":
            raise InputError(
                f"text {text} has {tokens} tokens, and the maximum is {self.most}; shorten it, cut "
                'it with on_long="truncate", or embed its parts with encode_chunks'
            )
        self.found[text] = tokens

    def report(self) -> None:
        """One warning for all texts that were cut, if that was asked for."""
        if self.what == "warn" and self.found:
            text = max(self.found, key=self.found.__getitem__)
            warn_caller(
                f"{len(self.found)} texts were cut to {self.most} tokens; the longest is text "
                f"{text} with {self.found[text]}",
                LongTextWarning,
            )


def check_output(output_value: Any, finish: Finish, texts: int) -> None:
    """Refuse an output that there is not, and steps that are for sentence vectors alone."""
    if output_value is not None:  # which is both
        choice(output_value, "output_value", get_args(Output))
    if output_value != "sentence_embedding" and (finish.precision != "float32" or finish.normalize):
        raise InputError(
            "precision and normalize_embeddings are for sentence embeddings; leave them out, or "
            'ask for output_value="sentence_embedding"'
        )
    if finish.precision in ("int8", "uint8") and finish.ranges is None:
        check_enough(texts, finish.precision)


def check_on_empty(on_empty: Any, finish: Finish) -> None:
    """Refuse what is neither of the two, and rows of NaN in numbers that have none."""
    if on_empty not in get_args(OnEmpty):
        raise InputError(
            f"on_empty is {on_empty!r}; it must be one of: {', '.join(get_args(OnEmpty))}"
        )
    if on_empty == "nan" and finish.precision != "float32":
        raise InputError(
            f'on_empty="nan" gives rows of NaN, which {finish.precision} has not; leave precision '
            "out, and quantise the rows that are finite"
        )


def refuse_torch(numpy: bool, tensor: bool, device: Any, pool: Any, chunk_size: Any) -> None:
    """sentence-transformers' arguments that ask for torch tensors, its devices and processes."""
    if flag(tensor, "convert_to_tensor") or not flag(numpy, "convert_to_numpy"):
        raise InputError(
            "vectors are NumPy arrays here, so leave out convert_to_tensor and convert_to_numpy; "
            "torch.from_numpy(vectors) makes a tensor of them"
        )
    here = backend()
    asked = device.split(":")[0] if isinstance(device, str) else ""
    if device is not None and PLATFORMS.get(asked, asked) != here:
        raise InputError(
            f"device is {shown(device)}, but this process computes on {here}; leave it out, and "
            "choose the platform with the environment variable JAX_PLATFORMS"
        )
    if pool is not None or chunk_size is not None:
        raise InputError(
            "pool and chunk_size are for sentence-transformers' processes; leave them out, one "
            "process keeps the device busy here"
        )
