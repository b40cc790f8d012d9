"""Whatever a user has set in JAX, the vectors are the same."""

import contextlib

import jax
import numpy as np
import pytest

import jaxbert
from jaxbert import Embedder
from jaxbert.verify.info import describe
from jaxbert.verify.opened import load_model
from jaxbert.verify.report import verify_against_reference
from tests.models import write_folder
from tests.tolerances import ENCODER, close

TEXTS = ["a b c", "d", "q a " * 7, ""]
OPTIONS = [
    ("jax_disable_jit", True),
    ("jax_enable_x64", True),
    ("jax_debug_nans", True),
    ("jax_debug_infs", True),
    ("jax_check_tracer_leaks", True),
    ("jax_default_matmul_precision", "bfloat16"),
    ("jax_transfer_guard", "disallow"),
    ("jax_transfer_guard_host_to_device", "disallow_explicit"),
    ("jax_transfer_guard_device_to_host", "disallow"),
    ("jax_numpy_dtype_promotion", "standard"),
    ("jax_default_device", "cpu"),
    ("jax_disable_most_optimizations", True),
]
CONTEXTS = {
    "disable_jit": jax.disable_jit,
    "disallow": lambda: jax.transfer_guard("disallow"),
    "disallow_explicit": lambda: jax.transfer_guard("disallow_explicit"),
    "a mesh": lambda: jax.set_mesh(jax.make_mesh((2,), ("data",))),
    "another default device": lambda: jax.default_device(jax.local_devices()[1]),
}


@contextlib.contextmanager
def updated(name, value):
    before = jax.config.values[name]
    jax.config.update(name, value)
    try:
        yield
    finally:
        jax.config.update(name, before)


SETTINGS = {f"{name}={value}": lambda n=name, v=value: updated(n, v) for name, value in OPTIONS}
SETTINGS |= CONTEXTS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("settings"), "jinabert-geglu")


def everything(folder, devices=None):
    """Results of all public calls, as NumPy arrays."""
    embedder = Embedder.from_pretrained(folder, deterministic=True, devices=devices)
    return {
        "vectors": embedder.encode(TEXTS),
        "tokens": embedder.encode_tokens(TEXTS)[2].embeddings,
        "chunks": embedder.encode_chunks(TEXTS[0], [(0, 2), (2, 5)], overlap=3),
        "states": jax.device_get(embedder.encoder([[3, 4, 5]], segment_ids=[[1, 1, 2]])),
        "hidden": jax.device_get(embedder.encoder.hidden_states([[3, 4]], [[1, 0]])[1]),
        "maps": jax.device_get(embedder.encoder.attentions([[3, 4]])[0]),
        "mean": jax.device_get(jaxbert.mean_pool(np.ones((2, 3, 5)), np.ones((2, 3)))),
    }


@pytest.fixture(scope="module")
def expected(folder):
    return everything(folder)


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_the_vectors_are_the_same(folder, expected, setting):
    with setting():
        got = everything(folder)
    for name, array in expected.items():
        close(got[name], array, ENCODER)  # without optimisations sums have another order


@pytest.mark.parametrize("setting", ["disable_jit", "disallow_explicit", "a mesh"])
def test_two_devices_too(folder, expected, setting):
    with CONTEXTS[setting]():
        vectors = Embedder.from_pretrained(folder, devices=jax.local_devices()).encode(TEXTS)
    close(vectors, expected["vectors"], ENCODER)


def test_jit_may_be_turned_off_and_on_for_one_model(folder):
    embedder = Embedder.from_pretrained(folder)
    before, compiled = embedder.encode(TEXTS), embedder.compilations
    with jax.disable_jit():
        np.testing.assert_allclose(embedder.encode(TEXTS * 2)[:4], before, atol=1e-5)
    assert embedder.compilations == compiled
    assert embedder.encode(TEXTS).tobytes() == before.tobytes()


@pytest.mark.parametrize("setting", ["disable_jit", "disallow"])
def test_models_are_saved_described_and_verified(folder, tmp_path, setting):
    with CONTEXTS[setting]():
        Embedder.from_pretrained(folder).save_pretrained(tmp_path / "whole")
        jaxbert.Encoder.from_pretrained(folder).save_pretrained(tmp_path / "encoder")
        opened = load_model(folder, revision=None, ignore_config=(), dtype="float32")
        assert describe(opened)
        assert verify_against_reference(opened, "float32")[1]
