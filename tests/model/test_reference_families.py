"""The reference's families beside BERT, and its heads, against stored outputs of torch code."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from jaxbert.model import reference
from tests.models import FAMILY_FOLDERS, FOLDERS, GOLDEN, T5_FOLDERS
from tests.tolerances import FLOAT64, FUNCTION, GOLDEN_REFERENCE, VISIBLE, close, off

PREFIXES = ("bert.", "roberta.", "model.", "distilbert.", "mpnet.")


def plain(tensors):
    """The tensors by names without the prefix of the encoder."""
    return {
        next((name.removeprefix(p) for p in PREFIXES if name.startswith(p)), name): value
        for name, value in tensors.items()
    }


def load(folder):
    """Config, tensors, the arguments of encode and the stored outputs."""
    config = json.loads((folder / "config.json").read_text())
    golden = load_file(folder / "golden.safetensors")
    given = golden["input_ids"], golden["attention_mask"], golden.get("token_type_ids")
    return config, plain(load_file(folder / "model.safetensors")), given, golden


@pytest.mark.parametrize("folder", FAMILY_FOLDERS, ids=lambda folder: folder.name)
def test_golden_states(folder):
    config, tensors, given, golden = load(folder)
    mask = given[1].astype(bool)
    states = reference.encode(tensors, config, *given)
    assert f"hidden.{len(states)}" not in golden
    for i, state in enumerate(states):
        close(golden[f"hidden.{i}"][mask], state[mask], GOLDEN_REFERENCE)
    pooled = reference.mean_pool(states[-1], mask)
    close(golden["mean_pooled"], pooled, GOLDEN_REFERENCE)
    inner = reference.block_states(tensors, config, *given)
    assert all((a == b).all() for a, b in zip(states[:-1], inner[:-1], strict=True))
    if "last_block" in golden:
        close(golden["last_block"][mask], inner[-1][mask], GOLDEN_REFERENCE)
        assert off(inner[-1], states[-1]) > VISIBLE
    else:
        assert (inner[-1] == states[-1]).all()


def test_there_is_a_golden_folder_of_each_family():
    kinds = {load(folder)[0]["model_type"] for folder in FAMILY_FOLDERS}
    assert kinds == {"distilbert", "modernbert", "mpnet", "nomic_bert", "t5", "xlm-roberta"}


@pytest.mark.parametrize("name", T5_FOLDERS)
def test_rows_of_the_bias_of_t5_are_entries_of_its_table(name):
    _, tensors, given, golden = load(GOLDEN / name)
    table = tensors["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
    bias = reference.relative_bias(table, given[0].shape[1], 128)
    np.testing.assert_array_equal(bias[:, 0], golden["bias_first_query"])
    np.testing.assert_array_equal(bias[:, -1], golden["bias_last_query"])


def test_the_older_key_alone_says_the_same_of_the_feed_forward():
    config, tensors, given, _ = load(GOLDEN / "t5-gated-gelu")
    assert config.pop("dense_act_fn") == "gelu_new"
    assert config.pop("is_gated_act") is True
    last = reference.encode(tensors, config, *given)[-1]
    both = reference.encode(tensors, config | {"dense_act_fn": "gelu_new"}, *given)[-1]
    np.testing.assert_array_equal(last, both)
    exact = reference.encode(tensors, config | {"dense_act_fn": "gelu"}, *given)[-1]
    assert off(exact, last) > VISIBLE


def stored_buckets():
    """torch's answers for pairs of numbers of buckets and largest distances."""
    known = json.loads((GOLDEN / "t5-buckets.json").read_text())
    assert len(known) == 12
    return {tuple(map(int, pair.split(","))): value for pair, value in known.items()}


@pytest.mark.parametrize(("buckets", "farthest"), stored_buckets())
def test_buckets_are_the_published_codes(buckets, farthest):
    expected = np.array(stored_buckets()[buckets, farthest]["bucket_of_distance_0_to_200"])
    distance = np.arange(201)
    before = reference.relative_buckets(-distance, buckets, farthest)
    after = reference.relative_buckets(distance[1:], buckets, farthest)
    np.testing.assert_array_equal(before, expected)
    np.testing.assert_array_equal(after, expected[1:] + buckets // 2)


HEADS = {
    folder.name: folder
    for folder in [*FOLDERS, *FAMILY_FOLDERS]
    if {"pooled", "logits"} & load_file(folder / "golden.safetensors").keys()
}


@pytest.mark.parametrize("name", HEADS)
def test_golden_heads(name):
    config, tensors, given, golden = load(HEADS[name])
    last, mask = reference.encode(tensors, config, *given)[-1], given[1].astype(bool)
    if "pooled" in golden:
        close(golden["pooled"], reference.pooled(tensors, last), GOLDEN_REFERENCE)
    if "mlm_transform" in golden:
        logits = reference.masked_language_logits(tensors, config, last)
        close(golden["logits"][mask], logits[mask], GOLDEN_REFERENCE)
    elif "logits" in golden:
        logits = reference.classification_logits(tensors, config, last, mask)
        close(golden["logits"], logits, GOLDEN_REFERENCE)


def test_there_are_golden_heads_of_each_kind():
    assert set(HEADS) >= {
        *("bert-cross-encoder", "bert-cross-encoder-3labels", "bert-mlm", "jinabert-mlm"),
        *("jinabert-reranker", "mpnet", "xlmr-reranker"),
    }


def drawn(shapes):
    random = np.random.default_rng(0)
    return {name: random.normal(size=shape) for name, shape in shapes.items()}


# No outputs of these two are stored; tests/parity has torch beside them.
def test_the_head_of_distilbert_is_two_projections_with_a_relu_between():
    x, mask = np.random.default_rng(1).normal(size=(2, 3, 5)), np.ones((2, 3))
    tensors = drawn(
        {
            "pre_classifier.weight": (5, 5),
            "pre_classifier.bias": 5,
            "classifier.weight": (7, 5),
            "classifier.bias": 7,
        }
    )
    inner = x[:, 0] @ tensors["pre_classifier.weight"].T + tensors["pre_classifier.bias"]
    assert (inner < 0).any()
    inner[inner < 0] = 0
    expected = inner @ tensors["classifier.weight"].T + tensors["classifier.bias"]
    got = reference.classification_logits(tensors, {"model_type": "distilbert"}, x, mask)
    close(got, expected, FLOAT64)


def test_the_head_of_modernbert_pools_as_its_config_says():
    x, mask = np.random.default_rng(1).normal(size=(2, 3, 5)), np.array([[1, 1, 0], [1, 1, 1]])
    tensors = drawn(
        {
            "head.dense.weight": (5, 5),
            "head.norm.weight": 5,
            "classifier.weight": (7, 5),
            "classifier.bias": 7,
        }
    )
    config = {"model_type": "modernbert", "classifier_activation": "gelu", "norm_eps": 1e-5}

    def logits(pooling, x):
        own = config | {"classifier_pooling": pooling}
        return reference.classification_logits(tensors, own, x, mask)

    mean = np.stack([x[0, :2].mean(axis=0), x[1].mean(axis=0)])[:, None].repeat(3, axis=1)
    close(logits("mean", x), logits("cls", mean), FLOAT64)
    assert off(logits("mean", x), logits("cls", x)) > VISIBLE


# DistilBERT's positions are those in the row, pads counted.
UNMOVED = [folder.name for folder in FAMILY_FOLDERS if folder.name != "distilbert"]


@pytest.mark.parametrize("name", UNMOVED)
def test_padding_on_the_left_changes_nothing(name):
    config, tensors, (ids, mask, types), _ = load(GOLDEN / name)
    ids, real = ids[:1, :9], mask[:1, :9].astype(bool)
    types = None if types is None else types[:1, :9]
    pad = config.get("pad_token_id", 0)
    ids = np.where(real, ids, pad)
    assert (ids[real] != pad).all()

    def shifted(x, value):
        return None if x is None else np.pad(x, ((0, 0), (4, 0)), constant_values=value)

    plain = reference.encode(tensors, config, ids, real, types)[-1]
    moved = reference.encode(
        tensors, config, shifted(ids, pad), shifted(real, False), shifted(types, 0)
    )[-1]
    close(moved[:, 4:][real], plain[real], FUNCTION)


def test_positions_are_counted_by_ids():
    ids = np.array([[1, 1, 5, 7, 1, 3], [4, 4, 1, 1, 1, 1]])
    expected = [[1, 1, 2, 3, 1, 4], [2, 3, 1, 1, 1, 1]]
    np.testing.assert_array_equal(reference.counted_positions(ids, 1), expected)


def test_other_families_are_refused():
    with pytest.raises(ValueError, match="model_type 'longt5' is not written down"):
        reference.encode({}, {"model_type": "longt5"}, np.zeros((1, 2), int), np.ones((1, 2)))
    config, tensors, given, _ = load(GOLDEN / "nomic")
    with pytest.raises(ValueError, match="prenorm is True; only False"):
        reference.encode(tensors, config | {"prenorm": True}, *given)
