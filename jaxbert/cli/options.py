"""The commands and their options, as argparse takes them."""

import argparse
from typing import Any

from jaxbert import __version__
from jaxbert.cli.commands import (
    run_bench,
    run_embed,
    run_fill,
    run_info,
    run_lab_check,
    run_rank,
    run_search,
    run_similarity,
    run_status,
    run_verify,
)
from jaxbert.cli.experiments import extrapolate_command
from jaxbert.cli.serving import run_serve
from jaxbert.cli.training import train_command
from jaxbert.serve.options import serve_options

FORMATS = ("text", "jsonl", "csv", "parquet")
PRECISIONS = ("float32", "float16", "int8", "uint8", "binary", "ubinary")
ENGINES = ("jax", "openvino")
ATTENTIONS = ("auto", "dense", "folded", "blockwise", "tpu", "gpu")


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(
        prog="jaxbert", description="BERT and JinaBERT text embeddings in JAX."
    )
    top.add_argument("--version", action="version", version=f"jaxbert {__version__}")
    actions = top.add_subparsers(title="commands", required=True, metavar="COMMAND")

    embed = add(actions, "embed", "a vector for each row of files", run_embed)
    embed_options(embed)
    status = actions.add_parser("status", help="how far a run of embed is")
    status.add_argument("output", metavar="OUTPUT", help="what embed was given as -o")
    status.set_defaults(action=run_status)

    similarity = add(actions, "similarity", "how alike two texts are", run_similarity)
    similarity.add_argument("first", metavar="TEXT")
    similarity.add_argument("second", metavar="TEXT")

    rank = add(actions, "rank", "texts by their score for a query", run_rank, has_default=False)
    rank.add_argument("query", metavar="QUERY")
    rank.add_argument("input", nargs="*", help="files of texts, or - for stdin (the default)")
    rank.add_argument("--text-field", default="text", metavar="NAME", help="default: text")
    rank.add_argument("--top-k", type=int, metavar="N", help="default: all")

    search = add(actions, "search", "rows of a run's output by their likeness", run_search, False)
    search.add_argument("query", metavar="QUERY")
    search.add_argument("output", metavar="OUTPUT", help="what embed was given as -o")
    search.add_argument("--top-k", type=int, default=10, metavar="N", help="default: %(default)s")
    search.add_argument("--prompt", help="put before the query (default: the model's for queries)")
    search.add_argument("--prompt-name", metavar="NAME", help="a prompt of the model")
    search.add_argument("--ranges", metavar="FILE", help="of int8 and uint8, those of the run")
    search.set_defaults(model=None)

    fill = add(actions, "fill", "the words for each [MASK] of a text", run_fill, has_default=False)
    fill.add_argument("text", metavar="TEXT", help="a text with [MASK] in it")
    fill.add_argument("--top-k", type=int, default=5, help="words per mask (default: %(default)s)")

    serve = add(actions, "serve", "answer the clients of others over HTTP", run_serve, True)
    serve_options(serve)

    train_command(actions)
    add(actions, "info", "what a model is, and what was ignored in its files", run_info, True)
    verify = add(actions, "verify", "run the NumPy reference beside the encoder", run_verify, True)
    verify.add_argument(
        "--published",
        metavar="NAME",
        help="the hub name whose published values a folder must reproduce (default: as named)",
    )
    for command in (embed, similarity, rank, serve, verify):
        command.add_argument(
            "--engine", choices=ENGINES, default="jax", help="what computes (default: %(default)s)"
        )
    bench_command(actions)
    lab_options(actions)
    return top


def lab_options(actions: Any) -> None:
    """The experiments, each a command after lab."""
    about = "experiments with position schemes of your own"
    lab = actions.add_parser("lab", help=about, description=about)
    experiments = lab.add_subparsers(title="experiments", required=True, metavar="EXPERIMENT")
    about = "what a scheme does, before it is trained: a table and a picture"
    check = experiments.add_parser("check", help=about, description=about)
    check.add_argument("scheme", metavar="FILE.py:SCHEME", help="a Position or Bias of your own")
    check.add_argument("--heads", type=int, default=4, metavar="N", help="default: %(default)s")
    check.add_argument("--width", type=int, default=64, metavar="D", help="default: %(default)s")
    check.add_argument("--picture", metavar="FILE.png", help="default: SCHEME.png")
    check.set_defaults(action=run_lab_check)
    extrapolate_command(experiments)


def embed_options(embed: argparse.ArgumentParser) -> None:
    """What is read, what is written, and how."""
    give = embed.add_argument
    give("input", nargs="*", help="files, patterns, .gz, or - for stdin (the default)")
    give("-o", "--output", required=True, help="OUT.npy, .parquet, .jsonl; - is JSONL on stdout")
    give("--format", choices=FORMATS, help="default: by the name")
    give("--text-field", "--text-column", default="text", metavar="NAME", help="default: text")
    give("--id-field", "--id-column", metavar="NAME", help="default: id, where it can serve")
    give("--no-ids", dest="id_field", action="store_const", const="", help="number the rows")
    give("--carry", action="append", default=[], metavar="NAME", help="a field to write too")
    give("--with-text", action="store_true", help="write the texts too")
    give("--on-bad-row", choices=("fail", "skip"), default="fail", help="default: %(default)s")
    give("--max-rejected", metavar="SHARE", default="5%", help="of rows; beyond it exit status 4")
    give("--max-length", type=int, help="tokens per text (default: the model's)")
    give("--normalize", action="store_true", help="scale vectors to length one")
    give("--truncate-dim", type=int, help="keep the first features (default: the model's)")
    give("--precision", choices=PRECISIONS, default="float32", help="default: %(default)s")
    give("--ranges", metavar="FILE", help="of int8 and uint8, as Ranges.save writes it")
    give("--prompt", help="put before each text")
    give("--prompt-name", metavar="NAME", help="a prompt of the model")
    give("--overwrite", action="store_true", help="replace an output that jaxbert did not write")
    give("--shard", metavar="I/N", help="of N workers this is I, from 0 (default: all the work)")
    give("--rows-per-part", type=int, default=16_384, help="written at once (default: %(default)s)")
    give("--quiet", action="store_true", help="no progress")


def bench_command(actions: Any) -> None:
    """`jaxbert bench MODEL`: all engines and number formats that run here, in turns."""
    about = "the speed of a model by each engine and dtype: a table and a picture"
    bench = actions.add_parser("bench", help=about, description=about)
    bench.set_defaults(action=run_bench)
    bench.add_argument("name", metavar="MODEL", nargs="?", help="folder or hub name")
    model_options(bench)
    give = bench.add_argument
    inputs: dict[str, Any] = {"nargs": "+", "metavar": "INPUT"}
    give("--texts", **inputs, help="files, patterns, .gz (default: paragraphs of Python's help)")
    give("--format", choices=FORMATS, help="default: by the name")
    give("--text-field", default="text", metavar="NAME", help="default: text")
    give("--seconds", type=float, default=60, metavar="S", help="for all (default: %(default)s)")
    give("--picture", default="bench.png", metavar="FILE.png", help="default: %(default)s")
    give("--json", metavar="FILE", help="write the numbers too")


def add(
    actions: Any,
    name: str,
    about: str,
    action: Any,
    positional: bool = False,
    has_default: bool = True,
) -> argparse.ArgumentParser:
    """A command with the options that most commands have; not all can take the default model."""
    command: argparse.ArgumentParser = actions.add_parser(name, help=about, description=about)
    command.set_defaults(action=action)
    if positional:
        command.add_argument("name", metavar="MODEL", nargs="?", help="folder or hub name")
    model_options(command, has_default)
    command.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    command.add_argument(
        "--attention", choices=ATTENTIONS, default="auto", help="default: by length and platform"
    )
    return command


def model_options(command: argparse.ArgumentParser, has_default: bool = True) -> None:
    """Which model is opened, and what of its files is passed over."""
    from jaxbert.checkpoint import hub

    default = hub.DEFAULT_MODEL if has_default else None
    about_default = " (default: %(default)s)" if has_default else ", which must be given"
    command.add_argument("--model", default=default, help=f"folder or hub name{about_default}")
    command.add_argument("--revision", help="branch, tag or commit on the hub")
    command.add_argument(
        "--ignore-config",
        action="append",
        default=[],
        metavar="KEY",
        help="a key of the model's JSON files to pass over; may be repeated",
    )
