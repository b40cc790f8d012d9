"""`jaxbert embed`: options -> a run -> its output."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax

from jaxbert.arguments import integer
from jaxbert.corpus import settings
from jaxbert.corpus.formats import format_of
from jaxbert.corpus.own import Own
from jaxbert.corpus.parts import Parts
from jaxbert.corpus.progress import Progress, Silence
from jaxbert.corpus.rejects import REJECTED, listed, share, too_many
from jaxbert.corpus.rows import BadRow, Reading, Source
from jaxbert.corpus.run import BYTES, Run
from jaxbert.corpus.survey import UNFINISHED, records
from jaxbert.embedder import Embedder
from jaxbert.errors import InputError
from jaxbert.inference.prefetch import prefetched
from jaxbert.inference.quantise import Ranges
from jaxbert.process import interrupts, streams
from jaxbert.textio import write_rows

# How often a worker makes parts of its own that went while it was at work.
TURNS = 3


def shard(text: str | None) -> tuple[int, int]:
    """(i, n) of "i/n"; without it those of jax.distributed, or of its environment.

    Nothing is exchanged, so the environment is enough: a worker then waits for no other, and dies
    with none.
    """
    if text is None and not jax.distributed.is_initialized() and "JAX_PROCESS_ID" in os.environ:
        text = f"{os.environ['JAX_PROCESS_ID']}/{os.environ.get('JAX_NUM_PROCESSES')}"
    if text is None:
        return jax.process_index(), jax.process_count()
    index, _, number = text.partition("/")
    try:
        i, n = int(index), int(number)
    except ValueError as error:
        raise InputError(f"the shard is {text!r}; give i/n, such as --shard 0/8") from error
    if not 0 <= i < n:
        raise InputError(f"the shard is {text!r}; i/n counts from 0/{n} to {n - 1}/{n}")
    return i, n


def reading(options: argparse.Namespace) -> Reading:
    """How rows are read."""
    return Reading(options.format, options.text_field, options.id_field, tuple(options.carry))


def prepared(options: argparse.Namespace, source: Source, embedder: Embedder) -> dict[str, Any]:
    """The objects that a run shares with a plain pass to stdout."""
    precision = options.precision
    ranges = None if options.ranges is None else Ranges.load(options.ranges)
    if precision in ("int8", "uint8") and ranges is None:
        raise InputError(
            f"--precision {precision} needs the range of each feature; give --ranges FILE, which "
            "Ranges.of(vectors).save(FILE) wrote"
        )
    exact: Any = "float32" if precision == "float16" else precision
    finish = embedder.finish(options.truncate_dim, options.normalize, exact, ranges)
    request = embedder.request(
        options.prompt_name, options.prompt, None, False, options.max_length, "truncate"
    )
    return {"finish": finish, "request": request, "source": source, "precision": precision}


def embed(options: argparse.Namespace, model: dict[str, Any]) -> int:
    """Begin a run, or go on with it."""
    if not options.input or "-" in options.input:
        streams.need_stdin()
    if options.output == "-":
        return to_stdout(options, model)
    most = share(options.max_rejected)
    worker, workers = shard(options.shard)
    parts = Parts(options.output, worker, workers, options.overwrite)
    with parts, reported(options) as progress:
        run = opened(options, model, parts, progress)
        if complete(run):
            streams.say(f"{options.output} is complete already")
            bad = listed(parts.output)
            return judged(run.rows - bad, bad, most)
        return worked(run, options.output, most)


def opened(options: argparse.Namespace, model: dict[str, Any], parts: Parts, report: Any) -> Run:
    """The run that the options describe; what it cannot do is refused before the model is read."""
    file_format = format_of(options.output)
    file_format.check(tuple(options.carry), options.with_text)
    own = Own(parts.output)
    own.refuse(options.input)
    source = Source(options.input or ["-"], reading(options), own)
    source.check()
    parts.product.check_ours()
    embedder = Embedder.from_pretrained(**model, deterministic=True, devices=jax.local_devices())
    interrupts.check()
    made = prepared(options, source, embedder)
    wanted = settings.Wanted(
        options.precision,
        options.with_text,
        integer(options.rows_per_part, "--rows-per-part", 1),
    )
    about = settings.metadata(
        embedder,
        model["name"],
        made["request"],
        made["finish"],
        wanted,
        source.reading,
        settings.carried_types(source),
    )
    parts.open(settings.settings(about, source, wanted))
    return Run(
        parts=parts,
        format=file_format,
        width=embedder.full_width,
        carry=tuple(options.carry),
        skip_bad=options.on_bad_row == "skip",
        report=report,
        metadata=about,
        size=wanted.rows_per_part,
        **made,
    )


def complete(run: Run) -> bool:
    """Whether the output is what this run would make, to the byte, of the same input."""
    product = run.parts.product
    if run.parts.done() or is_stream(run):
        return False
    before = product.metadata()
    if before is None:
        return False
    run.survey()
    if before != json.loads(json.dumps(run.metadata)):
        return False
    fault = product.fault()
    if fault is not None:
        streams.say(f"jaxbert: {fault}; it is made anew")
    return fault is None


def is_stream(run: Run) -> bool:
    """Whether some of the input can be read only once."""
    return any(file.bytes is None for file in run.source.files)


@contextmanager
def reported(options: argparse.Namespace) -> Iterator[Any]:
    """What tells how far the run is."""
    progress = Silence() if options.quiet else Progress()
    try:
        yield progress
    finally:
        progress.close()


def worked(run: Run, output: str, most: float) -> int:
    """Make the parts of this worker, and of them the output if those of the others are there."""
    folder = run.parts.folder
    for _ in range(TURNS):
        run.work()
        missing = run.parts.missing(run.total)
        if not any(map(run.parts.mine, missing)) or is_stream(run):
            break
    if not missing:
        return finished(run, output, most)
    if any(map(run.parts.mine, missing)):
        streams.say(
            f"jaxbert: {output} is not finished, for {len(missing)} parts went while it was made, "
            f"the first of them {missing[0]}; leave {folder.path} alone and give the same command "
            "again"
        )
        return UNFINISHED
    streams.say(f"{output}: this worker is done, others are not ({len(missing)} parts are missing)")
    return 0


def finished(run: Run, output: str, most: float) -> int:
    """Put the parts together, unless another worker does; say what there is."""
    parts, about = run.parts, run.metadata
    there = records(parts)
    run.check(there)
    rows, bad = (sum(record[key] for record in there.values()) for key in ("rows", "rejected"))
    if parts.assemble(
        run.total, lambda files, file: run.format.assemble(files, file, about), about
    ):
        rejected = f", {bad} rows rejected" if bad else ""
        without = sum(record.get("without_id", 0) for record in there.values())
        if 0 < without < rows:
            rejected += f", {without} rows without an id are numbered by their place"
        streams.say(
            f"{rows} vectors of width {about['vectors']['width']} in {output}{rejected}; "
            f"{run.request.engine.stats}"
        )
        return judged(rows, bad, most)
    if parts.product.metadata() == json.loads(json.dumps(about)):
        streams.say(f"{output} is complete: another worker has put the parts together")
        return 0
    streams.say(f"jaxbert: {output} is not finished: another process is putting the parts together")
    return UNFINISHED if parts.folder.workers == 1 else 0


def judged(rows: int, rejected: int, most: float) -> int:
    """The exit status of a run by the rows that it left out; too many are said."""
    reason = too_many(rows, rejected, most)
    if reason is None:
        return 0
    streams.say(f"jaxbert: {reason}")
    return REJECTED


# --- stdout -------------------------------------------------------------------------------------


def to_stdout(options: argparse.Namespace, model: dict[str, Any]) -> int:
    """Vectors as JSONL on stdout, some rows at a time; nothing is kept, so nothing goes on."""
    if options.shard is not None or options.carry:
        raise InputError("--shard and --carry are for files; with -o - leave them out")
    source = Source(options.input or ["-"], reading(options))
    source.check()
    most = share(options.max_rejected)
    embedder = Embedder.from_pretrained(**model, deterministic=True)
    made = prepared(options, source, embedder)
    streams.use_utf8()
    number, bad = 0, list[BadRow]()
    rows = together(source, bad if options.on_bad_row == "skip" else None, options.rows_per_part)
    for texts in prefetched(list, rows):
        vectors = made["finish"](made["request"].vectors(texts))
        with streams.written():
            write_rows(sys.stdout, texts, settings.in_file(vectors, options.precision))
        number += len(texts)
    streams.say(f"{number} vectors of width {made['finish'].width} in stdout")
    return judged(number, len(bad), most)


def together(source: Source, skipped: list[BadRow] | None, most: int) -> Iterator[list[str]]:
    """Lists of texts, at most so many each, and of a bounded size; bad rows go to skipped."""
    texts: list[str] = []
    size = 0
    for row in source.rows():
        interrupts.check()
        if isinstance(row, BadRow):
            if skipped is None:
                raise InputError(f"{row.where} {row.reason}; --on-bad-row skip leaves it out")
            streams.say(f"jaxbert: warning: {row.where} {row.reason}")
            skipped.append(row._replace(raw=b""))
            continue
        texts.append(row.text)
        size += len(row.raw)
        if len(texts) == most or size >= BYTES:
            yield texts
            texts, size = [], 0
    if texts:
        yield texts
