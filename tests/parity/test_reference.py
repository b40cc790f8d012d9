"""The reference's classifiers and families beside transformers, on small random weights."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from jaxbert.model import reference
from tests.parity.torch_models import draw
from tests.tolerances import GOLDEN_REFERENCE, close, largest

pytestmark = pytest.mark.torch

WORDS, LABELS = 31, 3
BERT = {
    "vocab_size": WORDS,
    "hidden_size": 28,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 13,
}
ROBERTA = BERT | {"max_position_embeddings": 21, "type_vocab_size": 1, "pad_token_id": 1}
DISTILBERT = {
    "vocab_size": WORDS,
    "dim": 28,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 13,
    "max_position_embeddings": 19,
}
# transformers writes the layers' kinds and bases otherwise than the published files.
MODERN = BERT | {"hidden_size": 24, "num_hidden_layers": 4, "local_attention": 6, "pad_token_id": 0}
MODERN_RAW = {
    "global_attn_every_n_layers": 3,
    "global_rope_theta": 160000.0,
    "local_rope_theta": 10000.0,
}
T5 = {"vocab_size": WORDS, "d_model": 28, "d_kv": 5, "d_ff": 13, "num_layers": 2, "num_heads": 4}


def modern(pooling):
    return ("ModernBert", MODERN | {"classifier_pooling": pooling}, MODERN_RAW)


CLASSIFIERS = {
    "bert": ("Bert", BERT, {}),
    "roberta": ("Roberta", ROBERTA, {}),
    "camembert": ("Camembert", ROBERTA, {}),
    "mpnet": ("MPNet", ROBERTA, {}),
    "distilbert": ("DistilBert", DISTILBERT, {}),
    "modernbert, cls": modern("cls"),
    "modernbert, mean": modern("mean"),
}


def texts():
    """Random ids behind a first token, ragged on the right, pads as id 1."""
    random = np.random.default_rng(3)
    ids, lengths = random.integers(2, WORDS, (3, 17)), np.array([17, 11, 5])
    mask = (np.arange(17)[None, :] < lengths[:, None]).astype(np.int64)
    return np.where(mask, ids, 1), mask


def plain(model):
    """The tensors by names without the prefix of the encoder."""
    prefix = f"{model.base_model_prefix}."
    stored = model.state_dict().items()
    return {name.removeprefix(prefix): tensor.double().numpy() for name, tensor in stored}


def run(model, ids, mask):
    with torch.no_grad():
        given = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        return model(**given, output_hidden_states=True)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_agree(name):
    kind, sizes, raw = CLASSIFIERS[name]
    config = getattr(transformers, f"{kind}Config")(**sizes, num_labels=LABELS)
    config._attn_implementation = "eager"
    model = draw(getattr(transformers, f"{kind}ForSequenceClassification")(config))
    (ids, mask), tensors, raw = texts(), plain(model), config.to_dict() | raw
    theirs = run(model, ids, mask)
    ours = reference.encode(tensors, raw, ids, mask)
    for a, b in zip(theirs.hidden_states, ours, strict=True):
        close(a.numpy()[mask != 0], b[mask != 0], GOLDEN_REFERENCE)
    logits = reference.classification_logits(tensors, raw, ours[-1], mask)
    assert logits.shape == (3, LABELS)
    assert largest(logits) > 0.1
    close(theirs.logits.numpy(), logits, GOLDEN_REFERENCE)


@pytest.mark.parametrize("act", ["relu", "gelu", "silu", "gated-gelu", "gated-silu", "gated-relu"])
@pytest.mark.parametrize("kind", ["T5", "MT5"])
def test_every_feed_forward_of_t5_agrees(kind, act):
    sizes = T5 | {"feed_forward_proj": act, "relative_attention_num_buckets": 10}
    config = getattr(transformers, f"{kind}Config")(**sizes, relative_attention_max_distance=9)
    model = draw(getattr(transformers, f"{kind}EncoderModel")(config))
    ids, mask = texts()
    raw = config.to_dict()
    theirs = run(model, ids, mask).hidden_states
    for known in (raw, {k: v for k, v in raw.items() if k not in ("dense_act_fn", "is_gated_act")}):
        ours = reference.encode(plain(model), known, ids, mask)
        for a, b in zip(theirs, ours, strict=True):
            close(a.numpy()[mask != 0], b[mask != 0], GOLDEN_REFERENCE)
