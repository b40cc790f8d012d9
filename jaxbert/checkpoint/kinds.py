"""What the model of a folder does with a text, and which class opens it: one object for each kind.

The encoder is the same in all of them. What differs is what stands beside it: the tensors of a
head, and the files of sentence-transformers.
"""

import logging
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from jaxbert.checkpoint.classifier_formats import classifier_format
from jaxbert.checkpoint.files import is_there
from jaxbert.checkpoint.heads import beside
from jaxbert.checkpoint.json_file import optional, typed
from jaxbert.checkpoint.sentence_transformers.modules_json import MODULES, listed_modules
from jaxbert.checkpoint.sentence_transformers.settings import SETTINGS_FILE
from jaxbert.checkpoint.sentence_transformers.stack import Stack, read_stack
from jaxbert.checkpoint.tensor_file import Entry
from jaxbert.checkpoint.tensors import Checkpoint
from jaxbert.errors import CheckpointError, warn_caller

log = logging.getLogger(__name__)

# The tensors of the head of a classifier or reranker, and that of a masked language model.
ANSWERS = re.compile(r"((pre_)?classifier|qa_outputs|score)\..+")
FILLS = re.compile(r"cls\.predictions\..+")
# That of a masked language model of another family, which no class here computes.
FILLS_OTHERWISE = re.compile(r"lm_head\.dense\.weight|vocab_transform\.weight|decoder\.bias")
# The classes of transformers that give scores to a text or a pair, and those that give them to
# tokens, to choices, or to what may come next.
SCORES = re.compile(r"\w+ForSequenceClassification")
OTHERS = re.compile(
    r"\w+For(TokenClassification|QuestionAnswering|MultipleChoice|NextSentencePrediction)"
)
COLBERT, TOKEN_PROJECTION = re.compile("HF_ColBERT"), re.compile(r"linear\.weight")
# What config_sentence_transformers.json calls a late-interaction model, the latter that of PyLate.
LATE_TYPES = ("MultiVectorEncoder", "ColBERT")


class NotAnEmbedderWarning(UserWarning):
    """The model computes states, but nobody says that it was trained to embed texts."""


# --- what the files say --------------------------------------------------------------------------


@dataclass(frozen=True)
class Signs:
    """All that a folder says about the task of its model."""

    folder: Path  # the model's, where modules.json would be
    stored: Checkpoint

    @cached_property
    def beside(self) -> Mapping[str, Entry]:
        """The tensors that the encoder does not use, by name without prefix."""
        return beside(self.stored)

    @cached_property
    def modules(self) -> tuple[str, ...]:
        """The kinds of the modules in modules.json; none where there is no such file."""
        if not is_there(self.folder / MODULES):
            return ()
        return tuple(kind for kind, _ in listed_modules(self.folder))

    @property
    def embeds(self) -> bool:
        """Whether modules.json says that vectors are made of the states."""
        return len(self.modules) > 1

    def tensor(self, pattern: re.Pattern[str]) -> str | None:
        """The first tensor beside the encoder whose name is of this pattern."""
        return next((name for name in sorted(self.beside) if pattern.fullmatch(name)), None)

    def named(self, pattern: re.Pattern[str]) -> str | None:
        """The first class in config.json whose name is of this pattern."""
        classes = self.stored.raw.get("architectures") or ()
        return next((f"the class {name}" for name in classes if pattern.fullmatch(str(name))), None)

    @property
    def weight(self) -> str:
        """The name of the tensor that has a row for each label, where there is a classifier."""
        return classifier_format(self.stored).weight

    @property
    def rows(self) -> int | None:
        """The labels of the classifier; None where there is no classifier of a known shape."""
        weight = self.beside.get(self.weight)
        return weight.shape[0] if weight is not None and len(weight.shape) == 2 else None


# --- the kinds -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """One thing that a model may do."""

    title: str
    does: str  # continues "a reranker, which"
    opens: tuple[str, ...]  # the classes that open it, its own first; Encoder opens all
    sign: Callable[[Signs], str | None]  # what in the folder says so; None where nothing does


def compares_tokens(signs: Signs) -> str | None:
    """What sentence-transformers, PyLate and ColBERT say of a late-interaction model."""
    file = signs.folder / SETTINGS_FILE
    kind = typed(optional(file), "model_type", str | None, None, file)
    if kind in LATE_TYPES:
        return f"model_type {kind}"
    return signs.named(COLBERT) or signs.tensor(TOKEN_PROJECTION)


def scores_others(signs: Signs) -> str | None:
    """A class that gives scores to other things, unless modules.json puts an embedder in place."""
    name = signs.named(OTHERS)
    return name if not signs.embeds or signs.tensor(ANSWERS) else None


def scores_once(signs: Signs) -> str | None:
    """A classifier of one row."""
    return f"{signs.weight} of one row" if signs.rows == 1 else None


def scores_labels(signs: Signs) -> str | None:
    """A classifier of more rows, or the class of one whose tensors are lost."""
    if signs.weight in signs.beside:
        return f"{signs.weight} of shape {signs.beside[signs.weight].shape}"
    return None if signs.embeds or signs.tensor(ANSWERS) else signs.named(SCORES)


def embeds(signs: Signs) -> str | None:
    """A modules.json that goes on after the Transformer."""
    return f"{MODULES} with {', '.join(signs.modules[1:])}" if signs.embeds else None


def embeds_and_fills(signs: Signs) -> str | None:
    """The same beside the head of a masked language model."""
    return embeds(signs) if signs.tensor(FILLS) else None


LATE = Kind(
    "late-interaction model",
    "has a vector for each token and none for a text",
    ("MultiVectorEncoder", "Encoder"),
    compares_tokens,
)
OTHER = Kind("model of another task", "scores no texts and no pairs", ("Encoder",), scores_others)
RERANKER = Kind(
    "reranker",
    "scores pairs of texts and makes no vectors",
    ("CrossEncoder", "Encoder"),
    scores_once,
)
CLASSIFIER = replace(RERANKER, title="classifier", sign=scores_labels)
EMBEDDER = Kind("embedder", "makes vectors of texts", ("Embedder", "Encoder"), embeds)
MASKED = Kind(
    "masked language model",
    "fills in words",
    ("MaskedLM", "Embedder", "Encoder"),
    lambda signs: signs.tensor(FILLS),
)
OTHER_MASKED = Kind(
    "masked language model",
    "fills in words by a head that is not implemented for its family",
    ("Encoder", "Embedder"),
    lambda signs: signs.tensor(FILLS_OTHERWISE),
)
BARE = Kind(
    "bare encoder",
    "gives the states of tokens",
    ("Encoder", "Embedder"),
    lambda signs: "no head beside its encoder",
)
# The first whose sign a folder has is its kind.
KINDS = (
    LATE,
    OTHER,
    RERANKER,
    CLASSIFIER,
    replace(OTHER, sign=lambda signs: signs.tensor(ANSWERS)),
    replace(EMBEDDER, opens=("Embedder", "MaskedLM", "Encoder"), sign=embeds_and_fills),
    EMBEDDER,
    MASKED,
    OTHER_MASKED,
    BARE,
)


@dataclass(frozen=True)
class Task:
    """The kind of a folder's model, and what says so."""

    folder: Path
    kind: Kind
    sign: str

    def check(self, face: str) -> None:
        """Raise CheckpointError, which names the right class, unless this class opens the model."""
        kind = self.kind
        if face in kind.opens:
            return
        article = "an" if kind.title[0] in "aeiou" else "a"
        own = kind.opens[0]
        states = "which gives its states" if own == "Encoder" else "or with Encoder for its states"
        raise CheckpointError(
            f"{self.folder} is {article} {kind.title} (it has {self.sign}), which {kind.does}, so "
            f"{face} does not open it; open it with {own}, {states}"
        )


def task_of(folder: Path, stored: Checkpoint) -> Task:
    """What the model of a folder is for; folder is where modules.json would be."""
    signs = Signs(folder, stored)
    found = ((kind, kind.sign(signs)) for kind in KINDS)
    kind, sign = next((kind, sign) for kind, sign in found if sign is not None)
    return Task(folder, kind, sign)


# --- embedders -----------------------------------------------------------------------------------


def embedder_stack(task: Task, stored: Checkpoint, ignore_config: Collection[str]) -> Stack:
    """The stack of a folder that makes vectors of texts; CheckpointError for one that does not.

    Warns of a model that was trained to fill in words.
    """
    task.check("Embedder")
    stack = read_stack(task.folder, stored.config, ignore_config)
    if stored.unused:
        aside = ", ".join(sorted(stored.unused))
        log.info("%s has tensors that are left aside: %s", stored.folder, aside)
    if task.kind in (MASKED, OTHER_MASKED):
        more = ", and MaskedLM fills in its masks" if task.kind is MASKED else ""
        warn_caller(
            f"{task.folder} is a masked language model, which was not trained to embed texts (it "
            f"has {task.sign} and no modules.json); vectors are the means of its states{more}",
            NotAnEmbedderWarning,
        )
    return stack
