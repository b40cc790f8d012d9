"""The families of checkpoints: which tables of names each one's tensors follow."""

from collections.abc import Mapping
from typing import NamedTuple

from jaxbert.checkpoint.tensor_names.bert import ATTENTION, EMBEDDINGS, LEARNED, MLP
from jaxbert.checkpoint.tensor_names.jinabert import (
    GLU_GATE_FIRST,
    GLU_GATE_LAST,
    MLP_WITHOUT_BIAS,
    QUERY_KEY_NORM,
    SECOND_RESIDUAL,
)
from jaxbert.checkpoint.tensor_names.rule import Rule


class Family(NamedTuple):
    """What the tensors of a checkpoint give away about the code that they were trained with."""

    title: str
    feed_forward: Mapping[str, list[Rule]]  # by the config's "mlp" or "glu"
    extra: list[Rule]
    verified: bool = True  # against outputs of the published code


FAMILIES: Mapping[str, Family] = {
    "bert": Family("BERT", {"mlp": MLP}, []),
    "jinabert": Family("JinaBERT", {"mlp": MLP, "glu": GLU_GATE_FIRST}, []),
    "jinabert-qk-norm": Family(
        "JinaBERT with query and key norms",
        {"mlp": MLP, "glu": GLU_GATE_FIRST},
        QUERY_KEY_NORM,
        verified=False,
    ),
    "jinabert-qk-post-norm": Family(
        "JinaBERT with query and key norms and a second residual",
        {"mlp": MLP_WITHOUT_BIAS, "glu": GLU_GATE_LAST},
        QUERY_KEY_NORM + SECOND_RESIDUAL,
    ),
    "distilbert": Family("DistilBERT", {}, []),
    "modernbert": Family("ModernBERT", {}, []),
    "mpnet": Family("MPNet", {}, []),
    "nomic": Family("nomic-bert", {}, []),
    "roberta": Family("RoBERTa or XLM-R", {}, []),
    "t5": Family("T5", {}, []),
}


def rules(family: str, feed_forward: str, position: str) -> list[Rule]:
    """The whole table for one checkpoint."""
    chosen = FAMILIES[family]
    learned = LEARNED if position == "learned" else []
    return EMBEDDINGS + learned + ATTENTION + chosen.feed_forward[feed_forward] + chosen.extra
