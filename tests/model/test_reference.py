"""The reference against stored outputs of third-party torch code, and its literal constants."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from jaxbert.checkpoint.tensor_names.spelling import spelled_out
from jaxbert.model import reference
from jaxbert.model.position import alibi_slopes
from tests.models import FOLDERS
from tests.tolerances import FLOAT64, GOLDEN_REFERENCE, PRINTED, TABLES, close

# Published values: the slopes of the ALiBi authors' code, written as numbers.
SLOPES = {
    1: [2**-8],
    3: [2**-4, 2**-8, 2**-2],
    6: [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3],
    8: [0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625],
    12: [
        *(0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625),
        *(0.70710678118, 0.35355339059, 0.17677669529, 0.08838834764),
    ],
    16: [
        *(0.70710678118, 0.5, 0.35355339059, 0.25, 0.17677669529, 0.125, 0.08838834764, 0.0625),
        *(0.04419417382, 0.03125, 0.02209708691, 0.015625),
        *(0.01104854345, 0.0078125, 0.00552427172, 0.00390625),
    ],
}


@pytest.mark.parametrize("heads", SLOPES)
@pytest.mark.parametrize("slopes", [reference.alibi_slopes, alibi_slopes])
def test_slopes_are_the_published_numbers(heads, slopes):
    close(slopes(heads), SLOPES[heads], PRINTED, np.array(SLOPES[heads]))


@pytest.mark.parametrize("heads", range(1, 41))
def test_both_slope_functions_agree(heads):
    assert len(alibi_slopes(heads)) == heads
    slopes = alibi_slopes(heads)
    close(reference.alibi_slopes(heads), slopes, FLOAT64, np.array(slopes))


def test_alibi_is_symmetric_and_zero_on_the_diagonal():
    bias = reference.alibi(3, 7)
    assert bias.shape == (3, 7, 7)
    np.testing.assert_array_equal(bias, bias.transpose(0, 2, 1))
    np.testing.assert_array_equal(np.diagonal(bias, axis1=1, axis2=2), 0.0)
    assert bias[0, 2, 5] == -3 * 2**-4


# Values from tables of the normal distribution: Phi(1) = 0.841344746..., Phi(-2) = 0.02275013...
def test_activations_at_known_points():
    x = np.array([1.0, -2.0, 0.0])
    close(reference.gelu(x), [0.8413447460685, -0.0455002638964, 0.0], TABLES)
    close(reference.silu(x), [0.7310585786300, -0.2384058440442, 0.0], TABLES)
    np.testing.assert_array_equal(reference.relu(x), [1.0, 0.0, 0.0])
    gap = np.abs(reference.gelu_tanh(x) - reference.gelu(x)).max()
    assert 1e-5 < gap < 1e-3  # an approximation, and not the same function


def load(folder):
    """Config, tensors by today's names without prefix, and the stored outputs."""
    raw = json.loads((folder / "config.json").read_text())
    stored = load_file(folder / "model.safetensors")
    tensors = {spelled_out(name.removeprefix("bert.")): value for name, value in stored.items()}
    return raw, tensors, load_file(folder / "golden.safetensors")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_golden_states(folder):
    raw, tensors, golden = load(folder)
    mask = golden["attention_mask"].astype(bool)
    states = reference.encode(tensors, raw, golden["input_ids"], mask, golden["token_type_ids"])
    assert len(states) == raw["num_hidden_layers"] + 1
    for i, state in enumerate(states):
        close(golden[f"hidden.{i}"][mask], state[mask], GOLDEN_REFERENCE)
    pooled = reference.mean_pool(states[-1], mask)
    close(golden["mean_pooled"], pooled, GOLDEN_REFERENCE)


def test_there_are_golden_folders_of_each_kind():
    names = " ".join(folder.name for folder in FOLDERS)
    assert len(FOLDERS) >= 7
    for kind in ("jinabert-3heads", "qk-post-norm", "qk-devlin-norm", "bert-3heads", "f16"):
        assert kind in names


def test_a_row_without_tokens_is_zero():
    x = np.random.default_rng(0).normal(size=(2, 3, 5))
    mask = np.array([[1, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(reference.mean_pool(x, mask)[1], 0.0)
    q = np.random.default_rng(1).normal(size=(2, 1, 3, 7))
    context = reference.attention(q, q, q, mask.astype(bool))
    assert np.isfinite(context).all()
    np.testing.assert_array_equal(context[1], 0.0)
