"""`jaxbert embed -o -`: JSONL on stdout, part by part; nothing is kept, so no run can go on."""

import sys

import numpy as np

from jaxbert.corpus.bad_rows import BadRows
from jaxbert.corpus.formats import Jsonl, json_rows
from jaxbert.corpus.options import Options
from jaxbert.corpus.output import Output
from jaxbert.corpus.part import Part
from jaxbert.corpus.reader import Reader
from jaxbert.corpus.rejects import judged
from jaxbert.corpus.rows import BadRow, Source
from jaxbert.embedder import Embedder
from jaxbert.errors import ComputationError, InputError, TextError
from jaxbert.inference.prefetch import prefetched
from jaxbert.inference.request import Request
from jaxbert.process import interrupts, streams


def warn(sentence: str) -> None:
    """Say the sentence on stderr."""
    streams.say(f"jaxbert: warning: {sentence}")


def embed_rows(part: Part, request: Request, bad_rows: BadRows) -> None:
    """Compute the vectors of a part; a row that has none is told to bad_rows, which may raise."""
    part.expect(request.engine.width)
    while places := part.kept:
        try:
            part.store(np.array(places), request.vectors([part.rows[i].text for i in places]))
            return
        except (TextError, ComputationError) as error:
            bad_rows.refused(part, places[error.text], error)


def to_stdout(options: Options) -> int:
    """Write the rows that a .jsonl file would have, with ids as they come; the exit status."""
    if options.shard is not None:
        raise InputError("--shard is for files; with -o - leave it out")
    carry, bad_rows = options.reading.carry, options.bad_rows(warn)
    Jsonl().check(carry, options.with_text)
    source = Source(options.inputs, options.reading)
    source.check()
    embedder = Embedder.from_pretrained(**options.model, deterministic=True)
    interrupts.check()
    finish, request = options.vectors.finish(embedder), options.vectors.request(embedder)
    metadata = {"with_text": options.with_text}
    output = Output(Jsonl(), finish, options.vectors.precision, carry, bad_rows, metadata)

    def on_bad_row(number: int, row: BadRow) -> None:
        bad_rows.unreadable(row)

    streams.use_utf8()
    rows = rejected = 0
    with Reader(source, options.rows_per_part, on_bad_row) as reader:
        for part in prefetched(lambda part: part, reader):
            embed_rows(part, request, bad_rows)
            columns = output.columns(part)
            with streams.written():
                sys.stdout.writelines(json_rows(columns, options.with_text))
            rows += len(columns.ids)
            rejected += len(part.rejected())
    streams.say(f"{rows} vectors of width {finish.width} in stdout")
    return judged(rows, rejected, options.max_rejected, "the reasons are above")
