"""What is trained of a model: its nnx.Param leaves by name, and the gradients of an objective.

Parameters are a dict from dotted paths to arrays, as is whatever an optimizer keeps for them.
Everything else in a model, such as a scheme's own widths or slopes, stays as it is.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxbert.errors import InputError, InputTypeError, shown
from jaxbert.train.backward import with_faster_gradients

Model = TypeVar("Model")
Batch = Mapping[str, jax.Array]
Key = jax.Array
Scalar = Float[Array, ""]
Metrics = dict[str, Scalar]
Objective = Callable[[Any, Batch, Key], tuple[Scalar, Metrics]]

Parameters = dict[str, jax.Array]
# The parameters that are not trained: the beginnings of their paths, or a function of a path.
Frozen = Sequence[str] | Callable[[str], bool]


def name_of(path: Any) -> str:
    """The dotted name of a path in a pytree, without the wrapper that holds a weight's value."""
    return jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")


def begins(path: str, beginning: str) -> bool:
    """Whether a dotted path is the beginning, or goes on after it."""
    return path == beginning or path.startswith(f"{beginning}.")


def is_frozen(frozen: Frozen, paths: Sequence[str]) -> Callable[[str], bool]:
    """Whether a path is frozen, as a function. Raises InputError for what none begins with."""
    if callable(frozen):
        return frozen
    if isinstance(frozen, str) or not all(isinstance(part, str) for part in frozen):
        raise InputTypeError(
            f'frozen is {shown(frozen)}; pass paths, such as ("encoder.embeddings.word",)'
        )
    for part in frozen:
        if not any(begins(path, part) for path in paths):
            raise InputError(
                f"frozen has {shown(part)}, but no parameter's path begins so; the paths are "
                f"{', '.join(paths)}"
            )
    return lambda path: any(begins(path, part) for part in frozen)


def parameters(model: Any, frozen: Frozen = ()) -> Parameters:
    """The nnx.Param leaves of a model by path, such as encoder.embeddings.word, but the frozen.

    frozen has paths, whose parts are meant too, or is a function of a path. Other leaves are
    constants: an int32 leaf has no gradient, and a float array that is no nnx.Param is not meant to
    be learned. Raises InputError for a path that is none, and for an nnx.Param of integers.
    """
    leaves = jax.tree.leaves_with_path(model, is_leaf=lambda x: isinstance(x, nnx.Variable))
    found = {name_of(path): leaf[...] for path, leaf in leaves if isinstance(leaf, nnx.Param)}
    for path, value in found.items():
        if not jnp.issubdtype(value.dtype, jnp.floating):
            raise InputError(
                f"{path} is an nnx.Param of {value.dtype}, which has no gradient; keep it as an "
                "array"
            )
    left_out = is_frozen(frozen, list(found))
    return {path: value for path, value in found.items() if not left_out(path)}


def with_parameters(model: Model, values: Mapping[str, Any]) -> Model:
    """The model with these values of parameters by path; its other leaves are shared.

    Raises InputError for a path that the model has not.
    """
    leaves, structure = jax.tree.flatten_with_path(model)
    names = [name_of(path) for path, _ in leaves]
    if unknown := sorted(set(values) - set(names)):
        raise InputError(f"the model has no parameter {shown(unknown[0])}; see parameters(model)")
    new = [values.get(name, leaf) for name, (_, leaf) in zip(names, leaves, strict=True)]
    return jax.tree.unflatten(structure, new)


def value_and_grad(
    objective: Objective, frozen: Frozen = ()
) -> Callable[[Any, Batch, Key], tuple[tuple[Scalar, Metrics], Parameters]]:
    """A function of (model, batch, key) -> ((loss, metrics), gradients), for use inside jit.

    The gradients are those of parameters(model, frozen), a dict with its paths: what optax updates.
    On a CPU the objective gets a model whose projections have a faster gradient (backward.py) and,
    for that, no derivative in forward mode: jax.jvp and jax.jacfwd within the objective are refused
    there, while jax.grad and jax.vjp are not.
    """

    def gradient(model: Any, batch: Batch, key: Key) -> tuple[tuple[Scalar, Metrics], Parameters]:
        def of_values(values: Parameters) -> tuple[Scalar, Metrics]:
            own = with_parameters(model, values)
            return objective(with_faster_gradients(own, jax.default_backend()), batch, key)

        return jax.value_and_grad(of_values, has_aux=True)(parameters(model, frozen))

    return gradient
