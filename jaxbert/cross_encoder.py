"""Pairs of texts -> scores: a classifier on the state of the first token of both, read together."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxbert.arguments import flag, integer, names
from jaxbert.checkpoint.classifier import load_classifier
from jaxbert.checkpoint.classifier_formats import classifier_names
from jaxbert.checkpoint.heads import left_aside
from jaxbert.checkpoint.opening import OpenedModel, open_model
from jaxbert.checkpoint.sentence_transformers.cross_encoder import CrossEncoderSettings
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.checkpoint.source import Source
from jaxbert.encoder import Encoder
from jaxbert.errors import InputError
from jaxbert.inference.engine import Engine
from jaxbert.inference.engines import AnyEngine, chosen_engine
from jaxbert.inference.forward import logits
from jaxbert.inference.inputs import ArrayInput
from jaxbert.inference.outputs import refuse_torch
from jaxbert.inference.pair_request import PairRequest, check_labels, typed_pairs
from jaxbert.inference.planning import Planner, by_text
from jaxbert.inference.ranking import Ranking
from jaxbert.inference.scoring import (
    Activation,
    activated,
    check_order,
    checked_pairs,
    is_pair,
    named_activation,
    softmax,
)
from jaxbert.inference.snapshot import Snapshot
from jaxbert.model.attention import Attend
from jaxbert.model.config import LARGEST
from jaxbert.model.head import LabelHead
from jaxbert.model.transformer import Inputs
from jaxbert.portable import check_made
from jaxbert.portable_kinds import PortableScorer
from jaxbert.process.backend import backend, check_devices
from jaxbert.process.forked import check_not_forked
from jaxbert.text.prompts import chosen
from jaxbert.text.tokenizer import Tokenizer


class CrossEncoder(PortableScorer):
    """An encoder with a classifier: a reranker of query and document, or a classifier of pairs.

    Source: Nogueira and Cho, arXiv:1901.04085; the names of methods and arguments are those of
    sentence-transformers' CrossEncoder.
    """

    _title = "a CrossEncoder"
    _anew = "CrossEncoder(model.encoder, model.head, model.tokenizer, model.settings)"
    _made = (
        *("engine", "scores", "typed", "tokenizer", "settings", "left_aside", "_head", "_mark"),
        "_source",
    )

    def __init__(
        self,
        encoder: Encoder,
        head: LabelHead,
        tokenizer: Tokenizer,
        settings: CrossEncoderSettings,
        planner: Planner | None = None,
        devices: Sequence[jax.Device] | None = None,
        *,
        left_aside: Sequence[str] = (),
        engine: str | AnyEngine = "jax",
        source: Source | None = None,
    ) -> None:
        """Put a model together; planner decides the shapes of batches, None by the backend.

        left_aside names the tensors of its folder that it does not use; engine is as in
        Embedder.from_pretrained; source is for from_pretrained and for pickles. Raises
        InputTypeError for parts of other types, CheckpointError for parts that do not fit.
        """
        check_made(
            encoder=(encoder, Encoder),
            head=(head, LabelHead),
            tokenizer=(tokenizer, Tokenizer),
            settings=(settings, CrossEncoderSettings),
        )
        check_labels(settings.labels, head.bias.size)
        self.settings, self.tokenizer, self._head = settings, tokenizer, head
        self._mark, self._source = Snapshot(head), source
        self.left_aside = names(left_aside, "left_aside")
        self.engine = Engine(encoder, Stack(), planner, devices, engine)
        self.scores = self.engine.program(logits, head)
        self.typed = typed_pairs(tokenizer, encoder.config.type_vocab_size)

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        *,
        deterministic: bool = False,
        dtype: DTypeLike = jnp.float32,
        attention: Attend | None = None,
        revision: str | None = None,
        token: str | None = None,
        ignore_config: Sequence[str] = (),
        devices: Sequence[jax.Device] | None = None,
        engine: str | AnyEngine = "jax",
    ) -> Self:
        """The cross-encoder of a folder or a hub name, with its activation, length and prompts.

        deterministic: the same pair gives the same bits whatever the other pairs are. The other
        arguments are those of Embedder.from_pretrained. The classifier computes in float32. Raises
        ModelNotFoundError, and CheckpointError, also for a folder of another kind of model.
        """
        devices = check_devices(devices)
        chosen_engine(engine).check(devices)
        deterministic = flag(deterministic, "deterministic")
        opened = open_model(name, revision=revision, token=token, ignore_config=ignore_config)
        return cls.from_opened(opened, deterministic, dtype, attention, devices, engine)

    @classmethod
    def from_opened(
        cls,
        opened: OpenedModel,
        deterministic: bool = False,
        dtype: DTypeLike = jnp.float32,
        attention: Attend | None = None,
        devices: Sequence[jax.Device] | None = None,
        engine: str | AnyEngine = "jax",
    ) -> Self:
        """The cross-encoder of an opened model; all that is refused is refused before its weights.

        The arguments are those of `from_pretrained`, checked.
        """
        settings = opened.read_cross_encoder()
        tokenizer = Tokenizer.of_model(opened, settings.lower_case)
        device = devices[0] if devices else None
        encoder = Encoder.from_checkpoint(
            opened.stored, dtype=dtype, attention=attention, device=device
        )
        head = load_classifier(opened.stored, device)
        planner = by_text(backend(), encoder.position.limit) if deterministic else None
        aside = left_aside(opened.stored, classifier_names(opened.stored))
        source = Source.of(opened, (encoder, head))
        rest = (settings, planner, devices)
        made = cls(encoder, head, tokenizer, *rest, left_aside=aside, engine=engine, source=source)
        made.scores.prepare()
        return made

    @property
    def head(self) -> LabelHead:
        """The classifier, whose weights the compiled programs hold; to exchange it, make another.

        The same goes for the encoder.
        """
        return self._head

    @property
    def num_labels(self) -> int:
        """The number of scores that a pair has."""
        return len(self.settings.labels)

    @property
    def max_seq_length(self) -> int:
        """Tokens of a pair, special tokens included, beyond which the longer text is cut."""
        return self.settings.max_length

    @max_seq_length.setter
    def max_seq_length(self, tokens: int) -> None:
        most = self.encoder.position.limit or LARGEST
        length = integer(tokens, "max_seq_length", 1, most)
        self.settings = replace(self.settings, max_length=length)

    def logits(
        self,
        input_ids: ArrayInput,
        attention_mask: ArrayInput | None = None,
        token_type_ids: ArrayInput | None = None,
    ) -> jax.Array:
        """The logits [b, labels] in float32 of rows of ids [b, t] that begin with [CLS].

        Raises InputError as Encoder does, and for a row whose first position is padding.
        """

        def run(encoder: Encoder, inputs: Inputs) -> jax.Array:
            traced = isinstance(inputs.segments, jax.core.Tracer)
            if not traced and not np.asarray(inputs.segments[:, 0]).all():
                raise InputError(
                    "attention_mask has a row that begins with padding, where the classifier "
                    "reads; pad on the right"
                )
            return _logits(encoder, self._head, inputs)

        texts = (input_ids, attention_mask, token_type_ids)
        return self.encoder.run(run, self.encoder.attention, *texts)

    def predict(
        self,
        inputs: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        activation_fn: str | Activation | None = None,
        apply_softmax: bool = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: str | None = None,
        pool: None = None,
        chunk_size: None = None,
        *,
        max_length: int | None = None,
    ) -> Any:
        """One score per pair, float32: [n] of a list of pairs with one label, else [n, labels].

        inputs is a list of pairs of str, or an array of str [n, 2]; one pair gives its score alone.
        A pair beyond max_length tokens, max_seq_length if None, is cut at the longer text first. A
        prompt is put before the first text. activation_fn, a name or a function of logits
        [n, labels], replaces the folder's; apply_softmax then makes shares of several labels.
        Raises InputTypeError and InputError, before anything is computed if the list shows it;
        ComputationError for a score that is not finite.
        Differs: sentence-transformers sorts by characters, and its scores change with the batch.
        """
        refuse_torch(convert_to_numpy, convert_to_tensor, device, pool, chunk_size)
        single = is_pair(inputs)
        pairs = checked_pairs([inputs] if single else inputs)
        activate = named_activation(
            self.settings.activation_name if activation_fn is None else activation_fn
        )
        apply_softmax = flag(apply_softmax, "apply_softmax")
        request = self.request(prompt_name, prompt, batch_size, show_progress_bar, max_length)
        scores = activated(request.logits(pairs), activate)
        if self.num_labels == 1:
            scores = scores[:, 0]
        elif apply_softmax:
            scores = softmax(scores)
        return scores[0] if single else scores

    def request(
        self,
        prompt_name: str | None,
        prompt: str | None,
        batch_size: int | None,
        show_progress_bar: bool | None,
        max_length: int | None,
    ) -> PairRequest:
        """The arguments that say how pairs are run, checked."""
        check_not_forked()
        if not self._mark.fits(self._head):
            raise InputError(
                "the head was changed after this model was made, which would run the old weights; "
                f"make the model anew, such as {self._anew}"
            )
        settings = self.settings
        return PairRequest(
            self.engine,
            self.scores,
            self.num_labels,
            self.tokenizer,
            self.typed,
            chosen(settings.prompts, settings.default_prompt_name, prompt_name, prompt),
            self.max_seq_length if max_length is None else integer(max_length, "max_length", 1),
            None if batch_size is None else integer(batch_size, "batch_size", 1),
            show_progress_bar is not None and flag(show_progress_bar, "show_progress_bar"),
        )

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        return_documents: bool = False,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        activation_fn: str | Activation | None = None,
        *,
        max_length: int | None = None,
    ) -> list[dict[str, Any]]:
        """The documents by falling score: {"corpus_id", "score"} each, with "text" if asked for.

        Documents of equal score keep their order; top_k keeps the first. An empty query is a text
        of no tokens, as an empty document is: it is scored, as sentence-transformers scores it.
        Raises InputError for a model of more than one label, and as `predict`.
        """
        check_order(self.settings.labels)
        ranking = Ranking.of(query, documents, top_k, return_documents)
        scores = self.predict(
            [(query, text) for text in ranking.documents],
            prompt_name,
            prompt,
            batch_size,
            show_progress_bar,
            activation_fn,
            max_length=max_length,
        )
        return ranking.by(scores)


_logits = jax.jit(lambda encoder, head, inputs: head(encoder.forward(inputs), inputs.segments != 0))
