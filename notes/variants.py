"""A gallery of published variants of attention, each a class or two of at most 15 lines.

All of them are made of the joints of chapter 3: a Bias adds to the scores or changes them, a
Position changes states, queries and keys, an attention wraps another, a layer or a self-attention
is passed as a maker. tests/test_variants.py runs every one: by the dense definition, blockwise and
in a kernel, with gradients, and saved and loaded. `python notes/variants.py` prints the table of
chapter 3; `jaxbert lab check notes/variants.py:Kerple` looks at one scheme.

Where a paper has a causal model, its formula is taken for both sides.
"""

import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxbert import Bias, EncoderConfig, Position, attend
from jaxbert.model.architectures import components_of
from jaxbert.model.attention.dense import (
    attention_mask,
    attention_scores,
    softmax_denominator,
    unnormalized_weights,
)
from jaxbert.model.layer_variants import LayerScheme
from jaxbert.model.layers import Projection
from jaxbert.model.position import Shared, alibi_slopes, distance_between
from jaxbert.model.position_schemes import Rope
from jaxbert.model.transformer import Layer, SelfAttention

FAR = -1e9  # added to the score of a key that is not to be seen


def distances(pos_q, pos_k):
    """|t - s| of every query and key, [t, s]."""
    return jnp.abs(pos_q[:, None] - pos_k[None, :])


class Added(Position):
    """A scheme of nothing but a bias."""

    def __init__(self, bias):
        self.bias = bias


# --- biases --------------------------------------------------------------------------------------


class LearnedSlopes(Bias):
    """ALiBi whose slopes are trained, as Press et al. tried (arXiv:2108.12409, section 3)."""

    def __init__(self, num_heads):
        self.slopes = nnx.Param(jnp.array(alibi_slopes(num_heads)))

    def __call__(self, pos_q, pos_k):
        return self.upper(distances(pos_q, pos_k))

    def upper(self, distance):  # it falls with the distance, so that far tiles can be left out
        return -jnp.abs(self.slopes[...]) * distance


class Asymmetric(Bias):
    """ALiBi that tells left from right: half of the heads fall faster after the query, half before.

    Source: chapter 11 of these notes; two slopes for a head are after O. Press,
    github.com/ofirpress/attention_with_linear_biases/issues/5.
    """

    def __init__(self, num_heads):
        slope = 2.0 ** (-8.0 * (np.arange(num_heads) // 2) / ((num_heads + 1) // 2))
        steep = np.where(np.arange(num_heads) % 2 == 0, 4.0, 1.0)
        self.before = jnp.asarray(slope * 4.0 / steep, jnp.float32)
        self.after = jnp.asarray(slope * steep, jnp.float32)

    def __call__(self, pos_q, pos_k):
        offset = pos_k[None, :] - pos_q[:, None]
        return jnp.where(offset > 0, -self.after * offset, self.before * offset)

    def upper(self, distance):
        return -jnp.minimum(self.before, self.after) * distance


class Kerple(Bias):
    """-r1 log(1 + r2 |t - s|), r1 and r2 positive and trained (Chi et al., arXiv:2205.09921)."""

    def __init__(self, num_heads):
        self.r1 = nnx.Param(jnp.linspace(0.5, 2.0, num_heads))
        self.r2 = nnx.Param(jnp.linspace(2.0, 0.5, num_heads))

    def __call__(self, pos_q, pos_k):
        return self.upper(distances(pos_q, pos_k))

    def upper(self, distance):
        return -jnp.abs(self.r1[...]) * jnp.log1p(jnp.abs(self.r2[...]) * distance)


class Sandwich(Bias):
    """The product of two sinusoids of positions, scaled by head (Chi et al., arXiv:2212.10356).

    sum over i of cos((t - s) / 10000^(2i/128)), divided by 8, 16, ... / n.
    """

    def __init__(self, num_heads, width=128):
        self.scale = num_heads / (8.0 * jnp.arange(1, num_heads + 1))
        self.width = width

    def __call__(self, pos_q, pos_k):
        distance = distances(pos_q, pos_k)
        speeds = (1e4 ** (-2 * i / self.width) for i in range(self.width // 2))
        return self.scale * sum(jnp.cos(distance * speed) for speed in speeds)


class Buckets(Bias):
    """A trained number for each bucket of offsets; near ones are exact, far ones by the logarithm.

    Source: Raffel et al., arXiv:1910.10683, section 2.1; with numbers of which none is looked up.
    """

    def __init__(self, num_heads, starts=(1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)):
        rows = jnp.sin(jnp.arange(2 * len(starts) + 1)[:, None] + jnp.arange(num_heads))
        self.starts, self.same, self.far = starts, nnx.Param(rows[0]), nnx.List()
        self.far.extend(map(nnx.Param, rows[1:]))

    def __call__(self, pos_q, pos_k):
        offset, term = pos_k[None, :] - pos_q[:, None], self.same[...]
        for start, left, right in zip(self.starts, self.far[::2], self.far[1::2], strict=True):
            side = jnp.where(offset > 0, right[...], left[...])
            term = jnp.where(jnp.abs(offset) >= start, side, term)
        return term


class LocalGlobal(Bias):
    """A window, and a few first tokens that see all and are seen by all.

    Source: Beltagy et al., arXiv:2004.05150, section 3.1.
    """

    def __init__(self, num_heads, width=24, tokens=2):
        self.width = jnp.full(num_heads, width)
        self.tokens = jnp.full(num_heads, tokens)

    def __call__(self, pos_q, pos_k):
        near = distances(pos_q, pos_k) <= self.width
        first = jnp.minimum(pos_q[:, None], pos_k[None, :]) < self.tokens
        return jnp.where(near | first, 0.0, FAR)

    def upper_tile(self, queries, keys):  # the same of tiles, so that the far ones are left out
        near = distance_between(queries, keys) <= self.width
        return jnp.where(near | (jnp.minimum(queries.low, keys.low) < self.tokens), 0.0, FAR)


class Fire(Bias):
    """An MLP of log(1 + c |t - s|) / log(1 + c max(t, s, l)), whose hidden layer all heads share.

    Source: Li et al., arXiv:2310.04418.
    """

    def __init__(self, num_heads, width=8):
        self.c, self.length = Shared(jnp.array(0.1)), Shared(jnp.array(64.0))
        self.w = nnx.List(map(Shared, jnp.ones(width)))
        self.b = nnx.List(map(Shared, -jnp.arange(width) / width))
        down = jax.random.normal(jax.random.key(0), (width, num_heads))
        self.down = nnx.List(map(nnx.Param, down))

    def __call__(self, pos_q, pos_k):
        last = jnp.maximum(jnp.maximum(pos_q[:, None], pos_k[None, :]), self.length[...])
        x = jnp.log1p(self.c[...] * distances(pos_q, pos_k)) / jnp.log1p(self.c[...] * last)
        units = zip(self.w, self.b, self.down, strict=True)
        return sum(jax.nn.relu(x * w[...] + b[...]) * down[...] for w, b, down in units)


class SoftCap(Bias):
    """cap tanh(score / cap): no score is larger than the cap (Gemma 2, arXiv:2408.00118)."""

    def __init__(self, num_heads, cap=50.0):
        self.cap = jnp.full(num_heads, cap)

    def score(self, scores, pos_q, pos_k):
        return self.cap * jnp.tanh(scores / self.cap)


# --- rotations -----------------------------------------------------------------------------------


class NtkRope(Rope):
    """RoPE for texts `times` as long: a base of 10000 times^(h / (h - 2)).

    Source: Peng et al., arXiv:2309.00071, section 3.1.
    """

    def __init__(self, times=8.0):
        super().__init__()
        self.times = times

    def rotate(self, qk, pos):
        h = qk.shape[-1]
        return Rope(self.base * self.times ** (h / (h - 2))).rotate(qk, pos)


class Yarn(Position):
    """RoPE for texts `times` as long: slow pairs of features are slowed down, and scores scaled.

    Source: Peng et al., arXiv:2309.00071, sections 3.2 to 3.4.
    """

    def __init__(self, times=8.0, trained=512):
        self.times, self.trained = times, trained

    def rotate(self, qk, pos):
        half = qk.shape[-1] // 2
        speed = 1e4 ** (-jnp.arange(half) / half)
        ramp = jnp.clip((self.trained * speed / (2 * jnp.pi) - 1) / (32 - 1), 0, 1)
        angle = pos[:, None, :, None] * speed * (ramp + (1 - ramp) / self.times)
        (a, b), scale = jnp.split(qk, 2, axis=-1), 0.1 * math.log(self.times) + 1
        cos, sin = scale * jnp.cos(angle), scale * jnp.sin(angle)
        return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


class XPos(Rope):
    """RoPE whose queries shrink with the position as keys grow (Sun et al., arXiv:2212.10554).

    Made for causal models: a key after the query gains weight with its distance.
    """

    def scaled(self, qk, power):
        half = qk.shape[-1] // 2
        zeta = jnp.tile((jnp.arange(half) / half + 0.4) / 1.4, 2)
        return qk * zeta ** power[:, None, :, None]

    def rotate_query(self, q, pos):
        return self.scaled(self.rotate(q, pos), pos / 512)

    def rotate_key(self, k, pos):
        return self.scaled(self.rotate(k, pos), -pos / 512)


# --- attention -----------------------------------------------------------------------------------


class Differential(nnx.Module):
    """Attention of the first halves of q and k, less w times that of the second halves.

    Source: Ye et al., arXiv:2410.05258, section 2.1, with w trained directly, and no norm after.
    """

    def __init__(self, num_heads, attention=attend):
        self.weight, self.attention = nnx.Param(jnp.full(num_heads, 0.8)), attention

    def __call__(self, q, k, *rest):
        half = jnp.arange(q.shape[-1]) < q.shape[-1] // 2
        first, second = (self.attention(2**0.5 * q * part, k, *rest) for part in (half, ~half))
        return first - self.weight[...][:, None, None] * second


class Sink(nnx.Module):
    """Softmax over one more key, of a trained score and no value (gpt-oss, arXiv:2508.10925)."""

    def __init__(self, num_heads, attention=attend):
        self.score, self.attention = nnx.Param(jnp.zeros(num_heads)), attention

    def __call__(self, *arguments):
        context, lse = self.attention.with_lse(*arguments)
        return context * jax.nn.sigmoid(lse - self.score[...][:, None])[..., None]


class OffByOne(nnx.Module):
    """exp(score) / (1 + sum of exp(score)): a head may attend to nothing.

    Source: E. Miller, Attention is off by one, 2023.
    """

    def __init__(self, attention=attend):
        self.attention = attention

    def __call__(self, *arguments):
        context, lse = self.attention.with_lse(*arguments)
        return context * jax.nn.sigmoid(lse)[..., None]


def relu_attention(q, k, v, bias, positions, segments):
    """relu(score) / length in place of softmax (Wortsman et al., arXiv:2309.08586)."""
    seen = attention_mask(segments)
    scores = jax.nn.relu(attention_scores(q, k, bias, positions))
    weights = jnp.where(seen, scores, 0.0) / jnp.maximum(seen.sum(-1, keepdims=True), 1)
    return jnp.einsum("bnts,bnsh->bnth", weights, v)


class TalkingHeads(nnx.Module):
    """Heads mixed before and after the softmax (Shazeer et al., arXiv:2003.02436)."""

    def __init__(self, num_heads):
        mix = 0.9 * jnp.eye(num_heads) + 0.1 / num_heads
        self.before, self.after = nnx.Param(mix), nnx.Param(mix)

    def __call__(self, q, k, v, bias, positions, segments):
        scores = attention_scores(q, k, bias, positions)
        scores = jnp.einsum("bnts,nm->bmts", scores, self.before[...])
        weights = unnormalized_weights(scores, segments)
        weights = weights / softmax_denominator(weights)
        return jnp.einsum("bnts,nm,bmsh->bmth", weights, self.after[...], v)


# --- self-attention and layers -------------------------------------------------------------------


class LogLength(SelfAttention):
    """Scores times log(length) / log(512), so that long texts do not flatten the softmax.

    Source: Chiang and Cholak, arXiv:2202.12172.
    """

    def heads(self, x, metadata):
        q, k, v = super().heads(x, metadata)
        tokens = metadata.segments.shape[1]
        count = jax.vmap(lambda own: jnp.bincount(own, length=tokens + 1)[own])
        factor = jnp.log(count(metadata.segments)) / math.log(512)
        return (q * factor[:, None, :, None]).astype(q.dtype), k, v


class FewerHeads(Projection):
    """A projection onto half of the heads, each of which serves two."""

    def __call__(self, x):
        return jnp.repeat(super().__call__(x), 2, axis=2)


class GroupedQuery(SelfAttention):
    """Two heads of queries share keys and values (Ainslie et al., arXiv:2305.13245)."""

    def __init__(self, components, *, rngs):
        super().__init__(components, rngs=rngs)
        d, n, h = self.query.weight.shape
        sizes, draw = {"d": d, "n": n // 2, "h": h}, {"rngs": rngs, "std": 0.02}
        self.key = FewerHeads("btd,dnh->btnh", sizes, **draw)
        self.value = FewerHeads("btd,dnh->btnh", sizes, **draw)


class GatedOutput(SelfAttention):
    """The context times a gate, sigmoid(x W), before it is projected (arXiv:2505.06708)."""

    def __init__(self, components, *, rngs):
        super().__init__(components, rngs=rngs)
        self.gate = components.projection("btd,dnh->btnh", rngs=rngs)

    def __call__(self, x, metadata, attention):
        gate = jax.nn.sigmoid(jnp.swapaxes(self.gate(x), 1, 2))
        gated = lambda *arguments: attention(*arguments) * gate  # noqa: E731
        return super().__call__(x, metadata, gated)


class HeadNorm(nnx.Module):
    """RMS norm of the queries or keys of each head (Henry et al., arXiv:2010.04245; Qwen 3)."""

    def __init__(self, width):
        self.scale = nnx.Param(jnp.ones(width))

    def __call__(self, qk):
        power = jnp.square(qk).mean(-1, keepdims=True)
        return qk * jax.lax.rsqrt(power + 1e-6) * self.scale[...]


class Window(Bias):
    """Keys at most `width` away, as in most layers of ModernBERT (arXiv:2412.13663)."""

    def __init__(self, num_heads, width=16):
        self.width = jnp.full(num_heads, width)

    def __call__(self, pos_q, pos_k):
        return self.upper(distances(pos_q, pos_k))

    def upper(self, distance):
        return jnp.where(distance <= self.width, 0.0, FAR)


class PreNorm(Layer):
    """x + attention(norm(x)), then x + feed_forward(norm(x)) (Xiong et al., arXiv:2002.04745)."""

    def __call__(self, x, metadata, attention):
        x = x + self.attention(self.attention_norm(x), metadata, attention)
        return x + self.feed_forward(self.output_norm(x))


# --- the gallery ---------------------------------------------------------------------------------

HEADS = 4
CONFIG = EncoderConfig.bert(
    vocab_size=31,
    hidden_size=24,
    num_layers=2,
    num_heads=HEADS,
    intermediate_size=13,
    position="none",
    initializer_range=0.4,  # so that attention is far from even
)
COMPONENTS = components_of(CONFIG)


class Variant(NamedTuple):
    """A variant, where it comes in, and the arguments of Encoder for an attention to run on."""

    place: str
    code: tuple[Any, ...]  # its classes and functions
    parts: Callable[[Any], dict[str, Any]]
    dense_only: str = ""  # why it runs by the dense definition alone

    def lines(self) -> int:
        """The lines of its code that are not empty."""
        return sum(1 for one in self.code for line in inspect.getsource(one).splitlines() if line)


def biased(kind):
    """A variant that is a bias."""
    return Variant("bias", (kind,), lambda _: {"position": Added(kind(HEADS))})


def turned(kind):
    """A variant that is a rotation."""
    return Variant("rotation", (kind,), lambda _: {"position": kind()})


def wrapped(kind, *sizes):
    """A variant on top of any attention."""
    return Variant("attention", (kind,), lambda inner: {"attention": kind(*sizes, inner)})


def layers(*makers, **components):
    """A variant of self-attention or of the layer, with one maker or one for each layer."""
    made = list(makers) * (CONFIG.num_layers // len(makers))
    changed = COMPONENTS._replace(**components)
    return lambda _: {"components": changed, "layers": made}


def local(width):
    """A layer whose heads see keys at most so far away."""
    scheme = Added(Window(HEADS, width))
    return partial(Layer, attention=partial(LayerScheme, scheme=scheme))


def attending(kind):
    """A maker of BERT's layer with another self-attention."""
    return partial(Layer, attention=kind)


def rms_per_head():
    """A maker of the norm of queries or keys."""
    return HeadNorm(CONFIG.sizes["h"])


SUM = "its weights are no softmax"
MIX = "it mixes the scores of all heads"
GALLERY = {
    "learned ALiBi slopes": biased(LearnedSlopes),
    "asymmetric ALiBi": biased(Asymmetric),
    "KERPLE": biased(Kerple),
    "Sandwich": biased(Sandwich),
    "T5 buckets": biased(Buckets),
    "local and global": biased(LocalGlobal),
    "FIRE": biased(Fire),
    "soft cap": biased(SoftCap),
    "NTK RoPE": turned(NtkRope),
    "YaRN": turned(Yarn),
    "xPos": turned(XPos),
    "differential": wrapped(Differential, HEADS),
    "sink": wrapped(Sink, HEADS),
    "softmax off by one": wrapped(OffByOne),
    "ReLU": Variant("attention", (relu_attention,), lambda _: {"attention": relu_attention}, SUM),
    "talking heads": Variant(
        "attention", (TalkingHeads,), lambda _: {"attention": TalkingHeads(HEADS)}, MIX
    ),
    "log length": Variant("self-attention", (LogLength,), layers(attending(LogLength))),
    "grouped queries": Variant(
        "self-attention", (FewerHeads, GroupedQuery), layers(attending(GroupedQuery))
    ),
    "gated output": Variant("self-attention", (GatedOutput,), layers(attending(GatedOutput))),
    "norms of q and k": Variant(
        "components", (HeadNorm,), layers(Layer, query_norm=rms_per_head, key_norm=rms_per_head)
    ),
    "local and global layers": Variant("layer", (Window, local), layers(local(8), local(10**6))),
    "pre-norm": Variant("layer", (PreNorm,), layers(PreNorm, final_norm=COMPONENTS.norm)),
}


def table():
    """The table of chapter 3."""
    head = ["variant", "code", "joint", "lines", "blockwise and kernels"]
    rows = [head, ["---"] * len(head)]
    for name, variant in GALLERY.items():
        tiled = f"no: {variant.dense_only}" if variant.dense_only else "yes"
        code = ", ".join(f"`{one.__name__}`" for one in variant.code)
        rows.append([name, code, variant.place, str(variant.lines()), tiled])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    print(table())
