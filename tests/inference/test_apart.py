"""Long texts in a process of their own: the same bits, other priority, and it may die."""

import asyncio
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxbert import CrossEncoder, Embedder
from jaxbert.errors import (
    EngineError,
    InputError,
    InputTypeError,
    ProcessEndedError,
    TextError,
)
from jaxbert.inference.apart import Apart, ApartComputer, Child
from jaxbert.inference.batches import Padded
from jaxbert.inference.child import Job, Start, computed
from jaxbert.inference.computers import computers_of
from jaxbert.inference.data_parallel import DataParallel
from jaxbert.inference.model_queue import apart_of
from jaxbert.inference.queue import AsyncCrossEncoder, AsyncEmbedder
from jaxbert.model.attention import dense
from tests.models import scored, write_folder

pytestmark = pytest.mark.skipif(os.name != "posix", reason="priorities are those of POSIX")
ROOT = Path(__file__).parents[2]
# Of no lower priority, so that the tests beside it do not hold it up.
AT_ONCE = Apart(nice=0)
LONG = 7
TEXTS = ["a b", "a b c d e f a b c", "c d " * 7, "f"]


def run(main, limit=120):
    """The result of a coroutine; what hangs fails."""

    async def limited():
        async with asyncio.timeout(limit):
            return await main

    return asyncio.run(limited())


def child_of(queue):
    """The process of a queue, if it has started."""
    (computer,) = queue.lanes[-1].computers
    return computer.child


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("model"), "jinabert-geglu")


def test_the_bits_are_those_of_this_process_and_the_priority_is_lower(folder):
    embedder = Embedder.from_pretrained(folder, deterministic=True)

    async def main():
        async with AsyncEmbedder(embedder, long=LONG, apart=Apart(nice=7)) as queue:
            await queue.encode(TEXTS[:1])
            assert child_of(queue) is None  # it starts with the first long text
            vectors = await queue.encode(TEXTS)
            process = child_of(queue).process
            niceness = os.getpriority(os.PRIO_PROCESS, process.pid)
            states = await queue.encode_tokens(TEXTS)
            before = queue.compilations
            assert before > embedder.compilations > 0
            await queue.encode(TEXTS)
            assert queue.compilations == before
            stats = embedder.stats
            assert stats.tokens >= sum(vectors.tokens)
        return vectors.rows, states.rows, niceness, process

    vectors, states, niceness, process = run(main())
    np.testing.assert_array_equal(vectors, embedder.encode(TEXTS))
    for own, expected in zip(
        states, embedder.encode(TEXTS, output_value="token_embeddings"), strict=True
    ):
        np.testing.assert_array_equal(own, expected)
    assert niceness == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 7)
    assert process.returncode == 0


def test_pairs_have_the_same_bits_too(tmp_path):
    options = {"tensors": scored(), "tokenizer_config": {"model_max_length": 19}}
    model = CrossEncoder.from_pretrained(write_folder(tmp_path, **options), deterministic=True)

    async def main():
        async with AsyncCrossEncoder(model, long=LONG, apart=AT_ONCE) as queue:
            answer = await queue.rerank("a b", TEXTS)
            assert child_of(queue) is not None
            return answer.rows

    np.testing.assert_array_equal(run(main()), model.predict([("a b", text) for text in TEXTS]))


def test_where_the_process_dies_its_texts_fail_and_the_next_ones_do_not(folder):
    embedder = Embedder.from_pretrained(folder, deterministic=True)

    async def main():
        async with AsyncEmbedder(embedder, long=LONG, apart=AT_ONCE) as queue:
            await queue.encode(TEXTS)
            os.kill(child_of(queue).process.pid, signal.SIGKILL)
            with pytest.raises(ProcessEndedError, match="exit code -9"):
                await queue.encode(TEXTS)
            assert queue.healthy
            return (await queue.encode(TEXTS)).rows

    np.testing.assert_array_equal(run(main()), embedder.encode(TEXTS))


def test_a_process_that_died_between_two_texts_costs_none_of_them(folder):
    computer = ApartComputer(None, Embedder.from_pretrained(folder), AT_ONCE)
    first = computer.running()
    os.kill(first.process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, first.process.pid, os.WEXITED | os.WNOWAIT)
    second = computer.running()
    assert second is not first
    assert computer.running() is second
    computer.end()
    assert (first.process.returncode, second.process.returncode) == (-9, 0)


def test_another_package_of_the_name_in_the_folder_is_not_taken(folder, tmp_path, monkeypatch):
    (tmp_path / "jaxbert").mkdir()
    (tmp_path / "jaxbert" / "__init__.py").write_text("raise ImportError('another one')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(ROOT), *(entry for entry in sys.path if entry)])
    child = Child(Embedder.from_pretrained(folder), AT_ONCE)
    child.end()
    assert child.process.returncode == 0


def test_several_devices_need_no_process(folder):
    cpu = jax.devices()[0]
    embedder = Embedder.from_pretrained(folder)
    here = computers_of(embedder.engine, lambda own: {"vectors": own.vectors})[0]
    assert isinstance(apart_of(AT_ONCE, here, embedder), ApartComputer)
    embedder.engine.devices = DataParallel([cpu])
    assert apart_of(AT_ONCE, here, embedder) is None


def test_signals_and_ctrl_c_are_for_the_parent(folder):
    child = Child(Embedder.from_pretrained(folder), AT_ONCE)
    assert os.getpgid(child.process.pid) != os.getpgid(0)
    assert os.getsid(child.process.pid) == os.getsid(0)  # else nice means nothing on Linux
    for name in (signal.SIGINT, signal.SIGTERM):
        child.process.send_signal(name)
    child.send(Job("vectors", Padded(np.arange(1), 1, 11), [np.arange(5, dtype=np.int32)], [0]))
    rows, right, new = child.receive()
    assert rows.shape[0] == 1
    assert right.all()
    assert new == 1
    child.end()
    assert child.process.returncode == 0


def test_it_ends_with_a_parent_that_is_killed(folder):
    code = (
        "import sys, time\n"
        "from jaxbert import Embedder\n"
        "from jaxbert.inference.apart import Apart, Child\n"
        "child = Child(Embedder.from_pretrained(sys.argv[1]), Apart(nice=0))\n"
        "print(child.process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        pid = int(parent.stdout.readline())
        parent.kill()
    for _ in range(200):
        if not Path(f"/proc/{pid}").exists() or zombie(pid):
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("the process has outlived its parent")


def zombie(pid):
    """Whether a process has ended, with nobody to take note of it."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


class Stuck:
    """What a pickle of it becomes cannot be made in another process."""

    def __call__(self, *arguments):
        return dense(*arguments)

    def __reduce__(self):
        return made_in, (os.getpid(),)


def made_in(pid):
    """A Stuck, in the process of this number alone."""
    if os.getpid() != pid:
        raise ValueError("only there")
    return Stuck()


def test_a_model_that_no_other_process_can_have_is_computed_here(folder, caplog):
    embedder, measured = Embedder.from_pretrained(folder, attention=Stuck()), []

    async def main():
        async with AsyncEmbedder(embedder, long=LONG, apart=AT_ONCE) as queue:
            speed = queue.lanes[-1].speed
            speed.measured = lambda tokens, seconds: measured.append(tokens)
            answer = await queue.encode(TEXTS)
            assert child_of(queue) is None
            assert queue.compilations == embedder.compilations > 0
            return answer.rows

    with caplog.at_level(logging.WARNING, "jaxbert.inference.apart"):
        rows = run(main())
    assert not measured, "a batch that had to be compiled says nothing of the speed"
    np.testing.assert_allclose(np.linalg.norm(rows - embedder.encode(TEXTS)), 0.0, atol=1e-5)
    (warning,) = caplog.records
    assert "no process of their own: ValueError: only there" in warning.getMessage()


class Failing:
    """A model whose engine refuses every batch."""

    def __init__(self, error):
        self.engine, self.error = self, error
        self.compilations, self.vectors = 3, "program"

    def dispatch(self, program, batch, tokens, skipped):
        raise self.error


def test_errors_come_back_as_objects_that_the_parent_can_make():
    job = Job("vectors", None, [], [])
    found = computed(Failing(TextError(2, "has no tokens")), job)
    assert isinstance(pickle.loads(pickle.dumps(found)), TextError)
    found = computed(Failing(RuntimeError("RESOURCE_EXHAUSTED: out of memory")), job)
    assert isinstance(found, EngineError)
    assert "RESOURCE_EXHAUSTED" in str(found)


def test_options_of_jax_are_those_of_the_parent():
    before = jax.config.jax_default_matmul_precision
    try:
        Start(0, {"jax_default_matmul_precision": "high"}).apply()
        assert jax.config.jax_default_matmul_precision == "high"
    finally:
        jax.config.update("jax_default_matmul_precision", before)


def test_changed_weights_are_refused_before_the_process_gets_a_text(folder):
    embedder = Embedder.from_pretrained(folder)
    computer = ApartComputer(None, embedder, AT_ONCE)
    computer.here = embedder
    embedder.encoder.embeddings.norm.scale[...] = 2.0
    with pytest.raises(InputError, match="the encoder was changed"):
        computer.begin("vectors", Padded(np.arange(1), 1, 11), [np.arange(5)], [0])
    assert computer.child is None  # which would keep the changed weights


def test_what_is_no_priority_is_refused(folder):
    for nice in (-1, 20, 2.5):
        with pytest.raises((InputError, InputTypeError), match="nice is"):
            Apart(nice=nice)
    with pytest.raises(InputTypeError, match="apart is True; pass Apart"):
        AsyncEmbedder(Embedder.from_pretrained(folder), apart=True)
