"""The options of `jaxbert train`, as argparse takes them; no jax is imported for --help."""

import argparse
from typing import Any

# Learning rate, length and rows of a batch where none are given, by task.
DEFAULTS: dict[str, dict[str, Any]] = {
    "mlm": {"rate": 5e-4, "length": 128, "batch": 32, "buckets": 1},
    "pairs": {"rate": 5e-5, "length": 128, "batch": 64, "buckets": 3},
    "distil": {"rate": 5e-4, "length": 64, "batch": 32, "buckets": 3},
}
PAIR_LOSSES, DISTIL_LOSSES = ("info_nce", "cosent"), ("cosine", "mse", "kl")
ABOUT = {
    "mlm": "a masked language model, on texts",
    "pairs": "an embedder, on pairs of texts that are alike",
    "distil": "an embedder, on the vectors that a teacher gives to texts",
}


def run_train(options: argparse.Namespace) -> int:
    """Train, and write the folder of a model; the exit status."""
    from jaxbert.process import interrupts

    interrupts.check()
    from jaxbert.train import command

    return command.train(options)


def train_command(actions: Any) -> None:
    """`jaxbert train mlm | pairs | distil`."""
    about = "train a model: mlm, pairs or distil"
    train = actions.add_parser("train", help=about, description=about)
    tasks = train.add_subparsers(title="tasks", required=True, metavar="TASK", dest="task")
    for name, what in ABOUT.items():
        task = tasks.add_parser(name, help=what, description=f"train {what}")
        task.set_defaults(action=run_train, task=name)
        beginning(task)
        numbers(task, DEFAULTS[name])
        around(task)
        {"mlm": mlm, "pairs": pairs, "distil": distil}[name](task)


def beginning(task: argparse.ArgumentParser) -> None:
    """The options that say what training begins with."""
    give = task.add_argument_group("what training begins with").add_argument
    give("--base", metavar="MODEL", help="a folder or hub name")
    give("--revision", help="branch, tag or commit on the hub")
    give("--ignore-config", action="append", default=[], metavar="KEY", help="a key to pass over")
    give("--layers", metavar="I,J,...", help="the base's layers to keep, from 0 (default: all)")
    give("--architecture", choices=("jinabert",), help="make the base another one")
    give(
        "--intermediate", type=int, metavar="N", help="of --architecture: the feed-forward's width"
    )
    give("--config", metavar="NAME|FILE", help="random weights: bert-tiny, jinabert-mini, or JSON")
    give("--tokenizer", metavar="MODEL", help="with --config: whose vocabulary to take")


def numbers(task: argparse.ArgumentParser, default: dict[str, Any]) -> None:
    """What decides about the result."""
    give = task.add_argument_group("how").add_argument
    shown = "(default: %(default)s)"
    give("--steps", type=int, required=True, metavar="N", help="batches to train on")
    give("--batch", type=int, default=default["batch"], metavar="N", help=f"rows of one {shown}")
    give("--length", type=int, default=default["length"], metavar="N", help=f"tokens {shown}")
    give(
        "--buckets",
        type=int,
        default=default["buckets"],
        metavar="N",
        help=f"lengths that rows are filled up to: --length, its half, ... {shown}",
    )
    give("--rate", type=float, default=default["rate"], help=f"the highest learning rate {shown}")
    give("--warmup", type=int, metavar="N", help="steps up to it (default: a tenth)")
    give("--schedule", choices=("linear", "cosine", "constant"), default="linear", help=shown)
    give("--decay", type=float, default=0.01, help=f"weight decay {shown}")
    give("--clip", type=float, default=1.0, help=f"the largest norm of a gradient {shown}")
    give("--dropout", type=float, default=0.0, metavar="SHARE", help=shown)
    give("--seed", type=int, default=0, help=shown)
    give(
        "--freeze",
        action="append",
        default=[],
        metavar="PATH",
        help="weights that stay, such as encoder.embeddings.word; may be repeated",
    )
    give("--rows", type=int, metavar="N", help="texts in memory at once (default: all of a batch)")


def around(task: argparse.ArgumentParser) -> None:
    """What is read and written."""
    give = task.add_argument_group("data and output").add_argument
    give(
        "--texts", "--data", nargs="+", required=True, metavar="INPUT", help="files, patterns, .gz"
    )
    give("--format", choices=("text", "jsonl", "csv", "parquet"), help="default: by the name")
    give("--on-bad-row", choices=("fail", "skip"), default="fail", help="default: %(default)s")
    give(
        "--evaluate",
        nargs="+",
        metavar="FILE",
        help="never trained on: texts for mlm, else rows of sentence1, sentence2, score",
    )
    give("-o", "--output", required=True, metavar="FOLDER", help="the model; its run: FOLDER.run")
    give("--checkpoint-every", type=int, default=500, metavar="N", help="steps (default: 500)")
    give(
        "--minutes",
        type=float,
        metavar="M",
        help="stop after so long, wherever that is; the same command goes on",
    )
    give("--quiet", action="store_true", help="no progress")


def mlm(task: argparse.ArgumentParser) -> None:
    """The options that only mlm has."""
    task.add_argument("--text-field", default="text", metavar="NAME", help="default: text")
    share = "of a text's tokens that are masked (default: %(default)s)"
    task.add_argument("--share", type=float, default=0.15, help=share)


def losses(task: argparse.ArgumentParser, choices: tuple[str, ...]) -> None:
    """What tasks with a choice of losses have; the first one is the default."""
    task.add_argument("--loss", choices=choices, default=choices[0], help="default: %(default)s")
    about = "of similarities, by which they are divided (default: %(default)s)"
    task.add_argument("--temperature", type=float, default=0.05, help=about)
    about = "also train the first so many features, such as 384,192,96"
    task.add_argument("--matryoshka", metavar="D,E,...", help=about)


def pairs(task: argparse.ArgumentParser) -> None:
    """The options that only pairs has."""
    for name in ("anchor", "positive", "negative"):
        about = "default: %(default)s" + (", where rows have it" if name == "negative" else "")
        task.add_argument(f"--{name}-field", default=name, metavar="NAME", help=about)
    task.add_argument("--score-field", metavar="NAME", help="for --loss cosent")
    losses(task, PAIR_LOSSES)


def distil(task: argparse.ArgumentParser) -> None:
    """The options that only distil has."""
    task.add_argument("--text-field", default="text", metavar="NAME", help="default: text")
    about = "train on the sentences of texts, longer ones in pieces of N words"
    task.add_argument("--sentences", type=int, metavar="N", help=about)
    about = "train on so many of them, drawn at random, whatever the seed (default: all)"
    task.add_argument("--sample", type=int, metavar="N", help=about)
    task.add_argument("--teacher", metavar="MODEL", help="default: the base, with all its layers")
    about = "of the teacher, where they are kept for other students (default: the run's)"
    task.add_argument("--vectors", metavar="FOLDER", help=about)
    losses(task, DISTIL_LOSSES)
