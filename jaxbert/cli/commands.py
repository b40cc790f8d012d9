"""What each command does; the imports of jax wait until one runs."""

import argparse
from typing import Any

from jaxbert.errors import InputError
from jaxbert.process import interrupts, streams


def model_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """The options that commands have of a model, as from_pretrained takes them."""
    from jaxbert.model.attention import named

    engine = {"engine": options.engine} if hasattr(options, "engine") else {}
    return engine | {
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
    from jaxbert.checkpoint.opening import open_model
    from jaxbert.corpus.rows import BadRow, Reading, Source
    from jaxbert.cross_encoder import CrossEncoder
    from jaxbert.inference.scoring import check_order

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
    arguments = model_arguments(options)
    where = ("name", "revision", "ignore_config")
    opened = open_model(**{key: arguments.pop(key) for key in where})
    check_order(opened.read_cross_encoder().labels)  # before weights and texts are read
    ranker = CrossEncoder.from_opened(opened, **arguments)
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


def run_search(options: argparse.Namespace) -> int:
    """Print the rows of a run's output that are most like a query; the exit status."""
    from jaxbert.corpus.search_command import search

    interrupts.check()
    return search(options, model_arguments(options))


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
    from jaxbert.verify.info import describe
    from jaxbert.verify.opened import load_model

    model = load_model(**model_arguments(options))
    interrupts.check()
    streams.answer(describe(model))
    return 0


def run_verify(options: argparse.Namespace) -> int:
    """0 if all agrees with the reference and all published values come out, else 1."""
    from jaxbert.inference.engines import chosen_engine
    from jaxbert.verify import published
    from jaxbert.verify.engines import verify_engine
    from jaxbert.verify.opened import load_model
    from jaxbert.verify.report import verify_against_published, verify_against_reference

    arguments = model_arguments(options)
    engine = chosen_engine(arguments.pop("engine"))
    engine.check(None)
    if options.published is not None:
        published.published(options.published)  # an unknown name is refused before any work
    known = options.published or published.identify(arguments["name"])
    model = load_model(**arguments)
    interrupts.check()
    if engine.name != "jax":
        text, agreed = verify_engine(model, options.dtype, engine)
        streams.answer(text)
        return 0 if agreed else 1
    text, agreed = verify_against_reference(model, options.dtype)
    streams.answer(text)
    interrupts.check()
    text, reproduced = verify_against_published(model, known, options.dtype)
    streams.answer(text)
    return 0 if agreed and reproduced else 1


def run_bench(options: argparse.Namespace) -> int:
    """Time a model by each engine and dtype that runs here."""
    interrupts.check()
    from jaxbert.bench import command

    return command.run_bench(options)


def run_lab_check(options: argparse.Namespace) -> int:
    """0 if a scheme of the user's own has no fault, else 1."""
    from jaxbert.lab.command import run_check

    return run_check(options)
