"""Checksums that the files of a model folder are known to have, and reading them with a comparison.

Known are the sums of the hub's cache, which names its blobs by them, of a folder that
convert/from_hub.py fetched, which lists them, and of the package with the default model. Damage
that leaves plausible numbers or words is found in no other way.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxbert.checkpoint import hub
from jaxbert.checkpoint.files import LARGEST_TEXT, is_there, opened_file
from jaxbert.errors import CheckpointError, shown

# What convert/from_hub.py says about the folder that it fetched.
SOURCE = "SOURCE.json"
# A file stands in its model's folder or in a folder there: 1_Pooling/config.json.
DEPTH = 2
BLOCK = 1 << 20

# A hash to be fed the bytes of a file of this size.
Hash = Callable[[int], Any]


def plain_sha256(size: int) -> Any:
    """A SHA-256 of the bytes alone, whatever their number."""
    return hashlib.sha256()


def plain_sha1(size: int) -> Any:
    """A SHA-1 of the bytes alone, whatever their number."""
    return hashlib.sha1(usedforsecurity=False)


def git_sha1(size: int) -> Any:
    """What git calls a file of these bytes: the SHA-1 of a header and the bytes."""
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


def digests(file: Path, kinds: tuple[Hash, ...]) -> list[str]:
    """The hashes of a file, in hexadecimal."""
    with opened_file(file) as stream:
        made = [kind(os.fstat(stream.fileno()).st_size) for kind in kinds]
        while block := stream.read(BLOCK):
            for one in made:
                one.update(block)
    return [one.hexdigest() for one in made]


def sha256(file: Path) -> str:
    """The file's SHA-256, in hexadecimal."""
    return digests(file, (plain_sha256,))[0]


# --- what is known -----------------------------------------------------------------------------


class Known(NamedTuple):
    """A sum, who says so, and the kinds of hash one of which must give it."""

    sum: str
    source: str
    kinds: tuple[Hash, ...] = (plain_sha256,)


def known_sums(file: Path) -> list[Known]:
    """Each sum that the file is known to have.

    The hub's cache names a blob by its SHA-256, or by git's SHA-1 of it; a mirror may name it by
    the SHA-1 of its bytes alone.
    """
    known: list[Known] = []
    package = hub.installed_package()
    if package is not None and file.is_relative_to(package):
        pinned = hub.PACKAGE_SUMS.get(file.relative_to(package).as_posix())
        known += [Known(pinned, "the package's")] if pinned else []
    for root in list(file.parents)[:DEPTH]:
        if root == file.parent or os.path.lexists(root / "modules.json"):
            listed = sources(root).get(file.relative_to(root).as_posix())
            known += [Known(listed, f"that of {root / SOURCE}")] if listed else []
    name = os.path.basename(os.path.realpath(file))
    if re.fullmatch("[0-9a-f]{64}", name):
        known.append(Known(name, "that of the cache"))
    if re.fullmatch("[0-9a-f]{40}", name):
        known.append(Known(name, "that of the cache", (git_sha1, plain_sha1)))
    return known


def sources(folder: Path) -> Mapping[str, str]:
    """The SHA-256 of each file that the folder's SOURCE.json lists; empty where it has none."""
    file = folder / SOURCE
    if not is_there(file):
        return {}
    try:
        with opened_file(file) as stream:
            source = json.loads(stream.read(LARGEST_TEXT))
        if not {"repository", "commit", "files"} & source.keys():
            return {}  # of somebody else
        return {path: str(known["sha256"]) for path, known in source["files"].items()}
    except (ValueError, RecursionError, AttributeError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"{file} does not list the files that were fetched; fetch the folder again, or delete "
            "it to do without"
        ) from error


def check_listed(folder: Path) -> None:
    """Every file that SOURCE.json lists must be there: an absent one may have a meaning."""
    for path in sources(folder):
        if not is_there(folder / path):
            raise CheckpointError(
                f"{folder} lacks {shown(path)}, which its {SOURCE} lists; fetch it again, "
                f"or delete {SOURCE} to do without"
            )


# --- comparing ---------------------------------------------------------------------------------


def check_sum(file: Path) -> None:
    """Compare a file with each checksum that is known of it."""
    for known in known_sums(file):
        refuse_other(file, known, digests(file, known.kinds))


def refuse_other(file: Path, known: Known, found: list[str]) -> None:
    """CheckpointError where none of the sums found is the known one."""
    if known.sum not in found:
        raise CheckpointError(
            f"{file} does not have the checksum it was published with, {known.source}; delete it "
            "and fetch it again"
        )


def read_bytes(file: Path, most: int = LARGEST_TEXT) -> bytes:
    """What a file holds, compared with each known checksum; CheckpointError beyond `most` bytes."""
    with opened_file(file) as stream:
        contents = stream.read(most + 1)
    if len(contents) > most:
        raise CheckpointError(f"{file} has more than {most:,} bytes; such a file is not read")
    for known in known_sums(file):
        made = [kind(len(contents)) for kind in known.kinds]
        for one in made:
            one.update(contents)
        refuse_other(file, known, [one.hexdigest() for one in made])
    return contents


def read_text(file: Path, most: int = LARGEST_TEXT) -> str:
    """The same as text; CheckpointError for bytes that are no UTF-8."""
    try:
        return read_bytes(file, most).decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{file} is no UTF-8 text ({error}); restore it") from error
