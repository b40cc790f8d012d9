"""What stands behind an encoder, by kind of model: how it is described, and how it is compared."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxbert.checkpoint.classifier import load_classifier
from jaxbert.checkpoint.classifier_formats import classifier_names
from jaxbert.checkpoint.heads import tensors_beside
from jaxbert.checkpoint.late_interaction import LINEAR, open_late_interaction
from jaxbert.checkpoint.late_settings import LateSettings
from jaxbert.checkpoint.masked_language import NAMES as MASKED_NAMES
from jaxbert.checkpoint.masked_language import load_masked_language_head
from jaxbert.checkpoint.opening import OpenedModel
from jaxbert.checkpoint.sentence_transformers.cross_encoder import OLD_KEY, CrossEncoderSettings
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.checkpoint.sentence_transformers.transformer import max_length
from jaxbert.checkpoint.tensors import Checkpoint, read_tensors
from jaxbert.encoder import Encoder
from jaxbert.errors import shown
from jaxbert.model import reference
from jaxbert.model.head import Dense, MaskedLanguageHead, TokenProjection, pool
from jaxbert.model.reference.late_interaction import token_vectors
from jaxbert.process.backend import computing
from jaxbert.verify.compare import Difference, cosine, difference


@dataclass(frozen=True)
class Pair:
    """The last states [b, t, d] of the same texts from two sides, and their mask [b, t]."""

    ours: np.ndarray
    theirs: np.ndarray
    mask: np.ndarray


class Part(Protocol):
    """What stands behind the encoder of one model."""

    @property
    def used(self) -> Collection[str]:
        """The tensors beside the encoder that it uses, by name without prefix."""

    @property
    def title(self) -> str:
        """Encoder and part together, in words."""

    @property
    def max_length(self) -> int:
        """The tokens of a text, special ones included, beyond which it is cut."""

    @property
    def lower_case(self) -> bool:
        """Whether texts are lower-cased before they are tokenised."""

    def rows(self, hidden_size: int) -> dict[str, str]:
        """What `info` says of it, by title."""

    def not_used(self, keys: Sequence[str]) -> list[str]:
        """The keys of the JSON files that change nothing, of those that the encoder passes over."""

    def compare(
        self, stored: Checkpoint, encoder: Encoder, states: Pair
    ) -> tuple[list[Difference], str]:
        """How far what it makes of both states is apart, and a line about it."""


def prompts_title(prompts: dict[str, str]) -> str:
    """The prompts that put something before a text."""
    return ", ".join(f"{name}: {shown(text)}" for name, text in prompts.items() if text)


@dataclass(frozen=True)
class Vectors:
    """The stack of a model that makes vectors of texts."""

    stack: Stack
    used: Collection[str] = ()
    title: str = "encoder"

    @property
    def max_length(self) -> int:
        """The length that the stack says."""
        return self.stack.max_length

    @property
    def lower_case(self) -> bool:
        """Whether the stack says so."""
        return self.stack.lower_case

    def rows(self, hidden_size: int) -> dict[str, str]:
        """Pooling, vector, length and prompts."""
        stack = self.stack
        steps = [" + ".join(stack.pooling.modes), *map(step_title, stack.after)]
        width = stack.truncate_dim or stack.width(hidden_size)
        return {
            "pooling": ", then ".join(steps),
            "vector": f"{width} x float32, {stack.similarity} similarity",
            "max length": f"{self.max_length} tokens",
            "prompts": prompts_title(stack.prompts),
        }

    def not_used(self, keys: Sequence[str]) -> list[str]:
        """Those keys, and those that the stack passed over."""
        return [*keys, *self.stack.not_used]

    def compare(
        self, stored: Checkpoint, encoder: Encoder, states: Pair
    ) -> tuple[list[Difference], str]:
        """The smallest cosine of two pooled vectors, which decides nothing."""
        modes = self.stack.pooling.modes
        with computing():
            mask = jnp.asarray(states.mask != 0)
            pooled = [
                np.asarray(pool(jnp.asarray(side, jnp.float32), mask, modes))
                for side in (states.ours, states.theirs)
            ]
        return [], f"pooled: smallest cosine {cosine(*pooled):.9f}"


def step_title(step: object) -> str:
    """A module after pooling, in words."""
    if isinstance(step, Dense):
        return f"dense {step.weight.shape[1]} -> {step.weight.shape[0]} ({step.activation})"
    return "unit length"


@dataclass(frozen=True)
class Scores:
    """The classifier of a reranker or of a classifier of pairs."""

    settings: CrossEncoderSettings
    head: Any
    used: Collection[str]
    title: str = "encoder with its classifier"

    @property
    def max_length(self) -> int:
        """That of both texts of a pair together."""
        return self.settings.max_length

    @property
    def lower_case(self) -> bool:
        """Whether the settings say so."""
        return self.settings.lower_case

    def rows(self, hidden_size: int) -> dict[str, str]:
        """Labels, activation, length and prompts."""
        return {
            "labels": ", ".join(self.settings.labels),
            "activation": self.settings.activation_name,
            "max length": f"{self.max_length} tokens of both texts",
            "prompts": prompts_title(self.settings.prompts),
        }

    def not_used(self, keys: Sequence[str]) -> list[str]:
        """Those keys but the ones that say the activation and the number of labels."""
        return [key for key in keys if key.split(" = ")[0] not in (OLD_KEY, "num_labels")]

    def compare(
        self, stored: Checkpoint, encoder: Encoder, states: Pair
    ) -> tuple[list[Difference], str]:
        """How far the logits of each text are apart."""
        theirs = reference.classification_logits(
            tensors_beside(stored, self.used), stored.raw, states.theirs, states.mask
        )
        with computing():
            ours = np.asarray(
                jax.jit(lambda head, *given: head(*given))(self.head, states.ours, states.mask != 0)
            )
        return [difference("logits", ours, theirs)], ""


@dataclass(frozen=True)
class Words:
    """The head of a masked language model."""

    head: MaskedLanguageHead
    max_length: int
    lower_case: bool = False
    used: Collection[str] = MASKED_NAMES
    title: str = "encoder with its masked language head"

    def rows(self, hidden_size: int) -> dict[str, str]:
        """The output table and the length."""
        own = "a decoder of its own" if self.head.decoder is not None else "the word embeddings"
        tied = "" if self.head.decoder is not None else " (tied)"
        return {"output table": own + tied, "max length": f"{self.max_length} tokens"}

    def not_used(self, keys: Sequence[str]) -> list[str]:
        """All of them, since the head reads no key that the encoder does not."""
        return list(keys)

    def compare(
        self, stored: Checkpoint, encoder: Encoder, states: Pair
    ) -> tuple[list[Difference], str]:
        """How far the logits of each token are apart."""
        kept = states.mask != 0
        tensors = read_tensors(stored) | tensors_beside(stored, self.used)
        theirs = reference.masked_language_logits(tensors, stored.raw, states.theirs)
        with computing():
            word = encoder.embeddings.word[...]
            ours = np.asarray(jax.jit(lambda head, x, w: head(x, w))(self.head, states.ours, word))
        return [difference("logits", ours[kept], theirs[kept])], ""


@dataclass(frozen=True)
class TokenVectors:
    """The projection of a late-interaction model."""

    head: TokenProjection
    settings: LateSettings
    used: Collection[str] = (LINEAR,)
    title: str = "encoder with its projection of tokens"

    @property
    def max_length(self) -> int:
        """The tokens that a document may have."""
        return self.settings.document.length

    @property
    def lower_case(self) -> bool:
        """Whether the settings say so."""
        return self.settings.lower_case

    def rows(self, hidden_size: int) -> dict[str, str]:
        """Vectors, markers, lengths, what is skipped and how queries are filled up."""
        query, document, more = self.settings.query, self.settings.document, self.settings.expansion
        width = self.head.linear.weight.shape[1]
        return {
            "vectors": f"{width} x float32 for each token, {self.settings.similarity}",
            "markers": f"query {query.marker or 'none'}, document {document.marker or 'none'}",
            "max length": f"{query.length} tokens of a query, {document.length} of a document",
            "skipped": f"{len(document.skipped)} words of documents",
            "expansion": "none" if more is None else f"queries of at least {more.length} tokens",
            "prompts": prompts_title(dict(self.settings.prompts)),
        }

    def not_used(self, keys: Sequence[str]) -> list[str]:
        """All of them, since the head reads no key that the encoder does not."""
        return list(keys)

    def compare(
        self, stored: Checkpoint, encoder: Encoder, states: Pair
    ) -> tuple[list[Difference], str]:
        """How far the vectors of each token are apart."""
        kept = states.mask != 0
        with computing():
            ours = np.asarray(jax.jit(lambda head, x: head(x))(self.head, states.ours))
            weight = np.asarray(self.head.linear.weight[...]).T
        theirs = token_vectors(weight, states.theirs)
        return [difference("vectors", ours[kept], theirs[kept])], ""


@dataclass(frozen=True)
class States:
    """Nothing, behind an encoder whose head has no class here."""

    max_length: int
    lower_case: bool = False
    used: Collection[str] = ()
    title: str = "encoder"

    def rows(self, hidden_size: int) -> dict[str, str]:
        """The length, which the tokenizer's files say."""
        return {"max length": f"{self.max_length} tokens"}

    def not_used(self, keys: Sequence[str]) -> list[str]:
        """All of them, since the head reads no key that the encoder does not."""
        return list(keys)

    def compare(
        self, stored: Checkpoint, encoder: Encoder, states: Pair
    ) -> tuple[list[Difference], str]:
        """Nothing but the remark that the head is not compared."""
        return [], "the head is not compared, for no class here computes it"


def part_of(opened: OpenedModel) -> Part:
    """What stands behind the encoder of an opened model, with its weights."""
    stored, face = opened.stored, opened.task.kind.opens
    if "CrossEncoder" in face:
        names = classifier_names(stored)
        return Scores(opened.read_cross_encoder(), load_classifier(stored), names)
    if "MultiVectorEncoder" in face:
        return TokenVectors(*open_late_interaction(opened.task, stored, opened.ignore_config))
    most = max_length(opened.tokenizer_folder, {}, stored.config, opened.ignore_config)
    if face[0] == "MaskedLM":
        return Words(load_masked_language_head(stored), most)
    return Vectors(opened.read_stack()) if "Embedder" in face else States(most)
