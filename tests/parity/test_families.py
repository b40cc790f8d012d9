"""Other families than BERT and JinaBERT beside transformers, live, as its classes save them."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from jaxbert import Encoder
from tests.models import arrays
from tests.parity.torch_models import draw
from tests.tolerances import GOLDEN_ENCODER, VISIBLE, close, off

pytestmark = pytest.mark.torch

SIZES = {
    "vocab_size": 61,
    "hidden_size": 28,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 13,
}
ROBERTA = SIZES | {"type_vocab_size": 1, "max_position_embeddings": 67, "layer_norm_eps": 1e-5}
T5 = {"vocab_size": 61, "d_model": 28, "d_kv": 5, "d_ff": 13, "num_layers": 3, "num_heads": 4}
DISTIL = {"vocab_size": 61, "dim": 28, "n_layers": 3, "n_heads": 4, "hidden_dim": 13}
MODERN = (
    SIZES
    | {"hidden_size": 24, "local_attention": 14, "max_position_embeddings": 67, "pad_token_id": 0}
    | {f"{name}_token_id": i for i, name in enumerate(("bos", "eos", "cls", "sep"), start=2)}
)
t = transformers
MODELS = {
    "t5": (t.T5EncoderModel, t.T5Config, T5),
    "t5 gated by gelu": (t.T5EncoderModel, t.T5Config, T5 | {"feed_forward_proj": "gated-gelu"}),
    "t5 gated by silu": (t.T5EncoderModel, t.T5Config, T5 | {"feed_forward_proj": "gated-silu"}),
    "t5 with its decoder": (
        t.T5ForConditionalGeneration,
        t.T5Config,
        T5 | {"num_decoder_layers": 2, "relative_attention_num_buckets": 12},
    ),
    "t5 with near buckets": (
        t.T5EncoderModel,
        t.T5Config,
        T5 | {"relative_attention_num_buckets": 20, "relative_attention_max_distance": 50},
    ),
    "mt5": (t.MT5EncoderModel, t.MT5Config, T5),
    "roberta": (t.RobertaModel, t.RobertaConfig, ROBERTA),
    "roberta with a head": (t.RobertaForMaskedLM, t.RobertaConfig, ROBERTA),
    "xlm-roberta": (t.XLMRobertaModel, t.XLMRobertaConfig, ROBERTA | {"hidden_act": "relu"}),
    "xlm-roberta, padding 3": (
        t.XLMRobertaModel,
        t.XLMRobertaConfig,
        ROBERTA | {"pad_token_id": 3},
    ),
    "xlm-roberta reranker": (
        t.XLMRobertaForSequenceClassification,
        t.XLMRobertaConfig,
        ROBERTA | {"num_labels": 1},
    ),
    "camembert": (t.CamembertModel, t.CamembertConfig, ROBERTA),
    "mpnet": (t.MPNetModel, t.MPNetConfig, ROBERTA),
    "mpnet with a head": (t.MPNetForMaskedLM, t.MPNetConfig, ROBERTA | {"hidden_act": "gelu_new"}),
    "distilbert": (t.DistilBertModel, t.DistilBertConfig, DISTIL),
    "distilbert with a head": (t.DistilBertForMaskedLM, t.DistilBertConfig, DISTIL),
    "distilbert of sines": (
        t.DistilBertModel,
        t.DistilBertConfig,
        DISTIL | {"sinusoidal_pos_embds": True, "activation": "relu"},
    ),
    "modernbert": (t.ModernBertModel, t.ModernBertConfig, MODERN),
    "modernbert, every second global": (
        t.ModernBertModel,
        t.ModernBertConfig,
        MODERN | {"global_attn_every_n_layers": 2, "hidden_activation": "silu"},
    ),
    "modernbert with a head": (t.ModernBertForMaskedLM, t.ModernBertConfig, MODERN),
}
ROWS, LENGTH = 5, 43


def made(name):
    """A small torch model with every weight drawn."""
    kind, config, changes = MODELS[name]
    extra = {"attn_implementation": "eager"}
    return draw(kind(config(**changes, **extra)))


def inputs(padding):
    """Random ids and masks, whose padding has the model's id; one text has it in its middle."""
    ids, mask, _ = arrays(0, ROWS, LENGTH)
    random = np.random.default_rng(3)
    ids = random.integers(5, SIZES["vocab_size"], ids.shape)
    ids[0, LENGTH // 2] = padding
    return np.where(mask == 0, padding, ids), mask


def states(model, ids, mask):
    """All states of the encoder of a torch model."""
    encoder = getattr(model, "encoder", None) if "Conditional" in type(model).__name__ else model
    if encoder is model:
        encoder = getattr(model, getattr(model, "base_model_prefix", ""), model)
    with torch.no_grad():
        out = encoder(
            input_ids=torch.from_numpy(ids),
            attention_mask=torch.from_numpy(mask),
            output_hidden_states=True,
        )
    return [state.float().numpy() for state in out.hidden_states]


@pytest.mark.parametrize("name", MODELS)
def test_states_of_a_saved_folder(name, tmp_path):
    model = made(name)
    model.save_pretrained(tmp_path)
    padding = getattr(model.config, "pad_token_id", None)
    ids, mask = inputs(0 if padding is None else padding)
    theirs = states(model, ids, mask)
    ours = Encoder.from_pretrained(tmp_path).hidden_states(ids, mask)
    assert len(ours) == len(theirs) == 4
    for own, their in zip(ours, theirs, strict=True):
        close(np.asarray(own)[mask != 0], their[mask != 0], GOLDEN_ENCODER)
    assert off(theirs[-1][mask != 0], theirs[-2][mask != 0]) > VISIBLE
