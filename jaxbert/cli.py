"""The jaxbert command. Imports of jax wait until a command runs, so --help is instant."""

import argparse
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from jaxbert import __version__
from jaxbert.errors import InputError, JaxbertError, printable
from jaxbert.process import interrupts, streams

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

    rank = add(commands, "rank", "texts by their score for a query", run_rank, has_default=False)
    rank.add_argument("query", metavar="QUERY")
    rank.add_argument("input", nargs="*", help="files of texts, or - for stdin (the default)")
    rank.add_argument("--text-field", default="text", metavar="NAME", help="default: text")
    rank.add_argument("--top-k", type=int, metavar="N", help="default: all")

    fill = add(commands, "fill", "the words for each [MASK] of a text", run_fill, has_default=False)
    fill.add_argument("text", metavar="TEXT", help="a text with [MASK] in it")
    fill.add_argument("--top-k", type=int, default=5, help="words per mask (default: %(default)s)")

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


def add(
    commands: Any,
    name: str,
    about: str,
    action: Any,
    positional: bool = False,
    has_default: bool = True,
) -> argparse.ArgumentParser:
    """A command with the options that all commands have; not all can take the default model."""
    from jaxbert.checkpoint import hub

    command: argparse.ArgumentParser = commands.add_parser(name, help=about, description=about)
    command.set_defaults(action=action)
    if positional:
        command.add_argument("name", metavar="MODEL", nargs="?", help="folder or hub name")
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

    embedder = Embedder.from_pretrained(**model_arguments(options), **more)
    interrupts.check()
    return embedder


# --- the commands ------------------------------------------------------------------------------


def run_embed(options: argparse.Namespace) -> int:
    """A run that goes on where it stopped."""
    from jaxbert.corpus.interrupted import told_how_to_go_on

    with told_how_to_go_on(options.output):
        from jaxbert.corpus import command

        interrupts.check()
        return command.embed(options, model_arguments(options))


def run_status(options: argparse.Namespace) -> int:
    """How far a run is."""
    from jaxbert.corpus.status import status

    return status(options.output)


def run_similarity(options: argparse.Namespace) -> int:
    """Print the similarity of two texts; the exit status."""
    embedder = load(options)
    first, second = embedder.encode([options.first, options.second])
    interrupts.check()
    streams.answer(f"{embedder.similarity(first, second)[0, 0]:.6f}")
    return 0


def run_rank(options: argparse.Namespace) -> int:
    """Print score, number and text of each row, the best first; the exit status."""
    from jaxbert.corpus.rows import BadRow, Reading, Source
    from jaxbert.cross_encoder import CrossEncoder

    if options.model is None:
        raise InputError(
            "rank has no default model, since it needs a reranker; name one with --model, such as "
            "cross-encoder/ms-marco-MiniLM-L6-v2"
        )
    inputs = options.input or ["-"]
    if "-" in inputs:
        streams.need_stdin()
    source = Source(inputs, Reading(text_field=options.text_field))
    source.check()
    ranker = CrossEncoder.from_pretrained(**model_arguments(options))
    interrupts.check()
    texts = []
    for row in source.rows():
        if isinstance(row, BadRow):
            raise InputError(f"{row.where} {row.reason}; correct it or leave it out")
        texts.append(row.text)
    found = ranker.rank(options.query, texts, options.top_k, return_documents=True)
    interrupts.check()
    for answer in found:
        streams.answer(f"{answer['score']:.6f}\t{answer['corpus_id']}\t{answer['text']}")
    return 0


def run_fill(options: argparse.Namespace) -> int:
    """Print the probability of each word for a mask, and the text with it; the exit status."""
    from jaxbert.masked_lm import MaskedLM

    if options.model is None:
        raise InputError(
            "fill has no default model, since it needs a masked language model; name one with "
            "--model, such as google-bert/bert-base-uncased"
        )
    filler = MaskedLM.from_pretrained(**model_arguments(options))
    interrupts.check()
    answers = filler.fill(options.text, options.top_k)
    interrupts.check()
    groups = answers if isinstance(answers[0], list) else [answers]
    for i, candidates in enumerate(groups):
        lines = [f"{found['score']:.4f}  {found['sequence']}" for found in candidates]
        streams.answer("\n".join([""] * (i > 0) + lines))  # a blank line between masks
    return 0


def run_info(options: argparse.Namespace) -> int:
    """What the folder holds, as it is understood here."""
    from jaxbert.verify.report import describe, load_model

    model = load_model(**model_arguments(options))
    interrupts.check()
    streams.answer(describe(model))
    return 0


def run_verify(options: argparse.Namespace) -> int:
    """0 if every layer agrees with the reference and all published vectors come out, else 1."""
    from jaxbert.verify import published
    from jaxbert.verify.report import load_model, verify_against_published, verify_against_reference

    arguments = model_arguments(options)
    if options.published is not None:
        published.published(options.published)  # an unknown name is refused before any work
    known = options.published or published.identify(arguments["name"])
    model = load_model(**arguments)
    interrupts.check()
    text, agreed = verify_against_reference(model, options.dtype)
    streams.answer(text)
    interrupts.check()
    text, reproduced = verify_against_published(model, known, options.dtype)
    streams.answer(text)
    return 0 if agreed and reproduced else 1


def warn(message: Warning | str, *_: Any) -> None:
    """A warning as one sentence on stderr."""
    streams.say(f"jaxbert: warning: {printable(' '.join(str(message).split()))}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; an expected error is one sentence on stderr and exit status 1.

    SIGINT and SIGTERM end it with 130 and 143, a reader of stdout that goes away with 141.
    """
    with interrupts.handled():
        try:
            streams.occupy()
            options = parser().parse_args(arguments)
            if answers(options):
                streams.need_stdout()
            with warnings.catch_warnings():
                warnings.showwarning = warn  # type: ignore[assignment]
                status = int(options.action(options))
            with streams.written():
                pass
        except KeyboardInterrupt as error:
            return interrupted(error)
        except BrokenPipeError:
            streams.drop()
            return 128 + signal.SIGPIPE
        except Exception as error:
            number = interrupts.received()
            if number is not None:  # other libraries turn what a signal raises into their own
                return interrupted(interrupts.Interrupted(number))
            return failed(error)
        return status


def answers(options: argparse.Namespace) -> bool:
    """Whether a command says on stdout what it found."""
    return getattr(options, "output", "-") == "-" or options.action is run_status


def interrupted(error: KeyboardInterrupt) -> int:
    """Say that a signal has ended the command; its exit status."""
    streams.say(f"jaxbert: {getattr(error, 'words', interrupts.NOTHING)}")
    return int(getattr(error, "status", 128 + signal.SIGINT))


def failed(error: Exception) -> int:
    """Say what went wrong; its exit status."""
    with_traceback = os.environ.get("JAXBERT_TRACEBACK")
    if isinstance(error, JaxbertError):
        streams.say(f"jaxbert: {one_line(error)}")
    elif isinstance(error, OSError):
        streams.say(f"jaxbert: {printable(one_line(error))}")
    elif with_traceback:
        raise error
    else:
        streams.say(
            f"jaxbert: {type(error).__name__}: {printable(one_line(error), 300)} "
            "(JAXBERT_TRACEBACK=1 shows where)"
        )
    return 1


def one_line(error: BaseException) -> str:
    """The error as one sentence."""
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
