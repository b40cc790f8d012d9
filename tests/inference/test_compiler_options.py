"""Which options a program is compiled with, and that they change rounding alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbert.inference import compiler_options as module
from jaxbert.inference.compilation_cache import key
from jaxbert.inference.compiler_options import EIGEN, LIBRARY, compiler_options, is_known
from jaxbert.inference.programs import Program
from tests.tolerances import FUNCTION, close

CPU = jax.local_devices()[0]
FLOAT32, BFLOAT16, INTEGERS = (jnp.zeros((3,), kind) for kind in ("float32", "bfloat16", "int32"))


def test_float32_weights_on_a_cpu_go_to_eigen(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    expected = EIGEN if is_known() else {}
    assert compiler_options([CPU], [FLOAT32, INTEGERS]) == expected


@pytest.mark.parametrize("weights", [[BFLOAT16], [FLOAT32, BFLOAT16], [INTEGERS], []])
def test_other_weights_have_no_options(weights):
    assert compiler_options([CPU], weights) == {}


def test_other_platforms_have_no_options():
    class Chip:
        platform = "tpu"

    assert compiler_options([Chip(), Chip()], [FLOAT32]) == {}
    assert compiler_options([], [FLOAT32]) == {}  # left to JAX


def test_a_library_that_the_user_chose_stays(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", f"--{LIBRARY}=")
    assert compiler_options([CPU], [FLOAT32]) == {}


def test_an_option_that_xla_does_not_know_is_not_passed(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setattr(module, "EIGEN", {"xla_cpu_no_such_option": "1"})
    is_known.cache_clear()
    try:
        assert compiler_options([CPU], [FLOAT32]) == {}
    finally:
        is_known.cache_clear()


def test_results_are_the_same_within_rounding_and_programs_are_kept_apart():
    random = np.random.default_rng(0)
    x, w = (random.normal(size=size).astype(np.float32) for size in ((7, 67), (67, 131)))
    own = Program(lambda w, x: x @ w, jnp.asarray(w), placement=CPU, fixed_placement=CPU)
    close(own(x), x.astype(np.float64) @ w, FUNCTION)
    assert key("a program", [CPU], EIGEN) != key("a program", [CPU], {})
