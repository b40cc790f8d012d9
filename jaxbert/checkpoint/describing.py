"""What the files of a model can say of it; what they cannot is refused before it is saved."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxbert.checkpoint.model_types.table import model_type_for
from jaxbert.checkpoint.module import weights
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.checkpoint.tensor_file import FLOATS
from jaxbert.errors import CheckpointError, shown
from jaxbert.model.attention import is_exact
from jaxbert.model.config import EncoderConfig
from jaxbert.model.head import ACTIVATIONS, POOLINGS, Dense, Normalize, Pooling

# What a subclass may define without computing anything else.
HARMLESS = frozenset(
    "__init__ __doc__ __module__ __qualname__ __annotations__ __dict__ __weakref__ __slots__ "
    "__orig_bases__ __parameters__ __abstractmethods__ __static_attributes__ __firstlineno__ "
    "__annotate__ __annotate_func__ __repr__ __str__ save_pretrained from_pretrained "
    "from_checkpoint _abc_impl".split()
)
KEEP = "keep the weights with encoder.weights() and safetensors"


def check_encoder(module: Any, make: Callable[[EncoderConfig], Any]) -> None:
    """Refuse an encoder that computes anything else than its config says.

    make(config) is an encoder of nothing but what config says. Raises CheckpointError that names
    the part.
    """
    model_type_for(module.config)
    check_same(module, jax.eval_shape(lambda: make(replace(module.config, num_layers=1))))


def check_same(module: Any, plain: Any) -> None:
    """Refuse an encoder that computes anything else than plain, whatever the weights of both.

    plain may have a single layer. Raises CheckpointError that names the part.
    """
    config = module.config
    check_own(module, type(plain), "an encoder")
    if not same_attention(module.attention, plain.attention):
        raise CheckpointError(
            f"the encoder's attention is {shown(module.attention)}, which a config.json cannot "
            "describe, so the folder would compute softmax when it is loaded; save with "
            f'attention=None, or with parts={{"attention": ...}}, or {KEEP}'
        )
    for name in vars(plain):
        own, other = getattr(module, name), getattr(plain, name)
        if isinstance(other, nnx.Module) and not same(own, other):
            where, value = next(differences(own, other, name), (name, own))
            raise CheckpointError(
                f"the encoder's {name} are not what its config makes ({where} is {shown(value)}), "
                f"so a config.json cannot describe them; save with the parts that the encoder was "
                f'made of, such as parts={{"position": ...}}, or {KEEP}'
            )
    check_leaves(weights(module), weights(plain), config.num_layers)


def check_leaves(own: dict[str, Any], plain: dict[str, Any], layers: int) -> None:
    """Names, shapes and dtypes of all weights; those of plain have a single layer."""
    for name, leaf in {**own, **plain}.items():
        if not hasattr(leaf, "dtype"):
            raise CheckpointError(
                f"the encoder's {name} is {shown(leaf)} and no array; make it one, such as "
                "nnx.Param(jnp.array(0.5))"
            )
        if name not in own or name not in plain:
            raise CheckpointError(
                f"the encoder's {name} is {'not there' if name in plain else 'of its own'}, so a "
                f"config.json cannot describe it; {KEEP}"
            )
        shape = plain[name].shape
        shape = (layers, *shape[1:]) if name.startswith("layers.") else shape
        if jnp.shape(own[name]) != shape:
            raise CheckpointError(
                f"the encoder's {name} has shape {jnp.shape(own[name])}, but its config implies "
                f"{shape}"
            )
        kinds = FLOATS.values() if is_float(plain[name]) else (plain[name].dtype.name,)
        if own[name].dtype.name not in kinds:
            raise CheckpointError(
                f"the encoder's {name} is {own[name].dtype.name}; a folder holds {', '.join(kinds)}"
            )


def is_float(leaf: Any) -> bool:
    """Whether a leaf holds floats."""
    return bool(jnp.issubdtype(leaf.dtype, jnp.floating))


def same_attention(own: Any, other: Any) -> bool:
    """Whether two attentions compute the same: both the package's, or equal."""
    if isinstance(other, nnx.Module):  # compared with the other modules
        return isinstance(own, nnx.Module)
    return (is_exact(own) and is_exact(other)) or equal(own, other)


def equal(own: Any, other: Any) -> bool:
    """Whether two values of a user's classes are equal, as these say."""
    try:
        return own is other or bool(own == other)
    except Exception:  # classes that compare nothing, or arrays
        return False


def check_head(head: Any, plain: Any) -> None:
    """Refuse a head that computes anything else than plain, the one that the files describe."""
    check_own(head, type(plain), "a head")
    own, other = weights(head), weights(plain)
    shapes = [{name: jnp.shape(x) for name, x in held.items()} for held in (own, other)]
    if not same(head, plain) or shapes[0] != shapes[1]:
        where, value = next(differences(head, plain, "head"), ("its weights", shapes[0]))
        raise CheckpointError(
            f"the head is not what its files would describe ({where} is {shown(value)}); keep its "
            "weights with safetensors"
        )


def same(own: Any, other: Any) -> bool:
    """Whether two modules are of the same classes with the same fields, whatever their weights."""
    try:
        return bool(jax.tree.structure(own) == jax.tree.structure(other))  # type: ignore[operator]
    except Exception:  # fields of a kind that cannot be compared are not those of the package
        return False


def differences(own: Any, other: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Which fields of two modules differ, and what they are in the first."""
    if type(own) is not type(other):
        yield path, own
    elif isinstance(other, nnx.Module):
        mine, theirs = vars(own), vars(other)
        for name in [*theirs, *(name for name in mine if name not in theirs)]:
            if not name.startswith("_"):
                here = f"{path}.{name}"
                yield from differences(mine.get(name), theirs.get(name), here)
    elif not isinstance(other, nnx.Variable | jax.ShapeDtypeStruct) and own != other:
        yield path, own


def check_own(thing: Any, base: type, title: str) -> None:
    """Refuse an object whose class, or which itself, has other methods than the package's class."""
    for kind in type(thing).__mro__:
        if kind in base.__mro__:
            continue
        for name in vars(kind):
            special = name.startswith("__") and name.endswith("__")
            if name in HARMLESS or name.startswith("_pytree__"):  # of nnx
                continue
            if special or hasattr(base, name):
                raise CheckpointError(
                    f"{kind.__name__} is {title} with a {name} of its own, which no file can "
                    f"describe; save {title} of the package's class"
                )
    for name in vars(thing):
        if callable(getattr(base, name, None)):
            raise CheckpointError(
                f"{name} of this {type(thing).__name__} was replaced, which no file can describe; "
                f"save {title} of the package's class as it is"
            )
    if not isinstance(thing, base):
        raise CheckpointError(
            f"this is a {type(thing).__name__}, not {title} of the package's, so no file describes "
            "it"
        )


def check_stack(stack: Any, hidden_size: int) -> None:
    """Refuse a step between the states and the vectors that no module of a folder computes."""
    if type(stack) is not Stack or type(stack.pooling) is not Pooling:
        raise CheckpointError("the stack is of a class of its own, which no folder describes")
    steps = [step for step in stack.after if type(step) not in (Dense, Normalize)]
    strange = [mode for mode in stack.pooling.modes if mode not in POOLINGS]
    strange += [
        step.activation
        for step in stack.after
        if isinstance(step, Dense) and step.activation not in ACTIVATIONS
    ]
    if stack.truncate_dim is not None and not 0 < stack.truncate_dim <= stack.width(hidden_size):
        strange.append(f"truncate_dim {stack.truncate_dim}")
    for wrong in (*steps, *strange):
        raise CheckpointError(f"the stack has {shown(wrong)}, which no folder describes")
