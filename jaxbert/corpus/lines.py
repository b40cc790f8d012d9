"""The lines of an open file, however long it and they are, and whether it is gzip."""

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, Self

from jaxbert.corpus import fields
from jaxbert.corpus.fields import Fault, FileError

PIECE = 2**16  # bytes that are looked at together


class Gunzip(io.RawIOBase):
    """A gzip file's content, so that all that can be unpacked comes before an error."""

    def __init__(self, stream: BinaryIO) -> None:
        """Of an open file, which may have several members."""
        self.content = gzip.GzipFile(fileobj=stream)

    def readable(self) -> bool:
        """True, which io.BufferedReader asks for."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Some bytes; read1 gives what there is, where read would lose it to a later error."""
        try:
            chunk = self.content.read1(len(buffer))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise FileError(f"is a damaged gzip file ({error})") from error
        buffer[: len(chunk)] = chunk
        return len(chunk)


class Growing:
    """A line that comes in pieces; of one that is too long only a sum is kept."""

    def __init__(self) -> None:
        """A line without any piece yet."""
        self.pieces: list[bytes] = []
        self.size = 0
        self.seen: Any = None

    def add(self, piece: bytes) -> None:
        """Append a piece of the line."""
        self.size += len(piece)
        if self.seen is None and self.size > fields.LONGEST:
            self.seen = hashlib.sha256()
            for old in self.pieces:
                self.seen.update(old)
            self.pieces.clear()
        if self.seen is None:
            self.pieces.append(piece)
        else:
            self.seen.update(piece)

    def joined(self) -> bytes | Fault:
        """What has come, or that it is too much."""
        if self.seen is None:
            return b"".join(self.pieces)
        reason = f"has {self.size} bytes, and a row may have {fields.LONGEST}; cut it up"
        return Fault(reason, self.seen.digest())


class Lines:
    r"""The lines of a file with their ends, without a byte order mark; too long ones are Faults.

    A line ends in \n, with `returns` also in \r alone. `number` is that of the line that was given
    last, from 1, and `begun` that of the line in which the present row begins.
    """

    def __init__(self, stream: BinaryIO, returns: bool = False) -> None:
        """Of a stream at its start; returns: whether CR alone ends a line too."""
        self.number = self.begun = 0
        self.found = whole_lines(stream, (b"\n", b"\r") if returns else (b"\n",))

    def __iter__(self) -> Self:
        """The same object, as of every iterator."""
        return self

    def __next__(self) -> bytes | Fault:
        """The next line with its end, or what is wrong with it."""
        line = next(self.found)
        self.number += 1
        self.begun = self.number
        return line


def whole_lines(stream: BinaryIO, ends: tuple[bytes, ...]) -> Iterator[bytes | Fault]:
    """The lines, put together from pieces."""
    line = Growing()
    for piece in pieces(stream, b"\r" in ends):
        ended = piece.endswith(ends)
        if ended and not line.size and len(piece) <= fields.LONGEST:
            yield piece
            continue
        line.add(piece)
        if ended:
            yield line.joined()
            line = Growing()
    if line.size:
        yield line.joined()


def pieces(stream: BinaryIO, returns: bool) -> Iterator[bytes]:
    """Lines, or pieces of long ones; none goes over the end of a line."""
    chunk = stream.readline(PIECE)
    if chunk.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise FileError("is UTF-16; convert it to UTF-8")
    if chunk.startswith(b"\x1f\x8b"):
        raise FileError("is gzip without .gz at the end of its name; rename or unpack it")
    chunk = chunk.removeprefix(b"\xef\xbb\xbf") or stream.readline(PIECE)
    while chunk:
        rest = b""
        if not returns or b"\r" not in chunk:
            yield chunk
        else:
            if chunk.endswith(b"\r"):  # \n may follow
                rest = stream.readline(1)
                if rest == b"\n":
                    chunk, rest = chunk + rest, b""
            yield from chunk.splitlines(keepends=True)
        chunk = rest + stream.readline(PIECE)


def without_newline(line: bytes) -> bytes:
    r"""The line without its \n or \r\n."""
    if line.endswith(b"\n"):
        return line[:-2] if line.endswith(b"\r\n") else line[:-1]
    return line
