"""Attention and the JinaBERT base model on one GPU, by length: the kernel against torch.

python notes/bench/gpu.py [--rounds 21] [--tokens 32768] [--part attention|model|tiles] [LENGTH ...]
needs torch, and a GPU for both (`--dry`: tiny sizes on a CPU, the kernel interpreted).

bfloat16; each length has rows to make up the same number of tokens. torch has flex_attention with
ALiBi as a score_mod and scaled_dot_product_attention with the bias as a tensor, all compiled. All
take turns; a figure is the median over the rounds, each of as many calls as fill `--sample`
seconds. TFLOP/s counts every score, also those of skipped tiles, and is compared with the best of a
large matrix product in jax and in torch, measured first. `differs` is the largest distance from the
first line of the same length. With random weights scores are small and more tiles are skipped than
with trained ones: "every tile" is the figure to compare.
"""

import argparse
import functools
import os
import statistics
import sys
import time
from dataclasses import dataclass

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # torch needs memory too
if "--dry" in sys.argv:
    os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.functional import gelu, layer_norm, scaled_dot_product_attention

from jaxbert import Encoder, EncoderConfig
from jaxbert.inference.inputs import Inputs
from jaxbert.model.attention.gpu import Gpu
from jaxbert.model.position import Alibi, alibi_slopes

LENGTHS = (512, 1024, 2048, 4096, 8192, 16384, 32768)
BASE = dict(vocab_size=30528, hidden_size=768, num_layers=12, num_heads=12, intermediate_size=3072)
TINY = dict(vocab_size=31, hidden_size=96, num_layers=2, num_heads=3, intermediate_size=80)
# The longest text whose bias [n, t, t] torch is given, 6 GiB for 12 heads.
LONGEST_TENSOR = 16384
TILES = [(128, 64), (128, 128), (64, 64), (128, 32)]
LAUNCHES = [(4, 2), (4, 3), (8, 2), (8, 3)]  # warps, stages


@dataclass
class Bench:
    """What all parts share."""

    sizes: dict
    dry: bool
    rounds: int
    sample: float  # seconds
    tokens: int
    roof: float = 0.0  # FLOP/s

    @property
    def device(self):
        return "cpu" if self.dry else "cuda"

    @property
    def heads(self):
        return self.sizes["num_heads"]

    @property
    def width(self):
        return self.sizes["hidden_size"] // self.heads

    @functools.cached_property
    def base(self):
        """An encoder with random weights in bfloat16."""
        made = Encoder(EncoderConfig.jinabert(**self.sizes), rngs=nnx.Rngs(0))
        return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), made)

    def kinds(self):
        """The kernel without skipping, which computes what torch does, and as it is."""
        every = Gpu(tolerance=0.0, interpret=self.dry)
        return {"jaxbert, every tile": every, "jaxbert": Gpu(interpret=self.dry)}

    def torch(self, array):
        return torch.from_numpy(np.asarray(array, np.float32)).to(self.device, torch.bfloat16)


compiled = functools.partial(torch.compile, dynamic=False)


def finished(result):
    """Wait for a result of either library."""
    if isinstance(result, torch.Tensor):
        if result.is_cuda:
            torch.cuda.synchronize()
    else:
        result.block_until_ready()
    return result


def seconds(call, repeat):
    """Of one call out of many that are queued together, so that launching them is hidden."""
    start = time.perf_counter()
    for _ in range(repeat):
        result = call()
    finished(result)
    return (time.perf_counter() - start) / repeat


def medians(bench, calls):
    """Seconds of each call, all taking turns."""
    repeats = {}
    for name, call in calls.items():
        seconds(call, 2)
        repeats[name] = max(1, min(1000, int(bench.sample / seconds(call, 1))))
    times = {name: [] for name in calls}
    for _ in range(bench.rounds):
        for name, call in calls.items():
            times[name].append(seconds(call, repeats[name]))
    return {name: statistics.median(values) for name, values in times.items()}


def plain(result):
    """A NumPy array of either library's result."""
    if isinstance(result, torch.Tensor):
        return result.float().cpu().numpy()
    return np.asarray(result, np.float32)


def usable(calls):
    """The calls that run, each with its distance from the first; what fails is said and left."""
    distances, first = {}, None
    for name, call in calls.items():
        try:
            result = plain(finished(call()))
        except (torch.OutOfMemoryError, jax.errors.JaxRuntimeError, RuntimeError) as error:
            print(f"{name}: {str(error).splitlines()[0][:120]}", file=sys.stderr)
            continue
        first = result if first is None else first
        distances[name] = float(np.abs(result - first).max())
    return distances


def table(bench, length, rows, flops, calls):
    """Lines of one length."""
    distances = usable(calls)
    times = medians(bench, {name: calls[name] for name in distances})
    for name, taken in times.items():
        rate = flops / taken
        speed = f"{taken * 1e3:.3f} | {rate / 1e12:.1f} | {rate / bench.roof:.0%}"
        print(f"| {length} x {rows} | {name} | {speed} | {distances[name]:.1e} |", flush=True)


def roof(bench):
    """FLOP/s of a large product of bfloat16 matrices, the best of both libraries."""
    size = 64 if bench.dry else 8192
    matrix = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32)
    ours, theirs, product = jnp.asarray(matrix, jnp.bfloat16), bench.torch(matrix), jax.jit(jnp.dot)
    times = medians(bench, {"jax": lambda: product(ours, ours), "torch": lambda: theirs @ theirs})
    for name, taken in times.items():
        print(f"{name}: {size}^3 product at {2 * size**3 / taken / 1e12:.1f} TFLOP/s")
    return 2 * size**3 / min(times.values())


def torch_kinds(bench, length):
    """torch's ways to attend with ALiBi, each a function of q, k, v [b, n, t, h]."""
    slopes = torch.tensor(alibi_slopes(bench.heads), device=bench.device)

    def alibi(score, row, head, query, key):
        return score - slopes[head] * (query - key).abs()

    kinds = {"torch flex_attention": functools.partial(flex_attention, score_mod=alibi)}
    if length <= LONGEST_TENSOR:
        place = torch.arange(length, device=bench.device)
        distance = (place[:, None] - place[None, :]).abs()
        bias = torch.stack([(-slope * distance).bfloat16() for slope in slopes])[None]
        attend = functools.partial(scaled_dot_product_attention, attn_mask=bias)
        kinds["torch SDPA, bias tensor"] = attend
    return kinds


def scores_flops(bench, rows, length):
    """Two products of [t, h] and [h, s] for each head and row."""
    return 4 * rows * bench.heads * length * length * bench.width


def attention(bench, length, kinds=None):
    """Attention alone on random q, k, v."""
    rows = max(1, bench.tokens // length)
    shape = (3, rows, bench.heads, length, bench.width)
    arrays = np.random.default_rng(length).normal(size=shape).astype(np.float32)
    bias, places = Alibi(bench.heads).bias, jnp.arange(length, dtype=jnp.int32)[None]
    given = [jnp.asarray(x, jnp.bfloat16) for x in arrays]
    arguments = (*given, bias, places, jnp.ones((rows, length), jnp.int32))
    ours = (kinds or bench.kinds()).items()
    calls = {name: functools.partial(jax.jit(kernel), *arguments) for name, kernel in ours}
    if kinds is None:
        tensors = [bench.torch(x) for x in arrays]
        for name, kind in torch_kinds(bench, length).items():
            calls[name] = functools.partial(compiled(kind), *tensors)
    table(bench, length, rows, scores_flops(bench, rows, length), calls)


def tiles(bench, length):
    """The kernel in other sizes of tiles and launches."""
    kinds = {
        f"{q} x {k}, {warps} warps, {stages} stages": Gpu(q, k, warps, stages, 0.0, bench.dry)
        for q, k in TILES
        for warps, stages in LAUNCHES
    }
    attention(bench, length, kinds)


def torch_model(weights, attend, ids):
    """The same encoder in torch, with the same weights; attend takes and gives [b, n, t, h]."""
    get = weights.__getitem__

    def norm(x, name, at=...):
        scale, shift = get(f"{name}.scale")[at], get(f"{name}.shift")[at]
        return layer_norm(x, x.shape[-1:], scale, shift, 1e-12)

    x = norm(get("embeddings.word")[ids] + get("embeddings.token_type")[0], "embeddings.norm")
    for i in range(len(get("layers.output_norm.scale"))):

        def heads(name, x, i=i):
            weight = get(f"layers.attention.{name}.weight")[i]
            y = x @ weight.flatten(1) + get(f"layers.attention.{name}.bias")[i].flatten()
            # Written in this order while the bias is added: the compiler joins the two.
            return y.unflatten(-1, weight.shape[1:]).transpose(1, 2).contiguous()

        context = attend(*(heads(name, x) for name in ("query", "key", "value")))
        out = context.transpose(1, 2).flatten(2) @ get("layers.attention.out.weight")[i].flatten(
            0, 1
        )
        a = norm(x + out + get("layers.attention.out.bias")[i], "layers.attention_norm", i)
        gate, value = (a @ get("layers.feed_forward.up.weight")[i].flatten(1)).chunk(2, -1)
        inner = (gelu(gate) * value) @ get("layers.feed_forward.down.weight")[i]
        x = norm(a + inner + get("layers.feed_forward.down.bias")[i], "layers.output_norm", i)
    return x


def model_flops(bench, rows, length):
    """Products of the weights with every token, and the scores."""
    d, f, n = (bench.sizes[k] for k in ("hidden_size", "intermediate_size", "num_layers"))
    weights = 2 * rows * length * (4 * d * d + 3 * d * f)
    return n * (weights + scores_flops(bench, rows, length))


def model(bench, length):
    """The whole encoder, ids to states."""
    rows = max(1, bench.tokens // length)
    ids = np.random.default_rng(length).integers(0, bench.sizes["vocab_size"], (rows, length))
    given = jnp.asarray(ids, jnp.int32)
    inputs = Inputs(given, jnp.ones_like(given), jnp.zeros_like(given), jnp.arange(length)[None])
    forward, calls = jax.jit(Encoder.forward), {}
    for name, kernel in bench.kinds().items():
        own = jax.tree.map(lambda leaf: leaf, bench.base)
        own.attention = kernel
        calls[name] = functools.partial(forward, own, inputs)
    weights = {name: bench.torch(leaf) for name, leaf in bench.base.weights().items()}
    ids = torch.from_numpy(ids).to(bench.device)
    for name, kind in torch_kinds(bench, length).items():
        calls[name] = functools.partial(compiled(torch_model), weights, kind, ids)
    table(bench, length, rows, model_flops(bench, rows, length), calls)


PARTS = {
    "attention": (attention, "Attention alone, bfloat16"),
    "model": (model, "JinaBERT base, bfloat16, random weights"),
    "tiles": (tiles, "The kernel's tiles, nothing skipped"),
}
HEADER = """| tokens x rows | attention | ms | TFLOP/s | of the roof | differs |
|---|---|---|---|---|---|"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lengths", nargs="*", type=int, metavar="LENGTH")
    parser.add_argument("--part", action="append", choices=PARTS, help="default: all but tiles")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--sample", type=float, default=0.1, help="seconds of a round")
    parser.add_argument("--tokens", type=int, default=32768)
    parser.add_argument("--dry", action="store_true", help="tiny sizes on a CPU")
    given = parser.parse_args()
    bench, lengths = Bench(BASE, False, given.rounds, given.sample, given.tokens), LENGTHS
    if given.dry:
        bench, lengths = Bench(TINY, True, rounds=1, sample=0.0, tokens=66), (22, 33)
    device = jax.devices()[0].device_kind if given.dry else torch.cuda.get_device_name()
    print(f"{device}; jax {jax.__version__}, torch {torch.__version__}")
    bench.roof = roof(bench)
    with torch.inference_mode():
        for part in given.part or ("attention", "model"):
            measure, title = PARTS[part]
            print(f"\n{title}\n\n{HEADER}")
            for length in given.lengths or lengths:
                torch.compiler.reset()
                measure(bench, length)


if __name__ == "__main__":
    main()
