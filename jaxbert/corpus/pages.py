"""How large a batch of a Parquet file may become, which its metadata alone do not say.

A value of the dictionary of a column may stand in any number of rows, so a small file can unpack to
any size. How large the dictionary is stands at the start of its page, in Thrift's compact protocol.
"""

from typing import Any, BinaryIO

DICTIONARY = 2  # Parquet's PageType
INTEGER = 0x15  # Thrift: the next field, an i32


def rows_together(file: BinaryIO, group: Any, names: list[str], most: int, space: int) -> int:
    """How many rows of a row group to read at once: up to `most`, and about `space` bytes.

    By the average of all rows, and as if every row had the whole dictionary of its column.
    """
    size = row = 0
    for i in range(group.num_columns):
        chunk = group.column(i)
        if any(f"{chunk.path_in_schema}.".startswith(f"{name}.") for name in names):
            size += chunk.total_uncompressed_size
            row = max(row, dictionary_bytes(file, chunk))
    average = size // max(group.num_rows, 1)
    return max(1, min(most, space // max(average, row, 1)))


def dictionary_bytes(file: BinaryIO, chunk: Any) -> int:
    """The bytes of a column chunk's dictionary when it is unpacked; 0 where it has none."""
    if not any("DICTIONARY" in encoding for encoding in chunk.encodings):
        return 0
    file.seek(chunk.dictionary_page_offset or chunk.data_page_offset)
    head = file.read(12)
    kind, behind = integer(head, 0)
    size, _ = integer(head, behind)
    return size if kind == DICTIONARY else 0


def integer(head: bytes, at: int) -> tuple[int, int]:
    """The i32 of the field at this place (0 if it is another) and the place behind it."""
    if head[at : at + 1] != bytes([INTEGER]):
        return 0, len(head)
    value = shift = 0
    for i in range(at + 1, len(head)):
        value |= (head[i] & 0x7F) << shift
        shift += 7
        if head[i] < 0x80:
            return (value >> 1) ^ -(value & 1), i + 1
    return 0, len(head)
