"""What config.json of a family leaves out or says in newer words: encoder, reference, refusals."""

import json
import shutil

import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from jaxbert import Encoder
from jaxbert.errors import CheckpointError
from jaxbert.model import reference
from tests.model.test_reference_families import plain
from tests.models import FAMILY_FOLDERS, GOLDEN
from tests.tolerances import GOLDEN_ENCODER, VISIBLE, close, off

T5_FEED_FORWARD = ("feed_forward_proj", "dense_act_fn", "is_gated_act")


def told(folder, to, drop=(), **keys):
    """A copy of a folder whose config.json lacks the keys in drop and has others."""
    shutil.copytree(folder, to, dirs_exist_ok=True)
    raw = json.loads((folder / "config.json").read_text()) | keys
    raw = {key: value for key, value in raw.items() if key not in drop}
    (to / "config.json").write_text(json.dumps(raw))
    return to, raw


def both(folder, raw):
    """The last states of the encoder and of the reference for the same random text."""
    ids = np.random.default_rng(5).integers(4, raw["vocab_size"], (1, 37))
    tensors = plain(load_file(folder / "model.safetensors"))
    expected = reference.encode(tensors, raw, ids, np.ones_like(ids))[-1]
    return np.asarray(Encoder.from_pretrained(folder)(ids)), expected


@pytest.mark.parametrize("golden", FAMILY_FOLDERS, ids=lambda folder: folder.name)
def test_encoder_and_reference_take_the_same_value_for_a_key_that_is_missing(golden, tmp_path):
    raw, taken = json.loads((golden / "config.json").read_text()), set()
    for key in raw:
        folder, changed = told(golden, tmp_path / "model", drop=(key,))
        try:
            Encoder.from_pretrained(folder)
        except CheckpointError:
            continue  # one that must be there
        close(*both(folder, changed), GOLDEN_ENCODER)
        taken.add(key)
    assert taken >= {"architectures"}
    assert "model_type" not in taken


def test_an_mt5_is_gated_where_nothing_is_said(tmp_path):
    folder, raw = told(
        GOLDEN / "t5-gated-gelu",
        tmp_path,
        drop=(*T5_FEED_FORWARD, "architectures"),
        model_type="mt5",
    )
    close(*both(folder, raw), GOLDEN_ENCODER)


# --- ModernBERT as transformers 5 writes it ------------------------------------------------------

MODERN = GOLDEN / "modernbert"
BASES = {"full_attention": 300.0, "sliding_attention": 7.0}
NESTED = {kind: {"rope_type": "default", "rope_theta": base} for kind, base in BASES.items()}


def test_rope_parameters_go_before_the_older_keys(tmp_path):
    folder, raw = told(MODERN, tmp_path / "new", rope_parameters=NESTED)
    ours, expected = both(folder, raw)
    close(ours, expected, GOLDEN_ENCODER)
    older = dict(zip(("global_rope_theta", "local_rope_theta"), BASES.values(), strict=True))
    close(both(*told(MODERN, tmp_path / "old", **older))[0], expected, GOLDEN_ENCODER)
    assert off(both(*told(MODERN, tmp_path / "golden"))[0], expected) > VISIBLE


def test_rope_parameters_that_say_nothing(tmp_path):
    expected = both(*told(MODERN, tmp_path / "golden"))[0]
    for said in (None, {}, {"full_attention": None}):
        folder, raw = told(MODERN, tmp_path / "model", rope_parameters=said)
        ours, theirs = both(folder, raw)
        np.testing.assert_array_equal(ours, expected)
        close(ours, theirs, GOLDEN_ENCODER)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rope_scaling", {"rope_type": "linear", "factor": 4.0}),
        ("rope_parameters", {"rope_type": "linear", "factor": 4.0, "rope_theta": 5.0}),
        ("sliding_window", 3),
    ],
)
def test_keys_on_which_transformers_acts_are_refused(key, value, tmp_path):
    folder, _ = told(MODERN, tmp_path, **{key: value})
    with pytest.raises(CheckpointError, match=key):
        Encoder.from_pretrained(folder)


def test_an_encoder_of_a_small_vocabulary_names_no_ids_beyond_it(tmp_path):
    """Where they are absent, transformers takes ids of the published vocabulary."""
    drawn_anew("modernbert").save_pretrained(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    assert {raw[f"{name}_token_id"] for name in ("bos", "cls", "eos", "pad", "sep")} == {None}


def drawn_anew(name):
    """An encoder with the config of a golden folder and random weights."""
    return Encoder(Encoder.from_pretrained(GOLDEN / name).config, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("golden", FAMILY_FOLDERS, ids=lambda folder: folder.name)
def test_an_encoder_with_random_weights_is_saved(golden, tmp_path):
    encoder = drawn_anew(golden.name)
    encoder.save_pretrained(tmp_path)
    ids = np.arange(4, 33)[None]
    np.testing.assert_array_equal(Encoder.from_pretrained(tmp_path)(ids), encoder(ids))


# --- nomic-bert as transformers 5 writes it ------------------------------------------------------


def test_the_newer_words_of_nomic_are_named(tmp_path):
    raw = json.loads((GOLDEN / "nomic" / "config.json").read_text())
    sizes = {"hidden_size": raw["n_embd"], "num_attention_heads": raw["n_head"]}
    folder, _ = told(GOLDEN / "nomic", tmp_path, drop=("n_embd", "n_head"), **sizes)
    with pytest.raises(CheckpointError, match="hidden_size for n_embd"):
        Encoder.from_pretrained(folder)
