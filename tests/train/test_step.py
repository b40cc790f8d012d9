"""One step: what it changes, what it leaves, and the same on several devices."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbert.errors import InputError
from jaxbert.train.optimizers import adamw, decayed, schedule
from jaxbert.train.step import Step, start
from jaxbert.train.trainable import parameters
from tests.tolerances import ENCODER, FUNCTION, close
from tests.train.runs import OBJECTIVE, model, taught_batch

RATE = 1e-2


def begun(name="bert-gelu", frozen=(), **options):
    """A state and a step, both with an AdamW of 20 steps."""
    optimizer = adamw(RATE, 20, 3)
    own = Step(OBJECTIVE, optimizer, frozen=frozen, **options)
    return start(model(name), optimizer, frozen), own


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


@pytest.mark.parametrize("name", ["bert-gelu", "jinabert-geglu"])
def test_steps_make_the_loss_small(name):
    state, step = begun(name)
    losses = []
    for i in range(20):
        state, metrics = step(state, taught_batch())
        assert int(state.step) == i + 1
        losses.append(float(metrics["loss"]))
        assert float(metrics["lr"]) == pytest.approx(step.optimizer.rate(i))
    assert losses[-1] < losses[0] / 2
    assert float(metrics["gradient_norm"]) > 0


def test_the_model_that_was_passed_stays():
    own, optimizer = model(), adamw(RATE, 20, 3)
    before = bits(own)
    state, step = start(own, optimizer), Step(OBJECTIVE, optimizer)
    new, _ = step(state, taught_batch())
    assert bits(own) == before != bits(new.model)
    with pytest.raises(RuntimeError, match="deleted"):
        np.asarray(state.model.encoder.embeddings.word[...])


def test_what_is_not_finite_leaves_the_state_as_it_was():
    state, step = begun()
    state, _ = step(state, taught_batch())
    before = bits(state)
    wrong = taught_batch()
    wrong["teacher"] = wrong["teacher"] * np.float32("inf")
    state, metrics = step(state, wrong)
    assert not np.isfinite(metrics["loss"])
    assert bits(state) == before


def test_frozen_parameters_stay_and_take_no_memory():
    frozen = ("encoder.embeddings.word", "encoder.layers.attention.query")
    state, step = begun(frozen=frozen)
    before = {name: np.array(value) for name, value in parameters(state.model).items()}
    state, _ = step(state, taught_batch())
    changed = {
        name
        for name, value in parameters(state.model).items()
        if not np.array_equal(value, before[name])
    }
    assert "encoder.layers.attention.key.weight" in changed
    assert not any(name.startswith(frozen) for name in changed)
    kept = {jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(state.optimizer)}
    assert not any("word" in name or "query" in name for name in kept)


def test_the_key_is_that_of_seed_and_step():
    def drawn(model, batch, key):
        return jnp.square(parameters(model)["encoder.embeddings.word"]).sum() * 0.0, {
            "drawn": jax.random.uniform(key)
        }

    optimizer = adamw(RATE, 20, 0)
    state, step = start(model(), optimizer), Step(drawn, optimizer, seed=7)
    for i in range(3):
        state, metrics = step(state, taught_batch())
        key = jax.random.fold_in(jax.random.key(7), i)
        assert float(metrics["drawn"]) == float(jax.random.uniform(key))


# --- the optimiser -------------------------------------------------------------------------------


def rates(*options):
    plan = schedule(*options)
    return np.array([float(plan(i)) for i in range(options[1] + 1)])


def test_schedules():
    close(rates(1.0, 6, 2, "linear"), np.array([0.5, 1, 1, 0.75, 0.5, 0.25, 0]), FUNCTION)
    half = [1, 0.75, 0.25, 0]
    close(rates(1.0, 3, 0, "cosine"), np.array(half), FUNCTION)
    close(rates(1.0, 4, 1, "constant"), np.ones(5), FUNCTION)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ((0.0, 5, 1), "rate is 0.0; the learning rate must be positive"),
        ((1.0, 5, 5), "warmup is 5 of 5 steps; it must leave some of them"),
        ((1.0, 5, 1, "step"), "schedule is 'step'; it must be one of: linear, cosine, constant"),
    ],
)
def test_schedules_that_are_none(options, match):
    with pytest.raises(InputError, match=match):
        schedule(*options)


def test_norms_and_biases_are_not_decayed():
    found = decayed(parameters(model()))
    assert found["encoder.embeddings.word"]
    assert found["encoder.layers.attention.query.weight"]
    assert not found["encoder.layers.attention.query.bias"]
    assert not found["encoder.embeddings.norm.scale"]
    assert not found["encoder.embeddings.norm.shift"]


def test_gradients_are_clipped_together():
    """AdamW divides by the size of gradients, so this looks at what it is given."""
    optimizer = adamw(RATE, 20, 0, clip=1e-3)
    gradients = {"a.weight": jnp.full((3,), 2.0), "b.weight": jnp.full((5,), -1.0)}
    kept = optimizer.transform.init(gradients)
    _, kept = optimizer.updated(gradients, kept, gradients)
    (mu,) = [
        own.mu
        for own in jax.tree.leaves(kept, is_leaf=lambda x: hasattr(x, "mu"))
        if hasattr(own, "mu")
    ]
    norm = np.sqrt(sum(np.square(own).sum() for own in mu.values()))
    close(norm, np.float32(0.1 * 1e-3), FUNCTION)


# --- several devices -----------------------------------------------------------------------------


def test_devices_share_a_batch():
    """In a process of its own, for the number of devices is set before JAX starts."""
    code = """
import jax, numpy as np
from tests.train.test_step import begun, taught_batch
losses = []
for devices in (None, jax.local_devices()):
    state, step = begun(devices=devices)
    state = step.placed(state)
    for i in range(3):
        state, metrics = step(state, taught_batch(rows=8))
        losses.append(float(metrics["loss"]))
print(len(jax.local_devices()), state.step.sharding.num_devices, *losses)
"""
    flags = "--xla_force_host_platform_device_count=4"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    number, shared, *losses = done.stdout.split()
    assert (number, shared) == ("4", "4")
    one, several = np.array(losses, np.float32).reshape(2, 3)
    close(several, one, ENCODER)
    assert len(set(one)) == 3


def test_rows_that_devices_cannot_share():
    state, step = begun(devices=jax.local_devices())
    with pytest.raises(InputError, match="a batch of 3 rows cannot be shared by 2 devices"):
        step(step.placed(state), taught_batch(rows=3))
