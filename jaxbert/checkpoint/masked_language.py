"""The head of a masked language model: which of its tensors a folder must have, and its weights.

Source: transformers' BertForMaskedLM, whose output table is the word embeddings unless config.json
has tie_word_embeddings = false.
"""

import logging
import re

import jax
import numpy as np
from flax import nnx

from jaxbert.checkpoint.config_fields import ACTIVATION
from jaxbert.checkpoint.heads import beside, left_aside, load_head
from jaxbert.checkpoint.json_file import typed
from jaxbert.checkpoint.tensor_file import FLOATS, Entry, readers
from jaxbert.checkpoint.tensor_names.heads import DECODER, MASKED_LANGUAGE
from jaxbert.checkpoint.tensor_names.spelling import WORD, listing
from jaxbert.checkpoint.tensors import Checkpoint
from jaxbert.errors import CheckpointError
from jaxbert.model.activations import ACTIVATIONS
from jaxbert.model.head import MaskedLanguageHead

log = logging.getLogger(__name__)

BIAS = "cls.predictions.bias"
DECODER_WEIGHT, DECODER_BIAS = "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"
# All tensors that the head may have.
NAMES = frozenset({rule.name for rule in MASKED_LANGUAGE} | {DECODER_WEIGHT, DECODER_BIAS})
# What stands beside the head and has no part in filling in words: pooler, next-sentence head.
ASIDE = re.compile(
    r"pooler\.dense\.(weight|bias)|cls\.seq_relationship\.(weight|bias)"
    r"|embeddings\.(position_ids|token_type_ids)"
)


def load_masked_language_head(
    stored: Checkpoint, device: jax.Device | None = None
) -> MaskedLanguageHead:
    """The head with its weights in float32; its activation is hidden_act, also in a gated JinaBERT.

    Raises CheckpointError for a folder that has no such head, for a tensor that is missing or not
    understood, and for a decoder that contradicts what it is tied to.
    """
    there = beside(stored)
    check_fills(stored, there)
    tied = is_tied(stored, there)
    if aside := left_aside(stored, NAMES):
        log.info("%s has tensors that are left aside: %s", stored.folder, ", ".join(aside))

    table = MASKED_LANGUAGE + ([] if tied else DECODER)
    return load_head(stored, table, lambda: plain_head(stored, tied), device)


def plain_head(stored: Checkpoint, tied: bool) -> MaskedLanguageHead:
    """The head that config.json describes, drawn anew."""
    activation = ACTIVATIONS[ACTIVATION.read(stored.raw)]
    return MaskedLanguageHead(stored.config, activation, rngs=nnx.Rngs(0), tied=tied)


def check_fills(stored: Checkpoint, there: dict[str, Entry]) -> None:
    """CheckpointError for tensors beside the encoder that are of another head."""
    extra = sorted(name for name in there if name not in NAMES and not ASIDE.fullmatch(name))
    if extra:
        raise CheckpointError(
            f"{stored.folder} has {listing(extra)}, which a masked language model has no use for; "
            "remove it, or fetch the weights again"
        )


def is_tied(stored: Checkpoint, there: dict[str, Entry]) -> bool:
    """Whether the output table is the word embeddings; False for a decoder of its own.

    Versions of transformers do not agree on a decoder that contradicts config.json or the tensor
    that it is tied to, so that is a CheckpointError.
    """
    tied = typed(stored.raw, "tie_word_embeddings", bool, True, "config.json")
    missing = [name for name in (DECODER_WEIGHT, DECODER_BIAS) if name not in there]
    if not tied and missing:
        raise CheckpointError(
            f"{stored.folder} lacks {listing(missing)}, which tie_word_embeddings = false in "
            "config.json asks for; set it to true if the output table is the word embeddings"
        )
    pairs = {DECODER_BIAS: there.get(BIAS)}
    if tied:
        pairs[DECODER_WEIGHT] = stored.entries[WORD]
    for name, other in pairs.items():
        # A tensor that is missing is named when the head is read.
        if name in there and other is not None and not same(stored, there[name], other):
            why = "they are one weight in a masked language model"
            if name == DECODER_WEIGHT:
                why = 'set "tie_word_embeddings": false in config.json if the model has both'
            raise CheckpointError(f"{there[name].name} differs from {other.name}; {why}")
    return tied


def same(stored: Checkpoint, first: Entry, second: Entry) -> bool:
    """Whether two tensors hold the same numbers, bit for bit once they are float32."""
    if first.shape != second.shape or not {first.dtype, second.dtype} <= set(FLOATS):
        return False
    with readers(sorted({first.file, second.file}), stored.zeros) as read:
        one, other = (read(entry).astype(np.float32) for entry in (first, second))
    return one.tobytes() == other.tobytes()
