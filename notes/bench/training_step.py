"""A step of training by jaxbert beside the same step by torch: float32, one run, in turns.

python notes/bench/training_step.py [--rounds 9]

The step is that of distillation: vectors of a batch by mean pooling, one minus their cosine to
given ones, the gradient of every weight, AdamW. The models have random weights: a BERT of 3 layers
of 384 (32 rows of 32 tokens), with transformers' BertModel as the peer, and the sizes of
jina-embeddings-v2-small-en (8 rows of 512), where the peer is its arithmetic written here in torch
with torch's fused attention, since the model's own code needs transformers 4. The engines are
processes that take turns. Needs the extras parity and bench.
"""

import argparse
import json
import statistics
from pathlib import Path

import numpy as np
from peers import Worker, machine, versions
from peers_models import cores, serve_engine

SHAPES = {"bert": (32, 32), "jinabert": (8, 512)}
WIDTHS = {"bert": 384, "jinabert": 512}
FILE = Path(__file__).with_suffix(".json")
RATE = 1e-4


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


def serve(name, kind, pipe):
    """Answer the calls of one engine."""
    serve_engine(ENGINES[name], kind, pipe)


# --- what is measured ----------------------------------------------------------------------------


def run(options):
    """The figures of both models, as a dict that is written as JSON."""
    figures = {"machine": machine(), "versions": versions(), "rounds": options.rounds, "models": {}}
    for kind in SHAPES:
        workers = {name: Worker(name, kind, serve) for name in ENGINES}
        seconds = {name: [] for name in workers}
        for worker in workers.values():
            worker.ask("train", calls=2)
        for turn in range(options.rounds):
            for name in list(workers)[:: 1 if turn % 2 else -1]:
                seconds[name] += workers[name].ask("train")[0]
        for worker in workers.values():
            worker.close()
        figures["models"][kind] = seconds
    options.output.write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def show(figures):
    """Print the table as Markdown."""
    print("| model | rows x tokens | jaxbert, ms | torch, ms | ratio of least | of medians |")
    print("|---" * 6 + "|")
    for kind, own in figures["models"].items():
        ours, theirs = own["jaxbert"], own["torch"]
        print(
            f"| {kind} | {SHAPES[kind][0]} x {SHAPES[kind][1]} | {1e3 * min(ours):.0f} "
            f"| {1e3 * min(theirs):.0f} | {min(theirs) / min(ours):.2f} "
            f"| {statistics.median(theirs) / statistics.median(ours):.2f} |"
        )


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--output", type=Path, default=FILE)
    show(run(options.parse_args()))
