"""The names and layouts of published checkpoints, one table per family, read in both directions.

A rule says: the tensor of this published name, rearranged by this einops pattern, is our weight at
this path. Turned round, the same pattern writes the tensor back. The letters are those of axes.py.
Source: the state dicts of transformers' BertModel and of JinaBERT's remote code
(jinaai/jina-bert-implementation, jinaai/jina-bert-v2-qk-post-norm).
"""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from einops import rearrange


class Rule(NamedTuple):
    """Published name (with {l} for the layer), our path, pattern, and an axis read backwards."""

    name: str
    path: str
    pattern: str
    flipped: str = ""
    layer: int | None = None  # once written out for one layer

    def own_part(self, weight: np.ndarray) -> np.ndarray:
        """The part of our weight, stacked over layers, that this rule is about; a view."""
        return weight if self.layer is None else weight[self.layer]

    def unpack(self, tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The published tensor in our layout, of the given shape."""
        ours = rearrange(tensor, self.pattern, **self.axes(shape))
        return self.flip(ours)

    def pack(self, weight: np.ndarray) -> np.ndarray:
        """Our weight in the published layout: unpack, undone."""
        left, right = self.pattern.split(" -> ")
        return rearrange(self.flip(weight), f"{right} -> {left}")

    def published_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that the published tensor of our weight of this shape has."""
        axes = self.axes(shape)
        groups = re.findall(r"\(([^)]*)\)|(\w+)", self.pattern.split(" -> ")[0])
        return tuple(
            math.prod(axes[axis] for axis in (group or single).split()) for group, single in groups
        )

    def axes(self, shape: tuple[int, ...]) -> dict[str, int]:
        """The size of each letter in our layout."""
        return dict(zip(self.pattern.split(" -> ")[1].split(), shape, strict=True))

    def flip(self, weight: np.ndarray) -> np.ndarray:
        """Read the flipped axis, where there is one, from its end."""
        if not self.flipped:
            return weight
        return np.flip(weight, self.pattern.split(" -> ")[1].split().index(self.flipped))


def norm(name: str, path: str, pattern: str = "d -> d") -> list[Rule]:
    """Scale and shift of a LayerNorm."""
    return [
        Rule(f"{name}.weight", f"{path}.scale", pattern),
        Rule(f"{name}.bias", f"{path}.shift", pattern),
    ]


def linear(name: str, path: str, pattern: str, bias: str | None = None) -> list[Rule]:
    """Weight, and bias where there is one, of a product."""
    rules = [Rule(f"{name}.weight", f"{path}.weight", pattern)]
    return rules + ([Rule(f"{name}.bias", f"{path}.bias", bias)] if bias else [])


def per_layer(*groups: list[Rule]) -> list[Rule]:
    """The rules of one layer, under the layer's name and the path of the stacked layers."""
    return [
        rule._replace(name=f"encoder.layer.{{l}}.{rule.name}", path=f"layers.{rule.path}")
        for group in groups
        for rule in group
    ]


TO_HEADS, FROM_HEADS, HEADS = "(n h) d -> d n h", "d (n h) -> n h d", "(n h) -> n h"

EMBEDDINGS = [
    Rule("embeddings.word_embeddings.weight", "embeddings.word", "v d -> v d"),
    Rule("embeddings.token_type_embeddings.weight", "embeddings.token_type", "k d -> k d"),
    *norm("embeddings.LayerNorm", "embeddings.norm"),
]
LEARNED = [Rule("embeddings.position_embeddings.weight", "position.table", "t d -> t d")]

ATTENTION = per_layer(
    linear("attention.self.query", "attention.query", TO_HEADS, HEADS),
    linear("attention.self.key", "attention.key", TO_HEADS, HEADS),
    linear("attention.self.value", "attention.value", TO_HEADS, HEADS),
    linear("attention.output.dense", "attention.out", FROM_HEADS, "d -> d"),
    norm("attention.output.LayerNorm", "attention_norm"),
)
QUERY_KEY_NORM = per_layer(
    norm("attention.self.layer_norm_q", "attention.query_norm", HEADS),
    norm("attention.self.layer_norm_k", "attention.key_norm", HEADS),
)
SECOND_RESIDUAL = per_layer(norm("layer_norm_1", "rejoin.norm"))

MLP = per_layer(
    linear("intermediate.dense", "feed_forward.up", "f d -> d f", "f -> f"),
    linear("output.dense", "feed_forward.down", "d f -> f d", "d -> d"),
    norm("output.LayerNorm", "output_norm"),
)
GLU_GATE_FIRST = per_layer(
    linear("mlp.gated_layers", "feed_forward.up", "(g f) d -> d g f"),
    linear("mlp.wo", "feed_forward.down", "d f -> f d", "d -> d"),
    norm("mlp.layernorm", "output_norm"),
)
GLU_GATE_LAST = per_layer(
    [Rule("mlp.up_gated_layer.weight", "feed_forward.up.weight", "(g f) d -> d g f", flipped="g")],
    linear("mlp.down_layer", "feed_forward.down", "d f -> f d", "d -> d"),
    norm("layer_norm_2", "output_norm"),
)
MLP_WITHOUT_BIAS = per_layer(
    linear("mlp.up_layer", "feed_forward.up", "f d -> d f"),
    linear("mlp.down_layer", "feed_forward.down", "d f -> f d", "d -> d"),
    norm("layer_norm_2", "output_norm"),
)


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
}


def rules(family: str, feed_forward: str, position: str) -> list[Rule]:
    """The whole table for one checkpoint."""
    chosen = FAMILIES[family]
    learned = LEARNED if position == "learned" else []
    return EMBEDDINGS + learned + ATTENTION + chosen.feed_forward[feed_forward] + chosen.extra


# Tensors that published checkpoints carry and embeddings never use: carried along, not computed.
UNUSED = re.compile(
    r"pooler\.dense\.(weight|bias)|embeddings\.(position_ids|token_type_ids)"
    r"|cls\..+|classifier\..+|qa_outputs\..+|score\..+"
)
# Wrappers that put a prefix before every name.
PREFIX = re.compile(r"((bert|model|0\.auto_model|auto_model|module|_orig_mod)\.)*")


def spelled_out(name: str) -> str:
    """LayerNorm.gamma and LayerNorm.beta, as TensorFlow's BERT had them, in today's spelling."""
    name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
    return re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)
