"""A step of training by jaxbert beside the same step by torch: float32, one run, in turns.

python notes/bench/training_step.py [--rounds 5]

The step is that of distillation: vectors of a batch by mean pooling, one minus their cosine to
given ones, the gradient of every weight, AdamW. The models have random weights: a BERT of 3 layers
of 384 (32 rows of 32 tokens), with transformers' BertModel as the peer, and the sizes of
jina-embeddings-v2-small-en (8 rows of 512), where the peer is its arithmetic written here in torch
with torch's fused attention, since the model's own code needs transformers 4. The engines are
processes that take turns: each of the two as it is, and in a process that was started with
HUGE_PAGES. A turn is some steps one after another, as a run takes them; the first, after a pause,
is timed apart. Needs the extras parity and bench.
"""

import argparse
import json
import os
import resource
import statistics
from pathlib import Path
from unittest.mock import patch

import numpy as np
from peers import Worker, machine, versions
from peers_models import cores, serve_engine

SHAPES = {"bert": (32, 32), "jinabert": (8, 512)}
WIDTHS = {"bert": 384, "jinabert": 512}
FILE = Path(__file__).with_suffix(".json")
RATE = 1e-4
TURN = 3  # steps
# With it glibc asks for pages of 2 MB (glibc 2.35, where the kernel gives them to those who ask).
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


def batch(kind):
    """The token ids [b, t] and the wanted vectors [b, d]."""
    random, shape = np.random.default_rng(0), SHAPES[kind]
    wanted = random.normal(size=(shape[0], WIDTHS[kind])).astype(np.float32)
    return random.integers(5, 30000, shape), wanted


# --- the engines ---------------------------------------------------------------------------------


class Jaxbert:
    """jaxbert's Step; the objective is `distil`, no weight is frozen."""

    def __init__(self, kind):
        from flax import nnx

        from jaxbert import Encoder, EncoderConfig
        from jaxbert.model.head import Pooling, PoolingHead
        from jaxbert.train.losses import cosine
        from jaxbert.train.models import TextModel
        from jaxbert.train.objectives import distil
        from jaxbert.train.optimizers import adamw
        from jaxbert.train.step import Step, start

        config = {
            "bert": EncoderConfig.bert(
                vocab_size=30522,
                hidden_size=384,
                num_layers=3,
                num_heads=12,
                intermediate_size=1536,
            ),
            "jinabert": EncoderConfig.jinabert(
                vocab_size=30528,
                hidden_size=512,
                num_layers=4,
                num_heads=8,
                intermediate_size=2048,
            ),
        }[kind]
        model = TextModel(Encoder(config, rngs=nnx.Rngs(0)), PoolingHead(Pooling()))
        ids, wanted = batch(kind)
        self.batch = {
            "ids": ids.astype(np.int32),
            "segments": np.ones_like(ids, np.int32),
            "teacher": wanted,
        }
        optimizer = adamw(RATE, steps=1000, warmup=0, shape="constant")
        self.step, self.state = Step(distil(cosine), optimizer), start(model, optimizer)

    def train(self):
        """One step; its loss."""
        self.state, told = self.step(self.state, self.batch)
        return float(told["loss"])


class Torch:
    """The same step by torch, as its users write it."""

    def __init__(self, kind):
        import torch

        torch.manual_seed(0)
        torch.set_num_threads(cores())
        self.model = bert() if kind == "bert" else jinabert()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=RATE)
        ids, wanted = batch(kind)
        self.ids, self.wanted = torch.from_numpy(ids), torch.from_numpy(wanted)
        self.cosine = torch.nn.functional.cosine_similarity

    def train(self):
        """One step; its loss."""
        self.optimizer.zero_grad()
        loss = (1 - self.cosine(self.model(self.ids).mean(1), self.wanted)).mean()
        loss.backward()
        self.optimizer.step()
        return loss.item()


def bert():
    """transformers' BertModel without dropout, as ids -> states."""
    import torch
    import transformers

    config = transformers.BertConfig(
        hidden_size=384,
        num_hidden_layers=3,
        num_attention_heads=12,
        intermediate_size=1536,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )

    class States(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = transformers.BertModel(config, add_pooling_layer=False)

        def forward(self, ids):
            return self.inner(ids, attention_mask=torch.ones_like(ids)).last_hidden_state

    return States()


def jinabert():
    """JinaBERT's arithmetic (notes/01-notation.md) in torch, as ids -> states."""
    import torch
    from torch import nn
    from torch.nn import functional

    d, f, n = 512, 2048, 8

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.query, self.key, self.value, self.out = (nn.Linear(d, d) for _ in range(4))
            self.up, self.down = nn.Linear(d, 2 * f, bias=False), nn.Linear(f, d)
            self.norms = nn.ModuleList(nn.LayerNorm(d, eps=1e-12) for _ in range(2))

        def forward(self, x, bias):
            b, t, _ = x.shape
            q, k, v = (
                own(x).view(b, t, n, d // n).transpose(1, 2)
                for own in (self.query, self.key, self.value)
            )
            context = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
            x = self.norms[0](x + self.out(context.transpose(1, 2).reshape(b, t, d)))
            gate, value = self.up(x).chunk(2, -1)
            return self.norms[1](x + self.down(functional.gelu(gate) * value))

    class States(nn.Module):
        def __init__(self):
            super().__init__()
            self.word, self.norm = nn.Embedding(30528, d), nn.LayerNorm(d, eps=1e-12)
            self.layers = nn.ModuleList(Layer() for _ in range(4))
            at = torch.arange(SHAPES["jinabert"][1])
            slopes = 2.0 ** -torch.arange(1, n + 1).float()
            self.bias = -slopes[:, None, None] * (at[:, None] - at[None]).abs()

        def forward(self, ids):
            x = self.norm(self.word(ids))
            for layer in self.layers:
                x = layer(x, self.bias[None])
            return x

    return States()


ENGINES = {"jaxbert": Jaxbert, "torch": Torch}
HUGE = ", huge pages"  # after the name of an engine
WORKERS = [*ENGINES, *(f"{name}{HUGE}" for name in ENGINES)]


def used():
    """Page faults, and seconds of the system and of the program, so far; the most memory in MB."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_minflt, own.ru_stime, own.ru_utime, own.ru_maxrss / 1024


def serve(name, kind, pipe):
    """Answer the calls of one engine."""
    engine = ENGINES[name.removesuffix(HUGE)]
    serve_engine(type(name, (engine,), {"used": lambda self: used()}), kind, pipe)


def worker(name, kind):
    """A process of the engine, with huge pages if its name says so."""
    with patch.dict(os.environ, HUGE_PAGES if name.endswith(HUGE) else {}):
        return Worker(name, kind, serve)


# --- what is measured ----------------------------------------------------------------------------


def run(options):
    """The figures of both models, as a dict that is written as JSON."""
    figures = {"machine": machine(), "versions": versions(), "rounds": options.rounds, "models": {}}
    for kind in SHAPES:
        workers = {name: worker(name, kind) for name in WORKERS}
        found = {name: {"turns": [], "losses": []} for name in workers}
        for own in workers.values():
            own.ask("train", calls=2)
        before = {name: own.ask("used")[1] for name, own in workers.items()}
        for turn in range(options.rounds):
            for name in list(workers)[:: 1 if turn % 2 else -1]:
                times, loss = workers[name].ask("train", calls=TURN)
                found[name]["turns"].append(times)
                found[name]["losses"].append(loss)
        for name, own in workers.items():
            *after, memory = own.ask("used")[1]
            steps = TURN * options.rounds
            each = [(x - y) / steps for x, y in zip(after, before[name], strict=False)]
            found[name] |= zip(("faults", "system", "user"), each, strict=True)
            found[name]["memory"] = memory
            own.close()
        figures["models"][kind] = found
    options.output.write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def seconds(own):
    """Of each step, (after a pause, after another step)."""
    return [turn[0] for turn in own["turns"]], [one for turn in own["turns"] for one in turn[1:]]


def show(figures):
    """Print the tables as Markdown."""
    print("| model | rows x tokens | huge pages | jaxbert, ms | torch, ms |", end="")
    print(" ratio of least | of medians |")
    print("|---" * 7 + "|")
    for kind, found in figures["models"].items():
        for asked, suffix in (
            ("neither", ("", "")),
            ("jaxbert", (HUGE, "")),
            ("both", (HUGE,) * 2),
        ):
            ours, theirs = (
                seconds(found[f"{name}{own}"])[1] for name, own in zip(ENGINES, suffix, strict=True)
            )
            print(
                f"| {kind} | {SHAPES[kind][0]} x {SHAPES[kind][1]} | {asked} "
                f"| {1e3 * min(ours):.0f} | {1e3 * min(theirs):.0f} "
                f"| {min(theirs) / min(ours):.2f} "
                f"| {statistics.median(theirs) / statistics.median(ours):.2f} |"
            )
    print("\n| model | process | after a pause, ms | page faults | system, s | user, s |", end="")
    print(" most memory, MB | losses |")
    print("|---" * 8 + "|")
    for kind, found in figures["models"].items():
        for name, own in found.items():
            plain = found[name.removesuffix(HUGE)]["losses"]
            print(
                f"| {kind} | {name} | {1e3 * statistics.median(seconds(own)[0]):.0f} "
                f"| {own['faults']:.0f} | {own['system']:.3f} | {own['user']:.3f} "
                f"| {own['memory']:.0f} "
                f"| {'the same bits' if own['losses'] == plain else 'differ'} |"
            )


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--output", type=Path, default=FILE)
    show(run(options.parse_args()))
