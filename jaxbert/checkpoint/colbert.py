"""artifact.metadata of a ColBERT -> LateSettings.

Source: stanford-futuredata/ColBERT, colbert/infra/config/settings.py, whose defaults these are, and
colbert/modeling/tokenization.
"""

import string
from typing import Any

from jaxbert.checkpoint.json_file import optional, typed
from jaxbert.checkpoint.late_settings import Expansion, LateSettings, Side, checked_length
from jaxbert.checkpoint.tensors import Checkpoint
from jaxbert.errors import CheckpointError, shown

METADATA = "artifact.metadata"
ARCHITECTURE = "HF_ColBERT"
QUERY_MARKER, DOCUMENT_MARKER = "[unused0]", "[unused1]"
QUERY_LENGTH, DOCUMENT_LENGTH = 32, 220
PUNCTUATION = tuple(string.punctuation)
# Values without which the vectors or the scores are others.
REQUIRED = {"similarity": "cosine", "interaction": "colbert", "relu": False}


def read_colbert(stored: Checkpoint, width: int) -> LateSettings:
    """The settings of a folder whose projection gives vectors of this width.

    Keys of training, indexing and searching are passed over. Raises CheckpointError for what would
    give other vectors, and for a width that is not that of the projection.
    """
    file = stored.folder / METADATA
    raw = optional(file)
    for key, needed in REQUIRED.items():
        if raw.get(key, needed) not in (needed, None):
            raise CheckpointError(
                f"{file} has {key} = {shown(raw[key])}; only {needed!r} is understood"
            )

    def given(key: str, kind: Any, default: Any) -> Any:
        return default if raw.get(key) is None else typed(raw, key, kind, default, file)

    if given("dim", int, width) != width:
        raise CheckpointError(
            f"{file} has dim = {shown(raw['dim'])}, but linear.weight has {width} rows: they are "
            "of different models"
        )
    lengths = {
        key: checked_length(file, key, given(key, int, default), stored)
        for key, default in (("query_maxlen", QUERY_LENGTH), ("doc_maxlen", DOCUMENT_LENGTH))
    }
    skipped = PUNCTUATION if given("mask_punctuation", bool, True) else ()
    return LateSettings(
        query=Side(lengths["query_maxlen"], given("query_token_id", str, QUERY_MARKER)),
        document=Side(lengths["doc_maxlen"], given("doc_token_id", str, DOCUMENT_MARKER), skipped),
        expansion=Expansion(lengths["query_maxlen"], given("attend_to_mask_tokens", bool, False)),
    )
