"""`jaxbert embed`: options -> a run -> its output."""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax

from jaxbert.corpus.formats import format_of
from jaxbert.corpus.interrupted import UNFINISHED
from jaxbert.corpus.locks import kernel_locks
from jaxbert.corpus.options import Options, shard
from jaxbert.corpus.output import Output
from jaxbert.corpus.own import OwnFiles
from jaxbert.corpus.progress import Progress, Silence
from jaxbert.corpus.reader import InputSummary
from jaxbert.corpus.rejects import judged, listed, reasons_beside
from jaxbert.corpus.rows import Source
from jaxbert.corpus.run import Report, Run
from jaxbert.corpus.run_identity import carried_types, output_metadata, run_identity
from jaxbert.corpus.run_parts import RunParts
from jaxbert.corpus.stdout import to_stdout
from jaxbert.embedder import Embedder
from jaxbert.process import interrupts, streams

# How often a worker makes parts of its own that went while it was at work.
TURNS = 3


def embed(given: argparse.Namespace, model: dict[str, Any]) -> int:
    """Begin a run, or go on with it; the exit status.

    model has the arguments of Embedder.from_pretrained.
    """
    options = Options.of(given, model)
    if "-" in options.inputs:
        streams.need_stdin()
    return to_stdout(options) if options.output == "-" else to_file(options)


def to_file(options: Options) -> int:
    """Make the output, or this worker's share of it; the exit status."""
    kernel_locks()  # refused before any work where there are none
    parts = RunParts(options.output, *shard(options.shard), options.overwrite)
    with parts, reported(options.quiet) as report:
        run = opened(options, parts, report)
        summary = unchanged(run)
        if summary is not None:
            streams.say(f"{options.output} is complete already")
            rejected = listed(parts.output)
            written, reasons = summary.rows - rejected, reasons_beside(parts.output)
            return judged(written, rejected, options.max_rejected, reasons)
        return worked(run, options.max_rejected)


@contextmanager
def reported(quiet: bool) -> Iterator[Progress | Silence]:
    """What tells how far the run is."""
    progress = Silence() if quiet else Progress()
    try:
        yield progress
    finally:
        progress.close()


def opened(options: Options, parts: RunParts, report: Report) -> Run:
    """The run that the options describe; what it cannot do is refused before the model is read."""
    carry = options.reading.carry
    file_format = format_of(options.output)
    file_format.check(carry, options.with_text)
    own = OwnFiles(parts.output)
    own.refuse(options.inputs)
    source = Source(options.inputs, options.reading, own)
    source.check()
    parts.product.check_ours()
    devices = jax.local_devices() if options.model.get("engine", "jax") == "jax" else None
    embedder = Embedder.from_pretrained(**options.model, deterministic=True, devices=devices)
    interrupts.check()
    finish, request = options.vectors.finish(embedder), options.vectors.request(embedder)
    metadata = output_metadata(
        embedder,
        name=options.model["name"],
        request=request,
        finish=finish,
        precision=options.vectors.precision,
        with_text=options.with_text,
        reading=options.reading,
        carried=carried_types(source),
    )
    parts.open(run_identity(metadata, source, options.rows_per_part))
    bad_rows = options.bad_rows()
    return Run(
        source=source,
        parts=parts,
        request=request,
        output=Output(file_format, finish, options.vectors.precision, carry, bad_rows, metadata),
        bad_rows=bad_rows,
        report=report,
        size=options.rows_per_part,
    )


def described(run: Run, summary: InputSummary) -> dict[str, Any]:
    """The metadata of the output, as JSON gives them back."""
    return dict(json.loads(json.dumps({**run.output.metadata, **summary.metadata})))


def unchanged(run: Run) -> InputSummary | None:
    """The input, if the output is there as this run would make it of that; None if not."""
    product = run.parts.product
    if run.parts.records() or is_stream(run.source):
        return None
    before = product.metadata()
    if before is None:
        return None
    summary = run.survey()
    if before != described(run, summary):
        return None
    fault = product.fault()
    if fault is not None:
        streams.say(f"jaxbert: {fault}; it is made anew")
    return summary if fault is None else None


def is_stream(source: Source) -> bool:
    """Whether some of the input can be read only once."""
    return any(file.bytes is None for file in source.files)


def worked(run: Run, max_rejected: float) -> int:
    """Make the parts of this worker, and of them the output if those of the others are there."""
    parts = run.parts
    for _ in range(TURNS):
        summary = run.work()
        missing = parts.missing(summary.parts)
        if not any(map(parts.mine, missing)) or is_stream(run.source):
            break
    if not missing:
        return finished(run, summary, max_rejected)
    if any(map(parts.mine, missing)):
        streams.say(
            f"jaxbert: {parts.output} is not finished, for {len(missing)} parts went while it was "
            f"made, the first of them {missing[0]}; leave {parts.folder.path} alone and give the "
            "same command again"
        )
        return UNFINISHED
    streams.say(
        f"{parts.output}: this worker is done, others are not ({len(missing)} parts are missing)"
    )
    return 0


def finished(run: Run, summary: InputSummary, max_rejected: float) -> int:
    """Put the parts together, unless another worker does; say what there is."""
    parts, about = run.parts, described(run, summary)
    records = parts.records()
    summary.check(records)
    if parts.assemble(
        summary.parts, lambda files, file: run.output.format.assemble(files, file, about), about
    ):
        rows, rejected, without_id = (
            sum(record.get(key, 0) for record in records.values())
            for key in ("rows", "rejected", "without_id")
        )
        more = f", {rejected} rows rejected" if rejected else ""
        if 0 < without_id < rows:
            more += f", {without_id} rows without an id are numbered by their place"
        streams.say(
            f"{rows} vectors of width {about['vectors']['width']} in {parts.output}{more}; "
            f"{run.request.engine.stats}"
        )
        return judged(rows, rejected, max_rejected, reasons_beside(parts.output))
    if parts.product.metadata() == about:
        streams.say(f"{parts.output} is complete: another worker has put the parts together")
        return 0
    streams.say(
        f"jaxbert: {parts.output} is not finished: another process is putting the parts together"
    )
    return UNFINISHED if parts.folder.workers == 1 else 0
