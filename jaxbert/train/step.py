"""One step of training, compiled: (state, batch) -> (state, metrics), in the memory of one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxbert.errors import InputError
from jaxbert.process.backend import check_devices, computing
from jaxbert.train.optimizers import Optimizer
from jaxbert.train.trainable import (
    Frozen,
    Objective,
    parameters,
    value_and_grad,
    with_parameters,
)

# By platform. On a CPU XLA's usual order is that in which most can run at one time, and a quarter
# more memory is in use; the system gives every step its memory afresh, page by page.
OPTIONS: Mapping[str, Mapping[str, str]] = {
    "cpu": {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
}


class State(NamedTuple):
    """All that a step changes: the model, what the optimiser keeps, and the steps that are done."""

    model: Any
    optimizer: Any
    step: jax.Array  # int32 []


def start(model: Any, optimizer: Optimizer, frozen: Frozen = ()) -> State:
    """The state before the first step; arrays are copied, since a step overwrites its state's."""
    with computing():
        own = jax.tree.map(jnp.copy, model)
        return State(own, optimizer.transform.init(parameters(own, frozen)), jnp.int32(0))


def length(gradients: Mapping[str, jax.Array]) -> jax.Array:
    """The root of the sum of the squares of all numbers, in float32."""
    squares = [jnp.square(own.astype(jnp.float32)).sum() for own in gradients.values()]
    return jnp.sqrt(jnp.stack(squares).sum())


def places(devices: Sequence[jax.Device] | None) -> tuple[Any, Any]:
    """Where the state of a step goes, whole on each device, and where its rows; None for one."""
    if devices is None or len(devices) == 1:
        return None, None
    mesh = Mesh(np.array(devices), ("rows",))
    part: Any = PartitionSpec  # which is not typed
    return NamedSharding(mesh, part()), NamedSharding(mesh, part("rows"))


class Step:
    """step(state, batch) -> (state, metrics); the state that goes in is used up.

    metrics are the objective's, `loss`, `gradient_norm` (before clipping) and the rate `lr`. The
    key of a step is fold_in(key(seed), step). Where loss or gradient is not finite, the state comes
    back as it was, with its step not counted. Several devices each take a part of the rows: the
    loss is that of the whole batch, within rounding.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: Optimizer,
        *,
        seed: int = 0,
        frozen: Frozen = (),
        devices: Sequence[jax.Device] | None = None,
    ) -> None:
        """devices None is the first one alone; frozen are parameters that are not trained."""
        self.optimizer, self.seed, self.frozen = optimizer, seed, frozen
        self.devices = check_devices(devices)
        self.gradient = value_and_grad(objective, frozen)
        self.state_place, self.batch_place = places(self.devices)
        more = {} if self.state_place is None else {"out_shardings": self.state_place}
        platform = self.devices[0].platform if self.devices else jax.default_backend()
        options = dict(OPTIONS.get(platform, {}))
        self.compiled = jax.jit(
            self.update, donate_argnums=0, compiler_options=options or None, **more
        )

    def update(self, state: State, batch: Any) -> tuple[State, dict[str, jax.Array]]:
        """The next state, to be compiled."""
        key = jax.random.fold_in(jax.random.key(self.seed), state.step)
        (loss, metrics), gradients = self.gradient(state.model, batch, key)
        norm = length(gradients)
        # A branch, since a choice between two whole states costs as much again as the optimiser.
        values, kept, number = jax.lax.cond(
            jnp.isfinite(loss) & jnp.isfinite(norm),
            lambda values, kept, number: (
                *self.optimizer.updated(gradients, kept, values),
                number + 1,
            ),
            lambda *unchanged: unchanged,
            *(parameters(state.model, self.frozen), state.optimizer, state.step),
        )
        told = {"loss": loss, "gradient_norm": norm, "lr": self.optimizer.rate(state.step)}
        return State(with_parameters(state.model, values), kept, number), {**metrics, **told}

    def placed(self, state: State) -> State:
        """The state on the devices of this step."""
        return state if self.state_place is None else jax.device_put(state, self.state_place)

    def __call__(
        self, state: State, batch: Mapping[str, Any]
    ) -> tuple[State, dict[str, jax.Array]]:
        """One step. Raises InputError for rows that the devices cannot share equally."""
        with computing():
            if self.batch_place is not None:
                rows, number = len(next(iter(batch.values()))), len(self.devices or ())
                if rows % number:
                    raise InputError(
                        f"a batch of {rows} rows cannot be shared by {number} devices; make it a "
                        f"multiple of {number}"
                    )
                batch = jax.device_put(dict(batch), self.batch_place)
            return self.compiled(state, dict(batch))


def step(objective: Objective, optimizer: Optimizer, **options: Any) -> Callable[..., Any]:
    """A Step, compiled once for every shape of batches."""
    return Step(objective, optimizer, **options)
