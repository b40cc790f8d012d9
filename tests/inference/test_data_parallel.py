"""Several devices give the bits of one; here the devices are parts of the host."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxbert import Embedder
from jaxbert.inference.data_parallel import DataParallel, OneDevice, device_batches
from jaxbert.inference.planning import ByLength, ByText
from tests.models import write_folder

TEXTS = [f"{'a b c d e '[: 2 * (i % 6)]}{'q ' * (i % 17)}" for i in range(71)]


@pytest.mark.parametrize("name", ["jinabert-geglu", "bert-gelu"])
def test_two_devices_give_the_bits_of_one(tmp_path, name):
    folder = write_folder(tmp_path, name, sentence_bert_config={"max_seq_length": 19})
    one = Embedder.from_pretrained(folder, deterministic=True)
    two = Embedder.from_pretrained(folder, deterministic=True, devices=jax.local_devices())
    assert isinstance(two.engine.devices, DataParallel)
    assert two.encode(TEXTS).tobytes() == one.encode(TEXTS).tobytes()
    assert two.encode(TEXTS[:1]).tobytes() == one.encode(TEXTS[:1]).tobytes()
    for a, b in zip(one.encode_tokens(TEXTS[:9]), two.encode_tokens(TEXTS[:9]), strict=True):
        assert a.embeddings.tobytes() == b.embeddings.tobytes()
    assert two.stats.texts == one.stats.texts


def test_one_device_is_not_data_parallel(tmp_path):
    folder = write_folder(tmp_path, "bert-gelu")
    embedder = Embedder.from_pretrained(folder, devices=jax.local_devices()[:1])
    assert isinstance(embedder.engine.devices, OneDevice)


def test_warm_is_warm_on_two_devices(tmp_path):
    folder = write_folder(tmp_path, "bert-gelu")
    embedder = Embedder.from_pretrained(folder, deterministic=True, devices=jax.local_devices())
    done = embedder.warmup(16)
    embedder.encode(["a b c", "d"])
    assert embedder.compilations == done > 0


@pytest.mark.parametrize("planner", [ByText(budget=64), ByLength(budget=64)])
@pytest.mark.parametrize("number", [2, 3, 7])
def test_every_text_is_in_one_device_batch(planner, number):
    tokens = [np.full(1 + i % 43, i + 1, np.int32) for i in range(97)]
    batches = planner.plan([len(ids) for ids in tokens])
    seen = []
    for members, filled in device_batches(batches, tokens, number):
        assert len(members) <= number
        assert {len(array) for array in jax.tree.leaves(filled)} == {number}
        for texts, ids, segments in zip(members, filled.ids, filled.segments, strict=False):
            assert set(ids[segments != 0]) == {i + 1 for i in texts}
            seen.extend(texts)
        assert not filled.segments[len(members) :].any()
    assert sorted(seen) == list(range(97))


def test_eight_devices_and_no_collectives(tmp_path):
    """In a process of its own, for the number of devices is set before JAX starts."""
    folder = write_folder(tmp_path, "jinabert-geglu", sentence_bert_config={"max_seq_length": 19})
    code = """
import sys, jax
from jaxbert import Embedder
texts = ["a b " * (i % 11) for i in range(200)]
one = Embedder.from_pretrained(sys.argv[1], deterministic=True)
all_ = Embedder.from_pretrained(sys.argv[1], deterministic=True, devices=jax.local_devices())
print(all_.engine.devices.number, all_.encode(texts).tobytes() == one.encode(texts).tobytes())
text = " ".join(program.as_text() for program in all_.engine.vectors.compiled.values())
exchanges = "all-reduce", "all-gather", "all-to-all", "collective-permute"
print(any(word in text for word in exchanges))
"""
    flags = "--xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-c", code, folder],
        env=os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout == "8 True\nFalse\n", done.stderr
