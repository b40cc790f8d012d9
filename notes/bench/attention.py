"""Time and peak memory of the small JinaBERT encoder by length: dense, blockwise, torch's SDPA.

python notes/bench/attention.py [--rounds 3] [--output FILE] [LENGTH ...]
python notes/bench/attention.py --turns 512 8 12      (tokens, rows, rounds)
needs torch (the parity extra). Random weights in the sizes of jina-embeddings-v2-small-en, float32.
torch gets the encoder written plainly, with scaled_dot_product_attention and the bias as a tensor
that is made once; "and mask" adds the mask of padding to it in each call, as an encoder that takes
batches of texts must (the others here take a mask without more memory).
Each figure is a process of its own, for peak memory is kept per process; the kinds take turns.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

SIZES = dict(vocab_size=30528, hidden_size=512, num_layers=4, num_heads=8, intermediate_size=2048)
LENGTHS = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
# The longest text whose [heads, length, length] numbers fit 20 GiB a few times over.
LONGEST = {
    "dense": 8192,
    "torch, bias": 8192,
    "torch, bias and mask": 8192,
    "blockwise, nothing skipped": 16384,  # a matter of patience
}
KINDS = (
    "dense",
    "blockwise",
    "blockwise, nothing skipped",
    "torch, bias",
    "torch, bias and mask",
)


def ours(kind, ids):
    """A call of the encoder with one kind of attention."""
    from flax import nnx

    from jaxbert import Encoder, EncoderConfig
    from jaxbert.model.attention import Blockwise, dense

    attention = {
        "dense": dense,
        "blockwise": Blockwise(),
        "blockwise, nothing skipped": Blockwise(tolerance=0.0),
    }[kind]
    encoder = Encoder(EncoderConfig.jinabert(**SIZES), rngs=nnx.Rngs(0), attention=attention)
    return lambda: encoder(ids).block_until_ready()


def torchs(kind, ids):
    """A call of the same encoder in torch."""
    import torch
    from torch import nn
    from torch.nn.functional import gelu, scaled_dot_product_attention

    from jaxbert.model.position import alibi_slopes

    d, f, n = SIZES["hidden_size"], SIZES["intermediate_size"], SIZES["num_heads"]

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
            self.up, self.down = nn.Linear(d, 2 * f, bias=False), nn.Linear(f, d)
            self.norms = nn.ModuleList([nn.LayerNorm(d, eps=1e-12) for _ in range(2)])

        def forward(self, x, bias):
            b, t, _ = x.shape
            q, k, v = self.qkv(x).view(b, t, 3, n, d // n).permute(2, 0, 3, 1, 4)
            context = scaled_dot_product_attention(q, k, v, attn_mask=bias)
            x = self.norms[0](x + self.out(context.transpose(1, 2).reshape(b, t, d)))
            gate, value = self.up(x).chunk(2, dim=-1)
            return self.norms[1](x + self.down(gelu(gate) * value))

    torch.manual_seed(0)
    layers = nn.ModuleList([Layer() for _ in range(SIZES["num_layers"])])
    embeddings = nn.Sequential(nn.Embedding(SIZES["vocab_size"], d), nn.LayerNorm(d, eps=1e-12))
    for matrix in (w for w in layers.parameters() if w.ndim == 2):
        nn.init.normal_(matrix, std=0.02)
    place = torch.arange(ids.shape[1])
    distance = (place[:, None] - place[None, :]).abs().float()
    bias = -torch.tensor(alibi_slopes(n))[None, :, None, None] * distance
    del distance

    mask = torch.zeros(ids.shape[0], 1, 1, ids.shape[1])

    @torch.inference_mode()
    def run():
        x = embeddings(torch.from_numpy(ids))
        term = bias + mask if "mask" in kind else bias
        for layer in layers:
            x = layer(x, term)
        return x

    return run


def measure(kind, length, rows, calls):
    """Print the seconds of each call after the first, and the peak memory in GiB."""
    import numpy as np

    ids = np.random.default_rng(0).integers(0, SIZES["vocab_size"], (rows, length))
    run = torchs(kind, ids) if "torch" in kind else ours(kind, ids)
    run()
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": min(times), "peak": peak}))


def turns(length, rows, rounds):
    """dense and blockwise in one process, taking turns: for texts where they are nearly alike."""
    import numpy as np

    ids = np.random.default_rng(0).integers(0, SIZES["vocab_size"], (rows, length))
    calls = {kind: ours(kind, ids) for kind in ("dense", "blockwise")}
    times = {kind: [] for kind in calls}
    for _ in range(rounds + 1):
        for kind, call in calls.items():
            start = time.perf_counter()
            call()
            times[kind].append(time.perf_counter() - start)
    for kind, seconds in times.items():
        print(f"{kind}: {min(seconds[1:]):.3f} s, median {np.median(seconds[1:]):.3f} s")


def compare(lengths, rounds):
    """{length: {kind: (seconds, GiB)}}, the smallest of `rounds` processes each."""
    found = {}
    for length in lengths:
        kinds = [kind for kind in KINDS if length <= LONGEST.get(kind, length)]
        best = {}
        for _ in range(rounds if length <= 8192 else 1):
            for kind in kinds:
                rows, calls = max(1, 4096 // length), 3 if length <= 8192 else 1
                command = [sys.executable, __file__, "--one", kind, str(length), str(rows)]
                text = subprocess.check_output([*command, str(calls)], text=True)
                one = json.loads(text.splitlines()[-1])
                old = best.get(kind, one)
                best[kind] = {name: min(old[name], one[name]) for name in one}
        found[length] = best | {"rows": max(1, 4096 // length)}
        cells = [
            f"{best[kind]['seconds']:.3f} s, {best[kind]['peak']:.2f} GiB" if kind in best else "-"
            for kind in KINDS
        ]
        print(f"| {max(1, 4096 // length)} x {length} | {' | '.join(cells)} |", flush=True)
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        measure(sys.argv[2], *map(int, sys.argv[3:]))
        sys.exit()
    if sys.argv[1:2] == ["--turns"]:
        turns(*map(int, sys.argv[2:]))
        sys.exit()
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("lengths", nargs="*", type=int, default=LENGTHS)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--output", help="also write the figures as JSON, for figures/draw.py")
    options = options.parse_args()
    print(f"| rows x tokens | {' | '.join(KINDS)} |\n|{'---|' * (len(KINDS) + 1)}", flush=True)
    figures = compare(options.lengths, options.rounds)
    if options.output:
        with open(options.output, "w") as file:
            json.dump(figures, file, indent=1)
