"""Whether a folder is that of an embedder, or of a model that does something else with a text."""

import re
from collections.abc import Collection
from pathlib import Path

from jaxbert.checkpoint.files import is_there
from jaxbert.checkpoint.json_file import optional, typed
from jaxbert.checkpoint.sentence_transformers.settings import SETTINGS_FILE
from jaxbert.checkpoint.sentence_transformers.stack import Stack, read_stack
from jaxbert.checkpoint.tensor_names.spelling import PREFIX, spelled_out
from jaxbert.checkpoint.tensors import Checkpoint
from jaxbert.errors import CheckpointError, warn_caller

# The tensors of the head of a classifier or reranker, and that of a masked language model.
ANSWERS = re.compile(r"(classifier|qa_outputs|score)\..+")
FILLS = re.compile(r"cls\.predictions\..+")
# The classes of transformers that give a text, a token or a pair of texts a score.
CLASSIFIERS = re.compile(
    "(Jina)?BertFor(SequenceClassification|TokenClassification|QuestionAnswering|MultipleChoice"
    "|NextSentencePrediction)"
)
# What config_sentence_transformers.json calls a late-interaction model, the latter that of PyLate.
LATE_TYPES = ("MultiVectorEncoder", "ColBERT")


class NotAnEmbedderWarning(UserWarning):
    """The model computes states, but nobody says that it was trained to embed texts."""


def embedder_stack(folder: Path, stored: Checkpoint, ignore_config: Collection[str]) -> Stack:
    """The stack of a folder that makes vectors of texts; CheckpointError for one that does not."""
    why = late_interaction(folder, stored)
    if why is not None:
        raise CheckpointError(
            f"{folder} is a late-interaction model ({why}), which has a vector for each token and "
            "none for a text; MultiVectorEncoder opens it, Encoder gives the states of its encoder"
        )
    stack = read_stack(folder, stored.config, ignore_config)
    check_embeds(stored, folder)
    return stack


def late_interaction(folder: Path, stored: Checkpoint) -> str | None:
    """What says that a folder is that of a late-interaction model; None where nothing does."""
    file = folder / SETTINGS_FILE
    kind = typed(optional(file), "model_type", str | None, None, file)
    if kind in LATE_TYPES:
        return f"model_type {kind}"
    if "HF_ColBERT" in (stored.raw.get("architectures") or ()):
        return "HF_ColBERT"
    return next((name for name in map(plain, stored.unused) if name == "linear.weight"), None)


def plain(name: str) -> str:
    """The name of a tensor without the prefix of a wrapper."""
    return PREFIX.sub("", name, count=1)


def check_embeds(stored: Checkpoint, folder: Path) -> None:
    """Refuse the folder of a classifier or reranker; warn of one that fills in words.

    folder is the model's, where modules.json would say that it makes vectors of texts.
    """
    names = [spelled_out(name) for name in stored.unused]
    heads = sorted(name for name in names if ANSWERS.search(name))
    classes = [str(name) for name in stored.raw.get("architectures") or ()]
    answers = [name for name in classes if CLASSIFIERS.fullmatch(name)]
    listed = is_there(folder / "modules.json")
    if heads or (answers and not listed):
        raise CheckpointError(
            f"{folder} is a classifier or reranker ({(heads or answers)[0]}), which scores texts "
            "and makes no vectors of them; CrossEncoder gives its scores, Encoder the states of "
            "its encoder"
        )
    if not listed and any(FILLS.search(name) for name in names):
        warn_caller(
            f"{folder} is a masked language model, which was not trained to embed texts (it has "
            "cls.predictions and no modules.json); vectors are the means of its states, and "
            "MaskedLM fills in its masks",
            NotAnEmbedderWarning,
        )
