"""Two lists of token states side by side: how far apart they are, layer by layer.

`jaxbert verify` feeds it the reference, convert/verify.py feeds it torch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

# Largest |difference| over the largest |state| of a layer, float32 against float64. Rounding gives
# at most 1e-6 in every model measured (convert/README.md); the smallest mistake that we know of,
# tanh gelu for exact gelu, gives 1e-4 and more. bfloat16 keeps 8 bits: one rounding is 4e-3, and
# the roundings of a dozen layers gave at most 8e-3.
TOLERANCE = {"float32": 1e-5, "bfloat16": 3e-2}

# Short and long, upper case, accents, another script, punctuation, nothing at all.
TEXTS = (
    "What is Deep Learning?",
    "A bias is a function of positions, not of a length.",
    "Ça coûte 12,50 € à l'ÉPICERIE du coin.",
    "文章の意味をベクトルにする。",
    "The quick brown fox jumps over the lazy dog. " * 6,
    "",
)


@dataclass(frozen=True)
class Difference:
    """One layer: the largest difference, and the largest state that it is measured against."""

    name: str
    largest: float
    scale: float

    @property
    def relative(self) -> float:
        """largest / scale; NaN where a state is NaN."""
        return self.largest / max(self.scale, 1e-30)


def compare(
    ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], mask: np.ndarray
) -> list[Difference]:
    """The differences of two lists of states [b, t, d], embeddings first, where mask [b, t] is 1.

    Padding is left out: its states mean nothing.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} states cannot be compared with {len(theirs)}")
    valid = np.asarray(mask) != 0
    found = []
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        name = "embeddings" if i == 0 else f"layer {i}"
        found.append(difference(name, np.asarray(a)[valid], np.asarray(b)[valid]))
    return found


def difference(name: str, ours: np.ndarray, theirs: np.ndarray) -> Difference:
    """How far two arrays are apart, measured against the largest number of the second."""
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    return Difference(name, float(np.abs(a - b).max()), float(np.abs(b).max()))


def agree(differences: Iterable[Difference], tolerance: float) -> bool:
    """Whether every layer is within the tolerance; NaN is not."""
    return all(difference.relative <= tolerance for difference in differences)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """The smallest cosine between row i of a and row i of b."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return float(((a * b).sum(axis=-1) / np.maximum(lengths, np.finfo(np.float64).tiny)).min())


def table(differences: Iterable[Difference]) -> str:
    """The differences as lines of text."""
    lines = [f"{'':<12}{'max |diff|':>12}{'max |state|':>14}{'relative':>12}"]
    lines += [
        f"{row.name:<12}{row.largest:>12.2e}{row.scale:>14.3f}{row.relative:>12.2e}"
        for row in differences
    ]
    return "\n".join(lines)


def pad(tokens: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Ids and mask [b, t] of several texts, padded with 0 on the right to the longest."""
    longest = max(len(ids) for ids in tokens)
    ids = np.zeros((len(tokens), longest), np.int32)
    mask = np.zeros((len(tokens), longest), np.int32)
    for row, own in enumerate(tokens):
        ids[row, : len(own)] = own
        mask[row, : len(own)] = 1
    return ids, mask
