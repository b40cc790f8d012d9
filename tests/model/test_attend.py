"""attend: which implementation it takes, and that it says so."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbert.cli.options import ATTENTIONS as NAMES
from jaxbert.errors import InputError
from jaxbert.model import attention
from jaxbert.model.attention import ATTENTIONS, SHORT, attend, blockwise, dense, folded, named, plan
from jaxbert.model.position import Alibi, Bias
from tests.model.test_kernel_tpu import LOOKED_UP
from tests.model.test_positions import BIASES
from tests.models import encoder
from tests.tolerances import ENCODER, FUNCTION, close, largest

B, N, H = 2, 3, 5


def arguments(t, bias=None):
    q, k, v = np.random.default_rng(t).normal(size=(3, B, N, t, H)).astype(np.float32)
    positions = jnp.arange(t, dtype=jnp.int32)[None]
    bias = Alibi(N).bias if bias is None else bias
    return *map(jnp.asarray, (q, k, v)), bias, positions, jnp.ones((B, t), jnp.int32)


def same(t, other):
    """Whether attend gives the very bits of another implementation."""

    def fresh(*arrays):  # traced anew: a trace holds its choice
        return attend(*arrays)

    arrays = arguments(t)
    a, b = (np.asarray(jax.jit(f)(*arrays)) for f in (fresh, other))
    close(a, b, FUNCTION)
    return (a == b).all()


def program(implementation, t):
    """What an implementation is before it is compiled."""
    return jax.jit(lambda *arrays: implementation(*arrays)).lower(*arguments(t)).as_text()


def test_short_texts_take_dense_and_long_ones_blockwise_on_cpu():
    assert same(SHORT, dense)
    assert program(attend, SHORT) == program(dense, SHORT) != program(blockwise, SHORT)
    assert same(SHORT + 1, blockwise)
    assert program(attend, SHORT + 1) == program(blockwise, SHORT + 1) != program(dense, SHORT + 1)


def test_short_texts_in_bfloat16_take_folded_on_cpu():
    q, k, v, *rest = arguments(17)
    narrow = [*(x.astype(jnp.bfloat16) for x in (q, k, v)), *rest]
    texts = [
        jax.jit(lambda *a, f=f: f(*a)).lower(*narrow).as_text() for f in (attend, folded, dense)
    ]
    assert texts[0] == texts[1] != texts[2]


@pytest.fixture
def accelerator(monkeypatch):
    """The choice as it is where the default device is not a CPU."""
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")


def test_beside_an_accelerator_the_platform_of_the_program_decides(accelerator):
    assert same(SHORT + 1, blockwise)  # compiled for the CPU after all


@pytest.mark.parametrize("backend", ["cpu", "tpu"])
def test_rows_on_devices_of_their_own(backend, monkeypatch):
    """Contexts and gradients under shard_map; the bias, shared, gets the gradients of all rows."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    q, _, _, bias, positions, _ = arguments(SHORT + 3)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows, same = jax.P("data"), jax.P()

    def context(q, bias):
        ones = jnp.ones(q.shape[::2], jnp.int32)
        return attend(q, jnp.sin(7 * q), jnp.cos(5 * q), bias, positions, ones)

    def loss(q, bias):
        return jnp.square(context(q, bias)).sum()

    def summed(q, bias):
        return jax.lax.psum(loss(q, bias), "data")

    specs = {"mesh": mesh, "in_specs": (rows, same)}
    sharded = jax.jit(jax.shard_map(context, out_specs=rows, **specs))(q, bias)
    close(sharded, context(q, bias), FUNCTION)
    total = jax.shard_map(summed, out_specs=same, **specs)
    ours = jax.jit(jax.grad(total, argnums=(0, 1)))(q, bias)
    theirs = jax.jit(jax.grad(loss, argnums=(0, 1)))(q, bias)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        close(a, b, ENCODER, max(1.0, largest(b)))


def lowered(arrays, platform):
    return jax.export.export(
        jax.jit(lambda *arrays: attend(*arrays)),
        platforms=[platform],
        disabled_checks=[jax.export.DisabledSafetyCheck.custom_call("tpu_custom_call")],
    )(*arrays).mlir_module()


def test_a_program_for_tpu_holds_the_kernel(accelerator):
    assert "tpu_custom_call" in lowered(arguments(SHORT + 1), "tpu")
    assert "tpu_custom_call" not in lowered(arguments(SHORT), "tpu")


def test_a_bias_that_the_kernel_cannot_trace_takes_blockwise_and_says_so(accelerator, caplog):
    with caplog.at_level(logging.WARNING, "jaxbert"):
        text = lowered(arguments(SHORT + 1, LOOKED_UP), "tpu")
    assert "tpu_custom_call" not in text
    assert any("LookedUp uses gather" in record.message for record in caplog.records)


def test_a_program_for_tpu_holds_the_kernel_with_t5s_buckets_too(accelerator):
    assert "tpu_custom_call" in lowered(arguments(SHORT + 1, BIASES["alibi + t5"].bias), "tpu")


class Captured(Bias):
    """ALiBi with a factor that is no leaf but an array from outside."""

    def __init__(self):
        self.slopes = jnp.ones((N,), jnp.float32)

    def __call__(self, pos_q, pos_k):
        return -FACTOR * self.slopes * jnp.abs(pos_q[:, None] - pos_k[None, :]).astype(jnp.float32)


FACTOR = jnp.asarray(0.25)


def test_a_bias_that_captures_an_array_takes_blockwise_and_says_so(accelerator, caplog):
    with caplog.at_level(logging.WARNING, "jaxbert"):
        text = lowered(arguments(SHORT + 1, Captured()), "tpu")
    assert "tpu_custom_call" not in text
    assert any("Captured uses an array that is not its own" in r.message for r in caplog.records)


def test_the_choice_is_logged(caplog):
    with caplog.at_level(logging.INFO, "jaxbert"):
        jax.eval_shape(attend, *arguments(SHORT + 7))
    assert f"2 x 3 heads x {SHORT + 7} tokens: blockwise" in caplog.text


def test_the_plan_in_words():
    short = f"dense (folded in bfloat16) up to {SHORT} tokens"
    assert plan("cpu") == f"{short}, then blockwise (on cpu)"
    assert plan("tpu") == f"dense up to {SHORT} tokens, then tpu (on tpu)"
    assert "then gpu" in plan("gpu")
    assert "then blockwise" in plan("METAL")


def test_names():
    assert tuple(ATTENTIONS) == NAMES
    assert named("dense") is dense
    assert named("auto") is attend
    with pytest.raises(InputError, match="'flash' is unknown; there are auto, dense"):
        named("flash")


def test_forced_kernels_are_the_kernels(monkeypatch):
    arrays = arguments(11)
    for name in ("tpu", "gpu"):
        module = __import__(f"jaxbert.model.attention.{name}", fromlist=["x"])
        marked = 7 * arrays[0]
        monkeypatch.setattr(module, name, lambda *_, marked=marked: marked)
        assert named(name)(*arrays) is marked


def test_the_encoder_takes_attend_unless_it_is_told():
    assert encoder("jinabert-geglu").attention is attention.attend
