"""2_Normalize/config.json <-> Normalize, which has nothing to say.

Source: sentence-transformers 6.2.
"""

from collections.abc import Collection
from pathlib import Path

from jaxbert.checkpoint.json_file import optional, write
from jaxbert.checkpoint.sentence_transformers.keys import NAMES, check_keys, check_reads
from jaxbert.model.head import Normalize


def read_normalize(folder: Path, ignore: Collection[str]) -> Normalize:
    """config.json of a Normalize module; the folder may be absent."""
    raw = optional(folder / "config.json")
    check_keys(raw, folder / "config.json", NAMES, ignore)
    check_reads(raw, folder / "config.json")
    return Normalize()


def write_normalize(folder: Path) -> None:
    """Write an empty config.json into the module's folder."""
    write(folder / "config.json", {})
