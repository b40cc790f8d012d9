"""The jaxbert command. Imports of jax wait until a command runs, so --help is instant."""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from jaxbert import __version__, hub
from jaxbert.errors import JaxbertError

PRECISIONS = ("float32", "float16", "int8", "uint8", "binary", "ubinary")
ATTENTIONS = ("auto", "dense", "blockwise", "tpu", "gpu")


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(
        prog="jaxbert", description="BERT and JinaBERT text embeddings in JAX."
    )
    top.add_argument("--version", action="version", version=f"jaxbert {__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")

    embed_options(add(commands, "embed", "a vector for each row of files", run_embed))
    status = commands.add_parser("status", help="how far a run of embed is")
    status.add_argument("output", metavar="OUTPUT", help="what embed was given as -o")
    status.set_defaults(action=run_status)

    similarity = add(commands, "similarity", "how alike two texts are", run_similarity)
    similarity.add_argument("first", metavar="TEXT")
    similarity.add_argument("second", metavar="TEXT")

    add(commands, "info", "what a model is, and what was ignored in its files", run_info, True)
    verify = add(commands, "verify", "run the NumPy reference beside the encoder", run_verify, True)
    verify.add_argument(
        "--published",
        metavar="NAME",
        help="the hub name whose published vectors a folder must reproduce (default: as named)",
    )
    return top


def embed_options(embed: argparse.ArgumentParser) -> None:
    """What is read, what is written, and how."""
    give = embed.add_argument
    give("input", nargs="*", help="files, patterns, .gz, or - for stdin (the default)")
    give("-o", "--output", required=True, help="OUT.npy, .parquet, .jsonl; - is JSONL on stdout")
    give("--format", choices=("text", "jsonl", "csv", "parquet"), help="default: by the name")
    give("--text-field", "--text-column", default="text", metavar="NAME", help="default: text")
    give("--id-field", "--id-column", default="id", metavar="NAME", help="default: id")
    give("--carry", action="append", default=[], metavar="NAME", help="a field to write too")
    give("--with-text", action="store_true", help="write the texts too")
    give("--on-bad-row", choices=("fail", "skip"), default="fail", help="default: %(default)s")
    give("--max-length", type=int, help="tokens per text (default: the model's)")
    give("--normalize", action="store_true", help="scale vectors to length one")
    give("--truncate-dim", type=int, help="keep the first features (default: the model's)")
    give("--precision", choices=PRECISIONS, default="float32", help="default: %(default)s")
    give("--ranges", metavar="FILE", help="of int8 and uint8, as Ranges.save writes it")
    give("--prompt", help="put before each text")
    give("--prompt-name", metavar="NAME", help="a prompt of the model")
    give("--shard", metavar="I/N", help="of N workers this is I, from 0 (default: all the work)")
    give("--rows-per-part", type=int, default=16_384, help="written at once (default: %(default)s)")
    give("--quiet", action="store_true", help="no progress")


def add(
    commands: Any, name: str, about: str, action: Any, positional: bool = False
) -> argparse.ArgumentParser:
    """A command with the options that all commands have."""
    command: argparse.ArgumentParser = commands.add_parser(name, help=about, description=about)
    command.set_defaults(action=action)
    if positional:
        command.add_argument("name", metavar="MODEL", nargs="?", help="folder or hub name")
    command.add_argument(
        "--model", default=hub.DEFAULT_MODEL, help="folder or hub name (default: %(default)s)"
    )
    command.add_argument("--revision", help="branch, tag or commit on the hub")
    command.add_argument(
        "--ignore-config",
        action="append",
        default=[],
        metavar="KEY",
        help="a key of the model's JSON files to pass over; may be repeated",
    )
    command.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    command.add_argument(
        "--attention", choices=ATTENTIONS, default="auto", help="default: by length and platform"
    )
    return command


def model_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """The options that all commands have, as from_pretrained takes them."""
    from jaxbert.model.attention import named

    return {
        "name": getattr(options, "name", None) or options.model,
        "revision": options.revision,
        "ignore_config": tuple(options.ignore_config),
        "dtype": options.dtype,
        "attention": named(options.attention),
    }


def load(options: argparse.Namespace, **more: Any) -> Any:
    """The model that the options name."""
    from jaxbert.embedder import Embedder

    return Embedder.from_pretrained(**model_arguments(options), **more)


# --- the commands ------------------------------------------------------------------------------


def run_embed(options: argparse.Namespace) -> int:
    """A run that goes on where it stopped."""
    from jaxbert.corpus import command

    return command.embed(options, model_arguments(options))


def run_status(options: argparse.Namespace) -> int:
    """How far a run is."""
    from jaxbert.corpus import command

    return command.status(options)


def run_similarity(options: argparse.Namespace) -> int:
    """One number."""
    embedder = load(options)
    first, second = embedder.encode([options.first, options.second])
    print(f"{embedder.similarity(first, second)[0, 0]:.6f}")
    return 0


def run_info(options: argparse.Namespace) -> int:
    """What the folder holds, as it is understood here."""
    from jaxbert.report import describe, open_model

    print(describe(open_model(**model_arguments(options))))
    return 0


def run_verify(options: argparse.Namespace) -> int:
    """0 if every layer agrees with the reference and all published vectors come out, else 1."""
    from jaxbert import published
    from jaxbert.report import open_model, verify_against_published, verify_against_reference

    arguments = model_arguments(options)
    if options.published is not None:
        published.published(options.published)  # an unknown name is refused before any work
    known = options.published or published.identify(arguments["name"])
    model = open_model(**arguments)
    text, agreed = verify_against_reference(model, options.dtype)
    print(text)
    text, reproduced = verify_against_published(model, known, options.dtype)
    print(text)
    return 0 if agreed and reproduced else 1


def warn(message: Warning | str, *_: Any) -> None:
    """A warning as one sentence on stderr."""
    print(f"jaxbert: warning: {' '.join(str(message).split())}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; an expected error is one sentence on stderr and exit status 1."""
    options = parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = warn  # type: ignore[assignment]
            return int(options.action(options))
    except (JaxbertError, OSError) as error:
        print(f"jaxbert: {one_line(error)}", file=sys.stderr)
    except Exception as error:
        if os.environ.get("JAXBERT_TRACEBACK"):
            raise
        print(
            f"jaxbert: {type(error).__name__}: {one_line(error)[:300]} "
            "(JAXBERT_TRACEBACK=1 shows where)",
            file=sys.stderr,
        )
    except KeyboardInterrupt:
        print("jaxbert: interrupted; nothing was written", file=sys.stderr)
    return 1


def one_line(error: BaseException) -> str:
    """The error as one sentence."""
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
