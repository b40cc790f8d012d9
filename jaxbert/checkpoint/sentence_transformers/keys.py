"""Checks that all files of modules share: for unknown keys, and for what a module reads.

Source: sentence-transformers 6.2.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from jaxbert.checkpoint.config_keys import says_nothing
from jaxbert.errors import CheckpointError, shown

NAMES = frozenset({"module_input_name", "module_output_name"})


def check_keys(
    raw: Mapping[str, Any], file: Path, known: Collection[str], ignore: Collection[str]
) -> None:
    """Refuse a key that nobody here has read about, unless it says nothing."""
    for key in unread(raw, {*known, *ignore}):
        raise CheckpointError(
            f"{file} has {key} = {shown(raw[key])}, which is not understood; if it does not change "
            f'the vectors, pass ignore_config=("{key}",)'
        )


def unread(raw: Mapping[str, Any], known: Collection[str]) -> list[str]:
    """The keys that nobody reads and that say something."""
    return [key for key, value in raw.items() if key not in known and not says_nothing(value)]


def check_reads(raw: Mapping[str, Any], file: Path, what: str = "sentence_embedding") -> None:
    """A module must read and write the pooled vector, or what else its model is made of."""
    for key in ("module_input_name", "module_output_name"):
        if raw.get(key, what) not in (what, None):
            raise CheckpointError(f"{file} has {key} = {shown(raw[key])}; not understood")
