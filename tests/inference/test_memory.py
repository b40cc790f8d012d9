"""The estimate of memory against what XLA reports, and the refusals that follow from it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxbert import Embedder, Encoder, EncoderConfig
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.errors import DeviceMemoryError
from jaxbert.inference import memory
from jaxbert.inference.engine import Engine
from jaxbert.inference.memory import GIB, estimate, longest
from jaxbert.inference.planning import ByLength
from jaxbert.model.attention import attend, blockwise, dense
from jaxbert.model.position import Alibi
from jaxbert.model.transformer import Inputs
from tests.models import encoder
from tests.tolerances import ESTIMATE

SMALL = EncoderConfig.jinabert(
    vocab_size=3001, hidden_size=320, num_layers=2, num_heads=5, intermediate_size=1280
)
PLAIN = EncoderConfig.bert(
    vocab_size=3001,
    hidden_size=192,
    num_layers=2,
    num_heads=6,
    intermediate_size=768,
    max_positions=8192,
)


def reported(config, attention, b, t):
    """Bytes of the compiled forward pass, as XLA counts them."""
    shapes = jax.eval_shape(lambda: Encoder(config, rngs=nnx.Rngs(0), attention=attention))
    tokens = jax.ShapeDtypeStruct((b, t), jnp.int32)
    positions = jax.ShapeDtypeStruct((1, t), jnp.int32)
    inputs = Inputs(tokens, tokens, tokens, positions)
    analysis = jax.jit(Encoder.forward).lower(shapes, inputs).compile().memory_analysis()
    return analysis.argument_size_in_bytes + analysis.temp_size_in_bytes


@pytest.mark.parametrize("config", [SMALL, PLAIN], ids=["jinabert", "bert"])
@pytest.mark.parametrize(
    ("attention", "b", "t"),
    [(dense, 1, 1536), (dense, 3, 1024), (blockwise, 7, 512), (blockwise, 1, 8192)],
)
def test_the_estimate_is_near_what_xla_reports(config, attention, b, t):
    estimated = estimate(config, attention, jnp.float32, b, t, config.position == "alibi")
    ratio = estimated / reported(config, attention, b, t)
    assert 1 / ESTIMATE < ratio < ESTIMATE


def test_the_estimate_is_quadratic_for_dense_alone():
    for attention, growth in ((dense, 3.5), (blockwise, 1.9), (attend, 1.9)):
        small, large = (
            estimate(SMALL, attention, jnp.float32, 1, t, True) for t in (65536, 131072)
        )
        assert growth < large / small < growth + 0.6


def test_a_bias_of_whatever_scheme_counts():
    plain, biased = (estimate(PLAIN, dense, jnp.float32, 1, 1024, own) for own in (False, True))
    assert biased - plain == 4 * PLAIN.num_heads * 1024**2
    model = Encoder(PLAIN, rngs=nnx.Rngs(0), position=Alibi(PLAIN.num_heads), attention=dense)
    engine = Engine(model, Stack())
    assert engine.has_bias


@pytest.mark.parametrize("attention", [dense, blockwise])
def test_the_longest_is_the_last_that_fits(attention):
    for most in (GIB // 2, 3 * GIB):
        t = longest(SMALL, attention, jnp.bfloat16, 3, most, True)
        assert estimate(SMALL, attention, jnp.bfloat16, 3, t, True) <= most
        assert estimate(SMALL, attention, jnp.bfloat16, 3, t + 1, True) > most
    assert longest(SMALL, attention, jnp.float32, 1, 1000, True) == 0


@pytest.fixture
def small_device(monkeypatch):
    """A device of 30,000 bytes."""
    monkeypatch.setattr(memory, "device_memory", lambda device: 30_000)


def test_an_encoder_refuses_before_it_compiles(small_device):
    model = encoder("jinabert-geglu")
    with pytest.raises(DeviceMemoryError, match=r"3 x 97 tokens need about .* enough for 3 x \d+"):
        model(np.zeros((3, 97), int))
    with pytest.raises(DeviceMemoryError, match="1 x 8191 tokens"):
        model.hidden_states(np.zeros((1, 8191), int))
    fit = longest(model.config, model.attention, jnp.float32, 1, 30_000, True)
    assert 1 < fit < 97
    assert np.isfinite(np.asarray(model(np.zeros((1, fit), int)))).all()


def test_attention_maps_are_counted_as_dense(small_device):
    model = encoder("jinabert-geglu")
    with pytest.raises(DeviceMemoryError):
        model.attentions(np.zeros((1, 31), int))


def test_an_embedder_refuses_before_it_compiles(minilm, monkeypatch):
    embedder = Embedder.from_pretrained(minilm)
    embedder.engine.planner = ByLength(budget=4096)
    monkeypatch.setattr(memory, "device_memory", lambda device: GIB // 10)
    with pytest.raises(DeviceMemoryError, match=r"32 x 128 tokens need"):
        embedder.encode(["word " * 120] * 32)
    assert embedder.compilations == 0
    assert embedder.encode(["word"]).shape == (1, 384)


def test_what_the_device_has():
    total = memory.device_memory()
    assert total is None or total > GIB


@pytest.mark.parametrize(
    ("contents", "limit"), [("123456789\n", 123456789), ("max\n", None), ("", None), ("-1", None)]
)
def test_a_limit_of_the_container_counts(contents, limit, monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "CGROUPS", (tmp_path / "missing", tmp_path / "memory.max"))
    (tmp_path / "memory.max").write_text(contents)
    assert memory.container_memory() == limit
    memory_size = memory.device_memory.__wrapped__()  # without the cache
    assert memory_size == limit if limit else memory_size > GIB


def test_a_trace_is_not_refused(small_device):
    """It may be for another device than the one at hand."""
    model = encoder("jinabert-geglu")
    ids = jax.ShapeDtypeStruct((3, 97), jnp.int32)
    assert jax.eval_shape(model, ids).shape == (3, 97, 15)
