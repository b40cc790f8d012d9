"""A process forked after JAX had begun would wait for ever: it is refused instead, in time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxbert.errors import ForkedProcessError
from tests.models import write_folder

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are for Unix")

# What the child does is `act`; it says what came of it.
FORK = """
import os, sys, warnings
warnings.simplefilter("ignore")
FOLDER = sys.argv[1]

def in_child(act):
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            print("did", act())
        except BaseException as error:
            print(type(error).__name__, error)
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("fork"), "bert-gelu")


def lines(folder, code, seconds=120):
    """What a fresh process prints; a child that waits for ever is killed with it."""
    started = subprocess.Popen(
        [sys.executable, "-c", FORK + code, str(folder)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = started.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(started.pid, 9)
        started.communicate()
        pytest.fail("the child waits for ever")
    assert started.returncode == 0, err
    return out.splitlines()


def refused(line):
    return line.startswith(f"{ForkedProcessError.__name__} this process was forked after JAX had")


def test_everything_that_computes_is_refused_in_the_child_and_works_in_the_parent(folder):
    code = """
import jaxbert, numpy as np
from jaxbert.verify import opened
own = jaxbert.Embedder.from_pretrained(FOLDER)
before = own.encode(["a b", "c"])
for act in (
    lambda: own.encode("a"),
    lambda: own.encode_query("a"),
    lambda: own.encode_tokens("a"),
    lambda: own.encode_chunks("a", [(0, 1)]),
    lambda: own.warmup(5),
    lambda: own.encoder([[3, 4]]),
    lambda: own.encoder.hidden_states([[3, 4]]),
    lambda: jaxbert.mean_pool(np.ones((2, 3, 5)), np.ones((2, 3))),
    lambda: jaxbert.Embedder.from_pretrained(FOLDER),
    lambda: jaxbert.Encoder.from_pretrained(FOLDER),
    lambda: jaxbert.Embedder(own.encoder, own.tokenizer),
    lambda: opened.load_model(FOLDER, revision=None, ignore_config=(), dtype="float32"),
    lambda: in_child(lambda: own.encode("a")),
    lambda: own.similarity(before, before).shape,
    lambda: own.count_tokens("a b"),
):
    in_child(act)
print((own.encode(["a b", "c"]) == before).all())
"""
    *made, of_grandchild, no_jax, no_jax_too, parent = lines(folder, code)
    # The grandchild speaks first, then its parent, which did nothing.
    assert all(map(refused, made)), made
    assert len(made) == 13
    assert of_grandchild == "did None"
    assert (no_jax, no_jax_too, parent) == ("did (2, 2)", "did 4", "True")


def test_a_loaded_model_that_never_encoded_is_refused_too(folder):
    code = """
import jaxbert
own = jaxbert.Embedder.from_pretrained(FOLDER)
in_child(lambda: own.encode("a"))
"""
    (line,) = lines(folder, code)
    assert refused(line)


@pytest.mark.parametrize("first", ["import jaxbert", "pass"])
def test_jax_of_the_parent_alone_is_noticed(folder, first):
    code = f"""
{first}
import jax.numpy as jnp
jnp.ones(3).sum()
def act():
    import jaxbert
    return jaxbert.Embedder.from_pretrained(FOLDER).encode("a").shape
in_child(act)
print("parent", act())
"""
    child, parent = lines(folder, code)
    assert refused(child) or (first == "pass" and not Path("/proc/self/task").is_dir())
    assert parent == "parent (15,)"


def test_a_fork_before_jax_begins_works(folder):
    code = """
import jax, jaxbert, jaxbert.embedder, jaxbert.verify.report
act = lambda: jaxbert.Embedder.from_pretrained(FOLDER).encode("a b").shape
in_child(act)
in_child(act)
print("parent", act())
"""
    assert lines(folder, code) == ["did (15,)", "did (15,)", "parent (15,)"]


def test_a_pool_of_forked_workers_gets_the_sentence(folder):
    code = """
import jaxbert, multiprocessing
own = jaxbert.Embedder.from_pretrained(FOLDER)
own.encode("a")
def work(text): return own.encode(text)
with multiprocessing.get_context("fork").Pool(2) as pool:
    try: pool.map(work, ["a", "b", "c"])
    except jaxbert.JaxbertError as error: print(type(error).__name__, error)
"""
    (line,) = lines(folder, code)
    assert refused(line)


def test_importing_jaxbert_starts_no_thread(folder):
    code = """
import jaxbert, threading
import jaxbert.embedder, jaxbert.verify.report, jaxbert.cli
print(threading.active_count(), "jax" in sys.modules)
from jaxbert.process.forked import jax_runs
import jax
print(jax_runs())
jax.numpy.ones(3)
print(jax_runs())
"""
    assert lines(folder, code) == ["1 True", "False", "True"]
