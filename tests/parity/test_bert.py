"""The encoder beside transformers' BertModel, on small random weights, on every valid token."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import jax
import jax.numpy as jnp
from flax import nnx

from jaxbert.checkpoint.config_fields import ACTIVATIONS
from jaxbert.checkpoint.config_json import config_and_family
from jaxbert.checkpoint.tensor_names.families import rules
from jaxbert.encoder import Encoder
from tests.models import arrays, published
from tests.parity.torch_models import SIZES, bert, hidden_states, tensors
from tests.tolerances import FUNCTION, GOLDEN_ENCODER, close, largest, off

pytestmark = pytest.mark.torch

WRAPPERS = [
    "BertForMaskedLM",
    "BertForNextSentencePrediction",
    "BertForPreTraining",
    "BertForQuestionAnswering",
    "BertForSequenceClassification",
    "BertForTokenClassification",
]


def texts(seed, **changes):
    """Ragged rows with every token type."""
    return arrays(seed, rows=3, vocabulary=SIZES["vocab_size"], types=5, **changes)


def reload(folder):
    """The folder's weights in torch, computed with in float32 whatever is stored."""
    model = transformers.BertModel.from_pretrained(
        folder, dtype=torch.float32, add_pooling_layer=False, local_files_only=True
    )
    return model.eval()


def worst(ours, theirs, mask):
    """The largest difference on valid tokens, as a share of its layer's largest state."""
    valid = mask != 0
    pairs = zip(ours, theirs, strict=True)
    return np.max([off(np.asarray(a)[valid], b[valid]) for a, b in pairs])


def check(encoder, model, seed=1):
    """All states agree on ragged rows, and are not zero."""
    ids, mask, types = texts(seed)
    theirs = hidden_states(model, ids, mask, types)
    assert len(theirs) == SIZES["num_hidden_layers"] + 1
    assert min(np.abs(state).max() for state in theirs) > 0.5
    assert worst(encoder.hidden_states(ids, mask, types), theirs, mask) < GOLDEN_ENCODER
    assert worst([encoder(ids, mask, types)], theirs[-1:], mask) < GOLDEN_ENCODER


def in_memory(model):
    """The encoder with a torch model's weights, handed over without a file."""
    stored = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    config, family = config_and_family(model.config.to_dict(), stored, ())
    empty = Encoder(config, rngs=nnx.Rngs(0))
    weights = {path: np.empty(leaf.shape, np.float32) for path, leaf in empty.weights().items()}
    for rule in rules(family, config.feed_forward, config.position):
        if "{l}" not in rule.name:
            weights[rule.path] = rule.unpack(stored.pop(rule.name), weights[rule.path].shape)
            continue
        for i, target in enumerate(weights[rule.path]):
            target[...] = rule.unpack(stored.pop(rule.name.format(l=i)), target.shape)
    assert set(stored) <= {"pooler.dense.weight", "pooler.dense.bias"}
    return jax.tree.unflatten(jax.tree.structure(empty), map(jnp.asarray, weights.values()))


@pytest.mark.parametrize("stored", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_states_agree(tmp_path, activation, stored):
    bert(hidden_act=activation).to(getattr(torch, stored)).save_pretrained(tmp_path)
    check(Encoder.from_pretrained(tmp_path), reload(tmp_path))


def test_activations_are_told_apart():
    ids, mask, types = texts(1)
    last = [
        hidden_states(bert(hidden_act=name), ids, mask, types)[-1]
        for name in ("gelu", "gelu_new", "relu", "silu")
    ]
    distances = [worst([a], [b], mask) for i, a in enumerate(last) for b in last[:i]]
    assert min(distances) > 10 * GOLDEN_ENCODER


@pytest.mark.parametrize("seed", range(4))
def test_rows_of_any_lengths_agree(seed):
    model = bert(seed=seed)
    check(in_memory(model), model, seed)


def test_masks_with_holes_and_left_padding_agree():
    model = bert()
    ids, _, types = texts(2)
    mask = np.ones_like(ids)
    mask[0, :4] = mask[1, 3:6] = mask[2, ::2] = 0
    theirs = hidden_states(model, ids, mask, types)
    assert worst(in_memory(model).hidden_states(ids, mask, types), theirs, mask) < GOLDEN_ENCODER


def test_positions_given_by_hand_agree():
    model = bert()
    ids, mask, types = texts(4)
    positions = np.array([np.arange(11), np.arange(11)[::-1] + 8, np.full(11, 6)])
    with torch.no_grad():
        given = tensors(ids, mask, types) | {"position_ids": torch.from_numpy(positions)}
        theirs = model(**given).last_hidden_state.numpy()
    ours = in_memory(model)(ids, mask, types, positions=positions)
    assert worst([ours], [theirs], mask) < GOLDEN_ENCODER


def test_a_text_as_long_as_the_table_of_positions_agrees():
    model = bert()
    ids, mask, types = texts(3, length=SIZES["max_position_embeddings"])
    mask[0] = 1
    theirs = hidden_states(model, ids, mask, types)
    assert worst(in_memory(model).hidden_states(ids, mask, types), theirs, mask) < GOLDEN_ENCODER


def test_a_large_epsilon_is_read(tmp_path):
    bert(layer_norm_eps=0.5).save_pretrained(tmp_path)
    check(Encoder.from_pretrained(tmp_path), reload(tmp_path))


def test_shards_are_one_model(tmp_path):
    bert().save_pretrained(tmp_path, max_shard_size="2KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert not (tmp_path / "model.safetensors").exists()
    check(Encoder.from_pretrained(tmp_path), reload(tmp_path))


@pytest.mark.parametrize("name", WRAPPERS)
def test_an_encoder_under_a_head_is_found(tmp_path, name):
    wrapper = bert(getattr(transformers, name))
    wrapper.save_pretrained(tmp_path)
    check(Encoder.from_pretrained(tmp_path), wrapper.bert)
    check(Encoder.from_pretrained(tmp_path), reload(tmp_path))


def test_attention_maps_agree():
    model = bert(attn_implementation="eager")
    ids, mask, types = texts(5)
    with torch.no_grad():
        theirs = model(**tensors(ids, mask, types), output_attentions=True).attentions
    ours = in_memory(model).attentions(ids, mask, types)
    assert len(ours) == len(theirs) == SIZES["num_hidden_layers"]
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape == (3, 4, 11, 11)
        valid = np.broadcast_to(mask[:, None, :] != 0, a.shape[:3])
        close(np.asarray(a)[valid], b.numpy()[valid], FUNCTION)


def test_gradients_agree():
    # Without a padding id: torch keeps the gradient of that row at zero.
    model = bert(pad_token_id=None)
    ids, mask, types = texts(7)
    weight = np.sin(np.arange(mask.size * SIZES["hidden_size"], dtype=np.float32))
    weight = weight.reshape(*mask.shape, -1) * mask[..., None].astype(np.float32)

    hidden = model(**tensors(ids, mask, types)).last_hidden_state
    (hidden * torch.from_numpy(weight)).sum().backward()
    gradient = jax.grad(lambda encoder: (encoder(ids, mask, types) * weight).sum())
    ours = published(gradient(in_memory(model)))

    theirs = {name: w.grad.numpy() for name, w in model.named_parameters() if w.grad is not None}
    assert set(ours) == set(theirs)
    assert np.abs(theirs["embeddings.word_embeddings.weight"]).max() > 0.1
    for name, value in theirs.items():
        # A gradient is a sum over all tokens, far larger than a state.
        close(ours[name], value, GOLDEN_ENCODER, max(1.0, largest(value)))
