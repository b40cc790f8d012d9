"""`jaxbert status`: how far a run is. No JAX is needed, and nothing is written."""

import json
import os
from pathlib import Path

from jaxbert.corpus.files import DamagedRecordError, read_record
from jaxbert.corpus.interrupted import UNFINISHED
from jaxbert.corpus.locks import is_held
from jaxbert.corpus.run_parts import RunParts
from jaxbert.errors import InputError
from jaxbert.process import streams


def at_work(parts: RunParts) -> list[str]:
    """The workers that hold their locks, as "worker 0 of 2"."""
    locks = sorted(parts.folder.path.glob("worker-*.lock"))
    return [file.stem.replace("-", " ") for file in locks if is_held(file)]


def status(name: str) -> int:
    """Say how far the run of this output is; 0 if the output is there, 3 if it is not finished.

    InputError if there is none. The disk may be read-only.
    """
    streams.use_utf8()
    output = Path(name)
    parts = RunParts(output)
    if not parts.folder.path.is_dir() or parts.folder.is_assembled():
        return status_of_output(parts)
    begun(parts)
    there = parts.records()
    rows = sum(record["rows"] for record in there.values())
    rejected = sum(record["rejected"] for record in there.values())
    missing = [k for k in range(max(there, default=-1)) if k not in there]
    streams.answer(
        f"{output} is not finished: {len(there)} parts with {rows} rows, {rejected} rejected"
    )
    if missing:
        streams.answer(f"parts that are missing among them: {', '.join(map(str, missing[:20]))}")
    workers = at_work(parts)
    streams.answer(
        f"at work: {', '.join(workers) if workers else 'nobody; the same command goes on'}"
    )
    return UNFINISHED


def status_of_output(parts: RunParts) -> int:
    """Say of an output without a run whether it is whole."""
    output, product = parts.output, parts.product
    about = product.metadata()
    if about is None and not os.path.lexists(output):
        raise InputError(f"{output} is not there, and no run for it was begun")
    fault = product.fault()
    if about is None or fault is not None:
        raise InputError(f"{fault}; the same command makes it anew")
    streams.answer(f"{output} is complete")
    streams.answer(json.dumps(about, indent=2, sort_keys=True, ensure_ascii=False))
    return 0


def begun(parts: RunParts) -> None:
    """Refuse a folder that is no run's, or whose settings are damaged."""
    try:
        read_record(parts.folder.path / "run.json")
    except FileNotFoundError as error:
        raise InputError(f"{parts.folder.path} is no folder of a run") from error
    except DamagedRecordError as error:
        raise InputError(
            f"{error}, so its parts cannot be used; remove {parts.folder.path} to begin anew"
        ) from error
