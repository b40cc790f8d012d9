"""Texts in, vectors out: plain lines, JSONL and .npy for the command."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

from jaxbert.errors import InputError

Writer = Callable[[Sequence[str], np.ndarray], None]


def read(name: str, kind: str | None, field: str) -> Iterator[str]:
    """The texts of a file (- is stdin): one a line, or the field of each JSON line.

    kind is "text" or "jsonl"; None goes by the file's name. A line is what ends in a newline, empty
    lines included: vector i belongs to line i.
    """
    kind = kind or ("jsonl" if Path(name).suffix in (".jsonl", ".ndjson") else "text")
    source: str | int = sys.stdin.fileno() if name == "-" else name
    where = "stdin" if name == "-" else name
    with open(source, encoding="utf-8-sig", newline="\n", closefd=name != "-") as stream:
        for number, line in enumerate(decoded(stream, where), start=1):
            line = line.removesuffix("\n").removesuffix("\r")
            yield line if kind == "text" else from_json(line, f"{where}, line {number}", field)


def decoded(stream: TextIO, where: str) -> Iterator[str]:
    """The lines of an open file; InputError for bytes that are no UTF-8."""
    try:
        yield from stream
    except UnicodeDecodeError as error:
        raise InputError(f"{where} is not UTF-8 ({error}); convert it first") from error


def from_json(line: str, where: str, field: str) -> str:
    """The text in one line of JSONL."""
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where} is no JSON ({error})") from error
    if not isinstance(row, dict) or not isinstance(row.get(field), str):
        raise InputError(f"{where} has no text in the field {field!r}; name it with --text-field")
    return str(row[field])


def writer(output: str) -> Writer:
    """How to write to a file of this name; refused before any work is done."""
    if output == "-":
        return lambda texts, vectors: write_rows(sys.stdout, texts, vectors)
    path = Path(output)
    if path.suffix not in (".npy", ".jsonl", ".ndjson"):
        raise InputError(f"{output} ends in neither .npy nor .jsonl; choose one of them")
    if path.is_dir():
        raise InputError(f"{output} is a folder; name a file")
    if not path.resolve().parent.is_dir():
        raise InputError(f"the folder of {output} does not exist; make it first")
    if path.suffix == ".npy":
        return lambda _, vectors: write_npy(path, vectors)
    return lambda texts, vectors: write_jsonl(path, texts, vectors)


def write_npy(path: Path, vectors: np.ndarray) -> None:
    """float32 [n, d]; the file appears whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as stream:
        np.save(stream, vectors)
    partial.replace(path)


def write_jsonl(path: Path, texts: Sequence[str], vectors: np.ndarray) -> None:
    """One row per text; the file appears whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as stream:
        write_rows(stream, texts, vectors)
    partial.replace(path)


def write_rows(stream: TextIO, texts: Sequence[str], vectors: np.ndarray) -> None:
    """{"text": ..., "embedding": [...]} per line."""
    for text, vector in zip(texts, vectors, strict=True):
        # Nine digits name a float32 exactly; tolist() alone would print its float64 tail.
        numbers = [float(f"{number:.9g}") for number in vector.tolist()]
        stream.write(json.dumps({"text": text, "embedding": numbers}, ensure_ascii=False) + "\n")
