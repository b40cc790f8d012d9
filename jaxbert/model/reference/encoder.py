"""encode: the states of an encoder of any family, which config.json names by its model_type."""

from collections.abc import Callable

import numpy as np

from jaxbert.model.reference.basics import Config, Rotate, Tensor, Tensors, in_float64
from jaxbert.model.reference.bert import bert_states
from jaxbert.model.reference.distilbert import distilbert_states
from jaxbert.model.reference.modernbert import modernbert_final_norm, modernbert_states
from jaxbert.model.reference.mpnet import mpnet_states
from jaxbert.model.reference.nomic import nomic_states
from jaxbert.model.reference.roberta import roberta_states
from jaxbert.model.reference.t5 import t5_final_norm, t5_states

BLOCK_STATES: dict[str, Callable[..., list[Tensor]]] = {
    "bert": bert_states,
    "roberta": roberta_states,
    "xlm-roberta": roberta_states,
    "camembert": roberta_states,
    "mpnet": mpnet_states,
    "distilbert": distilbert_states,
    "nomic_bert": nomic_states,
    "t5": t5_states,
    "mt5": t5_states,
    "modernbert": modernbert_states,
}
FINAL_NORMS: dict[str, Callable[[Tensor, Tensors, Config], Tensor]] = {
    "t5": t5_final_norm,
    "mt5": t5_final_norm,
    "modernbert": modernbert_final_norm,
}


def family(config: Config) -> str:
    """The model_type; "bert" where there is none. Raises ValueError for one not written down."""
    found = config.get("model_type") or "bert"
    if found not in BLOCK_STATES:
        raise ValueError(f"model_type {found!r} is not written down; {', '.join(BLOCK_STATES)} are")
    return str(found)


def block_states(
    tensors: Tensors,
    config: Config,
    input_ids: Tensor,
    attention_mask: Tensor,
    token_type_ids: Tensor | None = None,
    bias: Tensor | None = None,
    rotate: Rotate | None = None,
) -> list[Tensor]:
    """As encode, but the last states are those before the final norm, where there is one."""
    input_ids = np.asarray(input_ids)
    types = np.zeros_like(input_ids) if token_type_ids is None else np.asarray(token_type_ids)
    replaced = {"bias": bias, "rotate": rotate}
    return BLOCK_STATES[family(config)](
        in_float64(tensors),
        config,
        input_ids,
        np.asarray(attention_mask).astype(bool),
        types,
        **{name: value for name, value in replaced.items() if value is not None},
    )


def encode(
    tensors: Tensors,
    config: Config,
    input_ids: Tensor,
    attention_mask: Tensor,
    token_type_ids: Tensor | None = None,
    bias: Tensor | None = None,
    rotate: Rotate | None = None,
) -> list[Tensor]:
    """The token states [b, t, d] after the embeddings and after each layer, as transformers counts.

    Where a family has a final norm, it has acted on the last of them and on no other.

    tensors: published names, without the prefix of the encoder ("bert.", "roberta.", "model."; T5
    has none), any float dtype; config: the contents of config.json. bias [n, t, s] and rotate
    replace what config says about positions in the scores, for BERT alone. Raises ValueError for a
    model_type that is not written down here.
    """
    given = input_ids, attention_mask, token_type_ids, bias, rotate
    states, name = block_states(tensors, config, *given), family(config)
    if name in FINAL_NORMS:
        states[-1] = FINAL_NORMS[name](states[-1], in_float64(tensors), config)
    return states
