"""The optimiser that training takes unless another is given: AdamW with warm-up, clipped."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxbert.arguments import choice, integer
from jaxbert.errors import InputError

# What becomes of the learning rate after the warm-up.
SHAPES = ("linear", "cosine", "constant")
# Parameters that are not drawn towards zero: those of norms, and what is added.
NOT_DECAYED = ("bias", "scale", "shift")


@contextmanager
def usual_promotion() -> Iterator[None]:
    """JAX's usual rules for mixed types: optax relies on them, whatever the user has set."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


class Optimizer(NamedTuple):
    """A transform of gradients, and the learning rate that it has at a step."""

    transform: optax.GradientTransformation
    plan: optax.Schedule

    def updated(self, gradients: Any, kept: Any, before: Any) -> tuple[Any, Any]:
        """The parameters after a step, and what the transform keeps for the next one."""
        with usual_promotion():
            updates, kept = self.transform.update(gradients, kept, before)
            return optax.apply_updates(before, updates), kept

    def rate(self, step: Any) -> jax.Array:
        """The learning rate of a step, counted from 0."""
        with usual_promotion():
            return jnp.asarray(self.plan(step), jnp.float32)


def schedule(rate: float, steps: int, warmup: int, shape: str = "linear") -> optax.Schedule:
    """From 0 to `rate` in `warmup` steps, then to 0 at `steps`: in a line, or half a cosine.

    "constant" stays at `rate`. Step 0 has rate / warmup, so that none is lost. Raises InputError.
    """
    choice(shape, "schedule", SHAPES)
    steps, warmup = integer(steps, "steps", 1), integer(warmup, "warmup", 0)
    if not 0 < rate < float("inf"):
        raise InputError(f"rate is {rate}; the learning rate must be positive")
    if warmup >= steps:
        raise InputError(f"warmup is {warmup} of {steps} steps; it must leave some of them")
    left = steps - warmup
    rest = {
        "linear": optax.linear_schedule(rate, 0.0, left),
        "cosine": optax.cosine_decay_schedule(rate, left),
        "constant": optax.constant_schedule(rate),
    }[shape]
    if warmup == 0:
        return rest
    rise = optax.linear_schedule(rate / warmup, rate, max(warmup - 1, 1))
    return optax.join_schedules([rise, rest], [warmup])


def decayed(parameters: Mapping[str, Any]) -> dict[str, bool]:
    """Whether weight decay is for a parameter, by its path: not for norms and for biases."""
    return {path: path.rpartition(".")[2] not in NOT_DECAYED for path in parameters}


def adamw(
    rate: float,
    steps: int,
    warmup: int,
    shape: str = "linear",
    decay: float = 0.01,
    clip: float = 1.0,
) -> Optimizer:
    """AdamW (Loshchilov and Hutter, arXiv:1711.05101) of gradients whose norm is at most `clip`.

    b1 = 0.9, b2 = 0.999, eps = 1e-8; decay is not applied to norms and biases. The norm is that of
    all gradients together.
    """
    if not (0 <= decay < float("inf") and clip > 0):
        raise InputError(f"decay is {decay} and clip {clip}; they are 0 or more, and more than 0")
    plan = schedule(rate, steps, warmup, shape)
    chain = optax.chain(
        optax.clip_by_global_norm(clip),
        optax.adamw(
            plan,
            b1=0.9,
            b2=0.999,
            eps=1e-8,
            eps_root=0.0,
            mu_dtype=jnp.float32,
            weight_decay=decay,
            mask=decayed,
        ),
    )
    return Optimizer(chain, plan)
