"""Reading and writing checkpoints: what is accepted, and what comes back bit for bit."""

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxbert.checkpoint.tensor_names.rule import Rule
from jaxbert.checkpoint.tensors import open_folder, save
from jaxbert.encoder import Encoder
from jaxbert.errors import CheckpointError
from tests.models import ALL_FOLDERS, CONFIGS, arrays, encoder, published, sharded, write_folder
from tests.tolerances import BFLOAT16, close

DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16]
pytestmark = pytest.mark.filterwarnings("ignore::jaxbert.checkpoint.tensors.UnverifiedModelWarning")


def opened(folder, **options):
    """Checkpoint and encoder of a folder."""
    stored = open_folder(folder, **options)
    return stored, Encoder.from_checkpoint(stored)


def identical(a, b):
    """Whether two files hold the same tensors, bit for bit."""
    a, b = load_file(a), load_file(b)
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype
        and a[name].shape == b[name].shape
        and a[name].tobytes() == b[name].tobytes()
        for name in a
    )


# --- round trips -------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ALL_FOLDERS, ids=lambda folder: folder.name)
def test_golden_folders_come_back_bit_for_bit(folder, tmp_path):
    stored, model = opened(folder)
    save(stored, model.weights(), tmp_path / "out")
    assert identical(folder / "model.safetensors", tmp_path / "out" / "model.safetensors")
    again = open_folder(tmp_path / "out")
    assert again.config == stored.config


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "no-position"])
def test_every_kind_comes_back_bit_for_bit_in_every_dtype(name, dtype, tmp_path):
    folder = write_folder(tmp_path / "in", name, dtype=dtype)
    stored, model = opened(folder)
    assert all(weight.dtype == np.float32 for weight in model.weights().values())
    for path, weight in encoder(name).weights().items():
        expected = np.asarray(weight).astype(dtype).astype(np.float32)
        np.testing.assert_array_equal(np.asarray(model.weights()[path]), expected)
    save(stored, model.weights(), tmp_path / "out")
    assert identical(folder / "model.safetensors", tmp_path / "out" / "model.safetensors")


def extended(tensors):
    """The tensors as older programs wrote them: prefix, gamma and beta, heads, position_ids."""
    old = {}
    for name, value in tensors.items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        old["bert." + name.replace("LayerNorm.bias", "LayerNorm.beta")] = value
    old["bert.embeddings.position_ids"] = np.arange(19)[None]
    old["bert.pooler.dense.weight"] = np.ones((15, 15), np.float16)
    old["cls.predictions.bias"] = np.ones(31, np.float32)
    old["classifier.weight"] = np.ones((2, 15), np.float32)
    return old


def test_old_names_heads_and_mixed_dtypes_come_back_too(tmp_path):
    folder = write_folder(tmp_path / "in")
    save_file(extended(published(encoder("bert-gelu"))), folder / "model.safetensors")
    stored, model = opened(folder)
    ids, mask, types = arrays(3)
    np.testing.assert_array_equal(
        np.asarray(model(ids, mask, types)), np.asarray(encoder("bert-gelu")(ids, mask, types))
    )
    assert len(stored.unused) == 4
    save(stored, model.weights(), tmp_path / "out")
    assert identical(folder / "model.safetensors", tmp_path / "out" / "model.safetensors")


@pytest.mark.parametrize("prefix", ["model.", "0.auto_model.", "module.", "_orig_mod.bert.", ""])
def test_prefixes(prefix, tmp_path):
    folder = write_folder(tmp_path)
    tensors = {prefix + name: value for name, value in published(encoder("bert-gelu")).items()}
    save_file(tensors, folder / "model.safetensors")
    _, model = opened(folder)
    got, expected = model.weights(), encoder("bert-gelu").weights()
    assert all((np.asarray(got[path]) == np.asarray(expected[path])).all() for path in expected)


def test_shards_are_read_and_written_back_as_shards(tmp_path):
    folder = write_folder(tmp_path / "in", "jinabert-geglu")
    sharded(folder)
    stored, model = opened(folder)
    save(stored, model.weights(), tmp_path / "out")
    for file in ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"):
        assert identical(folder / file, tmp_path / "out" / file)
    _, again = opened(tmp_path / "out")
    ids, mask, types = arrays(3)
    np.testing.assert_array_equal(
        np.asarray(again(ids, mask, types)), np.asarray(model(ids, mask, types))
    )


def test_weights_of_a_narrower_dtype_are_not_saved_as_if_nothing_was_lost(tmp_path):
    stored = open_folder(write_folder(tmp_path / "in"))
    half = Encoder.from_checkpoint(stored, dtype="bfloat16")
    with pytest.raises(CheckpointError, match="load with dtype float32"):
        save(stored, half.weights(), tmp_path / "out")


def test_dtype_is_that_of_the_weights_here(tmp_path):
    folder = write_folder(tmp_path, dtype=np.float16)
    half = Encoder.from_pretrained(folder, dtype="bfloat16")
    ids, mask, types = arrays(3)
    hidden = half(ids, mask, types)
    assert hidden.dtype == ml_dtypes.bfloat16
    wide = encoder("bert-gelu")(ids, mask, types)
    close(hidden[mask == 1], wide[mask == 1], BFLOAT16)


def test_rules_name_axes_and_turn_round():
    rule = Rule("x", "y", "(g n h) d -> d g n h", flipped="g")
    published_tensor = np.arange(2 * 3 * 5 * 7).reshape(30, 7)
    ours = rule.unpack(published_tensor, (7, 2, 3, 5))
    assert ours[4, 1, 2, 3] == published_tensor[2 * 5 + 3, 4]  # g = 1 is the first half, flipped
    np.testing.assert_array_equal(rule.pack(ours), published_tensor)
    assert rule.published_shape((7, 2, 3, 5)) == (30, 7)
