"""The options of `jaxbert lab extrapolate`, as argparse takes them; --help imports no jax."""

import argparse
from typing import Any


def run_lab_extrapolate(options: argparse.Namespace) -> int:
    """Train small models with each scheme, and say what they find at longer lengths."""
    from jaxbert.process import interrupts

    interrupts.check()
    from jaxbert.lab.extrapolate_command import run_extrapolate

    return run_extrapolate(options)


def extrapolate_command(experiments: Any) -> None:
    """`jaxbert lab extrapolate --scheme alibi --scheme my.py:Scheme ... -o runs/`."""
    about = "train small models with schemes at one length, and evaluate them at longer ones"
    command = experiments.add_parser("extrapolate", help=about, description=about)
    command.set_defaults(action=run_lab_extrapolate)
    command.add_argument(
        "--scheme",
        action="append",
        required=True,
        metavar="NAME|FILE.py:SCHEME",
        help="alibi, asymmetric (ALiBi), rope, t5, learned, none, or your own; may be repeated",
    )
    data(command)
    training(command)


def data(command: argparse.ArgumentParser) -> None:
    """What is read and written."""
    give = command.add_argument_group("texts and output").add_argument
    inputs: dict[str, Any] = {"nargs": "+", "metavar": "INPUT"}
    give("--texts", **inputs, help="files, patterns, .gz (default: Python's own help texts)")
    give("--evaluate", **inputs, help="texts to evaluate on (default: the last of --texts)")
    give("--format", choices=("text", "jsonl", "csv", "parquet"), help="default: by the name")
    give("--text-field", default="text", metavar="NAME", help="default: text")
    give("--tokenizer", metavar="MODEL", help="whose tokens to take (default: characters)")
    give(
        "--pieces",
        type=int,
        default=64,
        metavar="N",
        help="of the longest length that are evaluated, at most (default: %(default)s)",
    )
    give("-o", "--output", dest="folder", required=True, metavar="FOLDER", help="of the runs")
    give("--quiet", action="store_true", help="no progress")


def training(command: argparse.ArgumentParser) -> None:
    """What decides about the result."""
    give = command.add_argument_group("how").add_argument
    shown = "(default: %(default)s)"
    give("--steps", type=int, default=1000, metavar="N", help=f"batches to train on {shown}")
    give("--seconds", type=float, metavar="S", help="train each run for so long instead")
    give("--seeds", type=int, default=3, metavar="N", help=f"runs of each scheme {shown}")
    give("--length", type=int, default=64, metavar="T", help=f"symbols of a row {shown}")
    give("--lengths", metavar="T,T,...", help="to evaluate at (default: 1, 2, 4, 8, 16 times that)")
    give(
        "--special",
        choices=("none", "cls", "both"),
        default="none",
        help=f"[CLS] before each row, or [CLS] and [SEP] around it {shown}",
    )
    give("--share", type=float, default=0.3, help=f"of the symbols that are masked {shown}")
    give("--batch", type=int, default=16, metavar="N", help=f"rows of a step {shown}")
    give("--rate", type=float, default=3e-3, help=f"the highest learning rate {shown}")
    give("--layers", type=int, default=2, metavar="L", help=shown)
    give("--width", type=int, default=64, metavar="D", help=shown)
    give("--heads", type=int, default=4, metavar="N", help=shown)
    give("--std", type=float, default=0.02, help=f"of the weights before training {shown}")
