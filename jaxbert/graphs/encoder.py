"""The graph of an encoder: BERT and JinaBERT, from the modules that it is made of.

What is not one of the modules that are known here, by its own class, has no graph: a subclass may
compute anything.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxbert.errors import shown
from jaxbert.graphs.graph import Graph, NoGraphError, floats
from jaxbert.model.activations import ACTIVATIONS, tanh
from jaxbert.model.attention import attend
from jaxbert.model.attention.base import name_of
from jaxbert.model.config import EncoderConfig
from jaxbert.model.layers import Glu, LayerNorm, Mlp, Projection
from jaxbert.model.position import Alibi, Learned, Position, alibi_slopes
from jaxbert.model.qk_norm import Identity, NoSecondResidual, QueryKeyNorm, SecondResidual
from jaxbert.model.transformer import Embeddings, Layer, SelfAttention, Transformer

# Added to the score of a key that a query may not attend to. It is far below every score and far
# above the lowest number, so that a row without keys is a softmax of equal numbers, not NaN. It is
# chosen by Where: written as (mask - 1) * 1e30, OpenVINO gave wrong results in bfloat16.
MASKED = np.array(-1e30, np.float32)

INT = np.int64


class Tokens(NamedTuple):
    """The integer inputs of a graph, by name; a size of 1 stands for all."""

    ids: str  # [b, t]
    types: str  # [#b, #t]
    positions: str  # [#b, t]
    queries: str  # [b, #t]: the segment to which each token attends
    keys: str  # [b, t]: the segment in which each token is seen; at most 0 where it is in none


def check_graph(encoder: Transformer) -> None:
    """Raise NoGraphError for an encoder that has no graph, and say why."""
    own = [
        name
        for name in ("forward", "forward_embeddings")
        if getattr(type(encoder), name) is not getattr(Transformer, name)
    ]
    if own:
        raise no_graph(f"{type(encoder).__name__} has a {own[0]} of its own")
    if encoder.attention != attend:
        raise no_graph(f"attention is {name_of(encoder.attention)}, where a graph has its own")
    if type(encoder.config) is not EncoderConfig:
        family = type(encoder.config).__name__.removesuffix("Config")
        raise no_graph(f"the encoder is a {family}")
    known(encoder.embeddings, "embeddings", Embeddings)
    known(encoder.embeddings.norm, "the norm of the embeddings", LayerNorm)
    known(encoder.position, "the position scheme", Position, Learned, Alibi)
    known(encoder.final_norm, "the last norm", Identity, LayerNorm)
    check_layer(encoder.layers)


def check_layer(layer: Any) -> None:
    """Raise NoGraphError for a layer with a part that has no graph."""
    known(layer, "a layer", Layer)
    attention, inner = layer.attention, layer.feed_forward
    known(attention, "the attention of a layer", SelfAttention)
    known(attention.query_norm, "the norm of queries", Identity, QueryKeyNorm)
    known(attention.key_norm, "the norm of keys", Identity, QueryKeyNorm)
    known(layer.attention_norm, "the norm of a layer", LayerNorm)
    known(layer.output_norm, "the norm of a layer", LayerNorm)
    known(layer.rejoin, "the second residual", NoSecondResidual, SecondResidual)
    known(inner, "the feed-forward", Mlp, Glu)
    activation_name(inner.activation)
    projections = [attention.query, attention.key, attention.value, attention.out]
    for projection in [*projections, inner.up, inner.down]:
        known(projection, "a projection", Projection)


def known(part: Any, title: str, *kinds: type) -> None:
    """Raise NoGraphError for a part of another class."""
    if type(part) not in kinds:
        raise no_graph(f"{title} is a {type(part).__name__}")


def no_graph(what: str) -> NoGraphError:
    """The error for what no graph has, with what to do."""
    return NoGraphError(
        f"{what}, and there are graphs of BERT and JinaBERT as their configs describe them alone; "
        'use engine="jax", which runs every encoder'
    )


# --- the encoder ---------------------------------------------------------------------------------


def states(graph: Graph, encoder: Transformer, tokens: Tokens) -> str:
    """The last states [b, t, d] in float32, as Transformer.forward gives them."""
    check_graph(encoder)
    x = embeddings(graph, encoder, tokens)
    bias = score_bias(graph, encoder, tokens)
    stacked = jax.tree.map(np.asarray, encoder.layers)
    for i in range(encoder.config.num_layers):
        one: Any = jax.tree.map(lambda leaf, i=i: leaf[i], stacked)
        x = layer(graph, one, x, bias)
    return norm(graph, encoder.final_norm, x)


def embeddings(graph: Graph, encoder: Transformer, tokens: Tokens) -> str:
    """norm(word[id] + type[type id] + position), [b, t, d]."""
    own = encoder.embeddings
    x = graph.op("Gather", floats(own.word), tokens.ids, axis=0)
    x = graph.op("Add", x, graph.op("Gather", floats(own.token_type), tokens.types, axis=0))
    if isinstance(encoder.position, Learned):
        table = floats(encoder.position.table)
        x = graph.op("Add", x, graph.op("Gather", table, tokens.positions, axis=0))
    return norm(graph, own.norm, x)


def score_bias(graph: Graph, encoder: Transformer, tokens: Tokens) -> str:
    """What is added to the scores: 0 or MASKED, [b, 1, #t, s], and the position scheme's term.

    With ALiBi it is [b, n, t, s]: computed from positions, once for all layers.
    """
    q, k = (
        graph.op("Unsqueeze", x, np.array(a, INT))
        for x, a in ((tokens.queries, [1, 3]), (tokens.keys, [1, 2]))
    )
    zero = np.zeros((), np.int32)
    seen = graph.op("And", graph.op("Equal", q, k), graph.op("Greater", k, zero))
    bias = graph.op("Where", seen, np.zeros((), np.float32), MASKED)
    if not isinstance(encoder.position, Alibi):
        return bias
    heads = encoder.position.num_heads
    slopes = -np.array(alibi_slopes(heads), np.float32).reshape(1, heads, 1, 1)
    q, k = (graph.op("Unsqueeze", tokens.positions, np.array(a, INT)) for a in ([1, 3], [1, 2]))
    distance = graph.op("Cast", graph.op("Abs", graph.op("Sub", q, k)), to=1)  # to float32
    return graph.op("Add", graph.op("Mul", distance, slopes), bias)


def layer(graph: Graph, own: Layer, x: str, bias: str) -> str:
    """The states after a layer, [b, t, d]."""
    a = norm(
        graph, own.attention_norm, graph.op("Add", x, attention(graph, own.attention, x, bias))
    )
    r = a
    if isinstance(own.rejoin, SecondResidual):
        r = norm(graph, own.rejoin.norm, graph.op("Add", x, a))
    inner = feed_forward(graph, own.feed_forward, r)
    return norm(graph, own.output_norm, graph.op("Add", r, inner))


def attention(graph: Graph, own: SelfAttention, x: str, bias: str) -> str:
    """The projected context [b, t, d]."""
    _, n, h = own.query.weight.shape
    heads = np.array([0, 0, n, h], INT)

    def by_head(projection: Projection, after: Any, axes: list[int]) -> str:
        y = norm(graph, after, projected(graph, projection, x, 1))
        return graph.op("Transpose", graph.op("Reshape", y, heads), perm=axes)

    q = by_head(own.query, own.query_norm, [0, 2, 1, 3])
    k = by_head(own.key, own.key_norm, [0, 2, 3, 1])
    v = by_head(own.value, Identity(), [0, 2, 1, 3])
    scores = graph.op("Mul", graph.op("MatMul", q, k), np.array(h**-0.5, np.float32))
    weights = graph.op("Softmax", graph.op("Add", scores, bias), axis=-1)
    context = graph.op("Transpose", graph.op("MatMul", weights, v), perm=[0, 2, 1, 3])
    joined = graph.op("Reshape", context, np.array([0, 0, n * h], INT))
    return projected(graph, own.out, joined, 2)


def projected(graph: Graph, own: Projection, x: str, contracted: int) -> str:
    """x W + b, [b, t, m]: the first `contracted` axes of W are joined, and so are the others."""
    weight = floats(own.weight)
    rows = int(np.prod(weight.shape[:contracted]))
    y = graph.op("MatMul", x, weight.reshape(rows, -1))
    return y if own.bias is None else graph.op("Add", y, floats(own.bias).reshape(-1))


def feed_forward(graph: Graph, own: Mlp | Glu, x: str) -> str:
    """W2 act(W1 x + b1) + b2, or W2 (act(gate) * value) + b2 with [gate, value] = W1 x."""
    inner = projected(graph, own.up, x, 1)
    if isinstance(own, Glu):
        gate, value = graph.ops("Split", 2, inner, axis=-1, num_outputs=2)
        inner = graph.op("Mul", activated(graph, own.activation, gate), value)
    else:
        inner = activated(graph, own.activation, inner)
    return projected(graph, own.down, inner, 1)


def norm(graph: Graph, own: Any, x: str) -> str:
    """LayerNorm over the last axis, or x where the norm is the identity."""
    if isinstance(own, Identity):
        return x
    scale, shift = floats(own.scale).reshape(-1), floats(own.shift).reshape(-1)
    return graph.op("LayerNormalization", x, scale, shift, axis=-1, epsilon=own.eps)


# --- activations ---------------------------------------------------------------------------------

OPERATORS: Mapping[str, Callable[[Graph, str], str]] = {
    "gelu": lambda graph, x: graph.op("Gelu", x, approximate="none"),
    "gelu_tanh": lambda graph, x: graph.op("Gelu", x, approximate="tanh"),
    "relu": lambda graph, x: graph.op("Relu", x),
    "silu": lambda graph, x: graph.op("Mul", x, graph.op("Sigmoid", x)),
    "tanh": lambda graph, x: graph.op("Tanh", x),
}


def activation_name(activation: Any) -> str:
    """The name of an activation of the package; NoGraphError for any other function."""
    for name, function in {**ACTIVATIONS, "tanh": tanh}.items():
        if function is activation:
            return name
    raise no_graph(f"the activation is {shown(activation)}")


def activated(graph: Graph, activation: Any, x: str) -> str:
    """activation(x), applied to each number by itself."""
    return OPERATORS[activation_name(activation)](graph, x)
