"""An opened folder with parts of a user's own code, and that code -> an encoder."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from jaxbert.checkpoint.module import weights
from jaxbert.checkpoint.own.folder import RECORD, OwnCheckpoint
from jaxbert.checkpoint.own.structure import PARTS, differences, structure
from jaxbert.checkpoint.sums import sha256
from jaxbert.checkpoint.tensor_file import FLOATS, Entry, check_numbers, opened
from jaxbert.checkpoint.tensor_names.spelling import listing
from jaxbert.checkpoint.tensors import Checkpoint
from jaxbert.errors import CheckpointError, InputError, InputTypeError, shown
from jaxbert.model.config import EncoderConfig
from jaxbert.process.backend import computing

Module = TypeVar("Module", bound=Any)

# NumPy's names of dtypes, and safetensors'.
STORED = {numpy: stored for stored, numpy in FLOATS.items()} | {
    "float64": "F64",
    "bool": "BOOL",
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
}


def check_names(parts: Any) -> dict[str, Any]:
    """The parts by the argument of Encoder that each is; empty for None.

    Raises InputTypeError and InputError.
    """
    if parts is None:
        return {}
    if not isinstance(parts, Mapping):
        raise InputTypeError(
            f'parts is a {type(parts).__name__}; pass a dict such as {{"position": Window()}}'
        )
    for name, part in parts.items():
        if name not in PARTS:
            raise InputError(f"parts has {shown(name)}; it may have {', '.join(PARTS)}")
        if part is None:
            raise InputError(f"parts has None as {name}; leave it out")
    return dict(parts)


def check_given(stored: Checkpoint, parts: Any, attention: Any) -> dict[str, Any]:
    """The parts that a folder needs and a caller passes; CheckpointError for more or less."""
    given = check_names(parts)
    if "attention" in given and attention is not None:
        raise InputError("attention is passed twice, once in parts; pass it there alone")
    if not isinstance(stored, OwnCheckpoint):
        if given:
            raise CheckpointError(
                f"{stored.folder} has no parts of code of its own, since its config.json says all; "
                "leave parts out"
            )
        return given
    missing, extra = unlike(stored.parts, given), unlike(given, stored.parts)
    if missing:
        raise CheckpointError(
            f"{stored.folder} needs code that is never taken from a folder ({stored.code()}); "
            f"import it and pass {stored.form()} to from_pretrained of Encoder or Embedder, with "
            "the parts that the encoder was made of"
        )
    if extra:
        raise CheckpointError(
            f"{stored.folder} was saved with {stored.form()} alone; leave out {', '.join(extra)}"
        )
    return given


def unlike(names: Collection[str], others: Collection[str]) -> list[str]:
    """The names that are not among the others."""
    return [name for name in names if name not in others]


class Target(NamedTuple):
    """A leaf of an encoder that the folder's arrays are to fill."""

    path: str
    shape: tuple[int, ...]
    dtype: Any
    is_weight: bool  # an nnx.Variable; else a constant, which has a dtype of its own

    @property
    def is_float(self) -> bool:
        """Whether the leaf holds floats."""
        return bool(jnp.issubdtype(self.dtype, jnp.floating))

    def check(self, entry: Entry) -> None:
        """CheckpointError for an array of another shape or dtype."""
        if entry.shape != self.shape:
            raise CheckpointError(
                f"{self.path} has shape {entry.shape} in the folder and {self.shape} in the parts "
                "passed; pass the parts that the encoder was made of"
            )
        if entry.dtype in FLOATS if self.is_weight and self.is_float else self.fits(entry.dtype):
            return
        raise CheckpointError(
            f"{self.path} is stored as {entry.dtype}, and the parts passed have {self.dtype}; pass "
            "the parts that the encoder was made of"
        )

    def fits(self, stored: str) -> bool:
        """Whether safetensors' name of a dtype is that of the leaf."""
        return stored == STORED.get(jnp.dtype(self.dtype).name)


def targets_of(module: Any) -> list[Target]:
    """The leaves of a module, in their order."""

    def is_weight(value: Any) -> bool:
        return isinstance(value, nnx.Variable)

    kinds = [is_weight(leaf) for leaf in jax.tree.leaves(module, is_leaf=is_weight)]
    return [
        Target(path, jnp.shape(leaf), leaf.dtype, kind)
        for (path, leaf), kind in zip(weights(module).items(), kinds, strict=True)
    ]


def load_own(
    stored: OwnCheckpoint,
    make: Callable[[EncoderConfig], Module],
    dtype: DTypeLike,
    device: jax.Device | None = None,
) -> Module:
    """make(config) with the folder's arrays in all its leaves: none unfilled, none left over.

    Weights (nnx.Variable) become dtype; constants keep their own, and also those of the folder
    take the place of those that make gave. Raises CheckpointError for code of other classes or
    fields than jaxbert.json names, and for arrays that do not fit.
    """
    with computing():
        made = make(stored.config)
        check_structure(stored, made)
        targets = targets_of(made)
        check_paths(stored, [target.path for target in targets])
        for target in targets:
            target.check(stored.entries[target.path])
        held = read(stored, targets)
        own = [
            np.asarray(array, dtype if target.is_weight and target.is_float else None)
            for target, array in zip(targets, held, strict=True)
        ]
        return jax.tree.unflatten(jax.tree.structure(made), jax.device_put(own, device))


def check_structure(stored: OwnCheckpoint, made: Any) -> None:
    """CheckpointError where the code passed is other code than the folder names."""
    for path, own, other in differences(structure(made), stored.structure):
        raise CheckpointError(
            f"{path} is {shown(own)} in the parts passed and {shown(other)} in {stored.folder}; "
            "pass the parts that the encoder was made of"
        )


def check_paths(stored: OwnCheckpoint, paths: Collection[str]) -> None:
    """CheckpointError for an array that is missing, or that nothing takes."""
    missing, extra = (
        sorted(set(own) - set(other))
        for own, other in ((paths, stored.entries), (stored.entries, paths))
    )
    if missing:
        raise CheckpointError(
            f"{stored.folder} lacks {listing(missing)}, which the parts passed have; pass the "
            "parts that the encoder was made of"
        )
    if extra:
        raise CheckpointError(
            f"{stored.folder} has {listing(extra)}, which the parts passed have no use for; pass "
            "the parts that the encoder was made of"
        )


def read(stored: OwnCheckpoint, targets: Sequence[Target]) -> list[np.ndarray]:
    """The array of each target; CheckpointError where a file was damaged or a weight is none."""
    (file,) = stored.files
    if sha256(file) != stored.sum:
        raise CheckpointError(
            f"{file} is not the file that {RECORD} has the SHA-256 of; restore both"
        )
    with opened(file) as tensors:
        held = [tensors.get_tensor(target.path) for target in targets]
    for target, array in zip(targets, held, strict=True):
        if target.is_weight and target.is_float:
            check_numbers(array, target.path)
    return held
