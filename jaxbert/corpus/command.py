"""`jaxbert embed` and `jaxbert status`: options -> a run -> its output, or how far it is."""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from jaxbert.arguments import integer
from jaxbert.corpus import settings
from jaxbert.corpus.formats import Format, format_of
from jaxbert.corpus.parts import Parts
from jaxbert.corpus.progress import Progress, Silence
from jaxbert.corpus.rejects import REJECTED, listed, share, too_many
from jaxbert.corpus.rows import BadRow, Reading, Source
from jaxbert.corpus.run import BYTES, Run
from jaxbert.corpus.survey import at_work, records
from jaxbert.embedder import Embedder
from jaxbert.errors import InputError
from jaxbert.quantise import Ranges
from jaxbert.textio import write_rows


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


def without_output(source: Source, given: Sequence[str], output: Path) -> None:
    """Leave what the run writes out of what a pattern found; refuse it where it was named."""
    endings = ("", ".json", ".ids.jsonl", ".rejects.jsonl")
    own = {output.with_name(output.name + ending).resolve() for ending in endings}
    for name in given:
        if name != "-" and Path(name).resolve() in own:
            raise InputError(f"{name} is what this run writes; name another output")
    source.files = [
        file for file in source.files if file.path == "-" or Path(file.path).resolve() not in own
    ]


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
    if options.output == "-":
        return to_stdout(options, model)
    file_format = format_of(options.output)
    file_format.check(tuple(options.carry), options.with_text)
    source = Source(options.input or ["-"], reading(options))
    without_output(source, options.input, Path(options.output))
    source.check()
    share(options.max_rejected)
    worker, workers = shard(options.shard)
    embedder = Embedder.from_pretrained(**model, deterministic=True, devices=jax.local_devices())
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
    with Parts(options.output, worker, workers) as parts, reported(options) as progress:
        parts.open(settings.settings(about, source, wanted))
        run = Run(
            parts=parts,
            format=file_format,
            width=embedder.full_width,
            carry=tuple(options.carry),
            skip_bad=options.on_bad_row == "skip",
            report=progress,
            metadata=about,
            size=wanted.rows_per_part,
            **made,
        )
        if complete(run, parts, file_format, Path(options.output)):
            print(f"{options.output} is complete already", file=sys.stderr)
            bad = listed(Path(options.output))
            return judged(run.rows - bad, bad, options)
        run.work()
        return finished(run, parts, file_format, options)


def complete(run: Run, parts: Parts, file_format: Format, output: Path) -> bool:
    """Whether the output is what this run would make: the same metadata, input sum included."""
    if not output.exists() or parts.done() or any(file.bytes is None for file in run.source.files):
        return False
    try:
        before = file_format.metadata(output)
    except InputError:
        return False
    run.survey()
    return before == json.loads(json.dumps(run.metadata))


@contextmanager
def reported(options: argparse.Namespace) -> Iterator[Any]:
    """What tells how far the run is; when it is broken off, how to go on."""
    progress = Silence() if options.quiet else Progress()
    try:
        yield progress
    except KeyboardInterrupt:
        progress.close()
        print(
            "jaxbert: interrupted; what is finished is kept, and the same command goes on from "
            "there:\n  " + command_line(),
            file=sys.stderr,
        )
        raise SystemExit(130) from None
    finally:
        progress.close()


def command_line() -> str:
    """What was typed, quoted for a shell."""
    import shlex

    return shlex.join(["jaxbert", *sys.argv[1:]])


def finished(run: Run, parts: Parts, file_format: Format, options: argparse.Namespace) -> int:
    """Put the parts together if all are there; say what there is."""
    if not parts.complete(run.total):
        print(f"{options.output}: this worker is done, others are not", file=sys.stderr)
        return 0
    about, there = run.metadata, records(parts)
    run.check(there)
    rows, bad = (sum(record[key] for record in there.values()) for key in ("rows", "rejected"))
    if parts.assemble(run.total, lambda files, file: file_format.assemble(files, file, about)):
        rejected = f", {bad} rows rejected" if bad else ""
        without = sum(record.get("without_id", 0) for record in there.values())
        if 0 < without < rows:
            rejected += f", {without} rows without an id are numbered by their place"
        print(
            f"{rows} vectors of width {about['vectors']['width']} in {options.output}{rejected}; "
            f"{run.request.engine.stats}",
            file=sys.stderr,
        )
        return judged(rows, bad, options)
    return 0


def judged(rows: int, rejected: int, options: argparse.Namespace) -> int:
    """The exit status of a run by the rows that it left out; too many are said."""
    reason = too_many(rows, rejected, share(options.max_rejected))
    if reason is None:
        return 0
    print(f"jaxbert: {reason}", file=sys.stderr)
    return REJECTED


# --- stdout, and status -------------------------------------------------------------------------


def to_stdout(options: argparse.Namespace, model: dict[str, Any]) -> int:
    """Vectors as JSONL on stdout, some rows at a time; nothing is kept, so nothing goes on."""
    if options.shard is not None or options.carry:
        raise InputError("--shard and --carry are for files; with -o - leave them out")
    source = Source(options.input or ["-"], reading(options))
    source.check()
    share(options.max_rejected)
    embedder = Embedder.from_pretrained(**model, deterministic=True)
    made = prepared(options, source, embedder)
    number, bad = 0, list[BadRow]()
    skipped = bad if options.on_bad_row == "skip" else None
    for texts in together(source, skipped, options.rows_per_part):
        vectors = made["finish"](made["request"].vectors(texts, embedder.full_width))
        write_rows(sys.stdout, texts, settings.in_file(vectors, options.precision))
        number += len(texts)
    print(f"{number} vectors of width {made['finish'].width} in stdout", file=sys.stderr)
    return judged(number, len(bad), options)


def together(source: Source, skipped: list[BadRow] | None, most: int) -> Iterator[list[str]]:
    """Lists of texts, at most so many each, and of a bounded size; bad rows go to skipped."""
    texts: list[str] = []
    size = 0
    for row in source.rows():
        if isinstance(row, BadRow):
            if skipped is None:
                raise InputError(f"{row.where} {row.reason}; --on-bad-row skip leaves it out")
            print(f"jaxbert: warning: {row.where} {row.reason}", file=sys.stderr)
            skipped.append(row._replace(raw=b""))
            continue
        texts.append(row.text)
        size += len(row.raw)
        if len(texts) == most or size >= BYTES:
            yield texts
            texts, size = [], 0
    if texts:
        yield texts


def status(options: argparse.Namespace) -> int:
    """How far a run is: 0 if its output is there, 3 if it is not finished, 1 if there is none."""
    output = Path(options.output)
    parts = Parts(output)
    if not parts.folder.path.is_dir() or parts.folder.assembled.exists():
        if not output.exists():
            raise InputError(f"{output} is not there, and no run for it was begun")
        about = format_of(output).metadata(output)
        print(f"{output} is complete")
        print(json.dumps(about, indent=2, sort_keys=True, ensure_ascii=False))
        return 0
    there = records(parts)
    rows = sum(record["rows"] for record in there.values())
    rejected = sum(record["rejected"] for record in there.values())
    missing = [k for k in range(max(there, default=-1)) if k not in there]
    print(f"{output} is not finished: {len(there)} parts with {rows} rows, {rejected} rejected")
    if missing:
        print(f"parts that are missing among them: {', '.join(map(str, missing[:20]))}")
    workers = at_work(parts)
    print(f"at work: {', '.join(workers) if workers else 'nobody; the same command goes on'}")
    return 3
