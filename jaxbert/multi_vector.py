"""Texts -> a vector for each token, and scores of queries and documents by MaxSim (ColBERT)."""

import os
from collections.abc import Iterable, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxbert.arguments import as_list, choice, flag, integer
from jaxbert.checkpoint.late_interaction import open_late_interaction
from jaxbert.checkpoint.late_settings import DOCUMENT, QUERY, LateSettings
from jaxbert.checkpoint.opening import open_model
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.encoder import Encoder
from jaxbert.errors import ComputationError, InputError, shown
from jaxbert.inference.batches import count
from jaxbert.inference.dispatched import UNIT
from jaxbert.inference.engine import Engine
from jaxbert.inference.engines import AnyEngine, chosen_engine
from jaxbert.inference.forward import expanded_vectors, token_vectors
from jaxbert.inference.late_interaction import (
    TokenPrecision,
    check_token_precision,
    compressed,
    maxsim,
    token_lists,
)
from jaxbert.inference.late_model import LateModel
from jaxbert.inference.outputs import LongTexts, refuse_torch
from jaxbert.inference.planning import Planner, by_text
from jaxbert.inference.ranking import Ranking
from jaxbert.inference.request import Request
from jaxbert.inference.similarity import unit_length
from jaxbert.inference.stats import Stats
from jaxbert.model.attention import Attend, is_exact
from jaxbert.model.head import TokenProjection
from jaxbert.portable import check_made
from jaxbert.process.backend import backend, check_devices
from jaxbert.process.forked import check_not_forked
from jaxbert.text.tokenizer import Tokenizer


class MultiVectorEncoder(LateModel):
    """An encoder with a projection of every token's state, for queries and documents.

    Source: ColBERT, arXiv:2004.12832; the names of methods and arguments are those of
    sentence-transformers' MultiVectorEncoder.
    """

    def __init__(
        self,
        encoder: Encoder,
        head: TokenProjection,
        tokenizer: Tokenizer,
        settings: LateSettings,
        planner: Planner | None = None,
        devices: Sequence[jax.Device] | None = None,
        *,
        engine: str | AnyEngine = "jax",
    ) -> None:
        """Put a model together; planner decides the shapes of batches, None by the backend.

        Raises InputTypeError for parts of other types, CheckpointError for words of the settings
        that are no tokens, InputError for an attention that cannot leave the expansion out.
        """
        check_made(
            encoder=(encoder, Encoder),
            head=(head, TokenProjection),
            tokenizer=(tokenizer, Tokenizer),
            settings=(settings, LateSettings),
        )
        width = int(head.linear.weight.shape[1])
        super().__init__(
            tokenizer, settings, encoder.config.vocab_size, encoder.position.limit, width
        )
        self.head = head
        if self.sides[QUERY].flags and not is_exact(encoder.attention):
            raise InputError(
                f"attention is {shown(encoder.attention)}, but queries have tokens to which none "
                "attends, which takes an attention of the package; pass attention=None"
            )
        self.engine = Engine(encoder, Stack(), planner, devices, engine)
        plain = self.engine.program(token_vectors, head)
        expanded = self.engine.program(expanded_vectors, head)
        self.programs = {side: expanded if own.flags else plain for side, own in self.sides.items()}

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
        """The model of a folder or a hub name, with its markers, lengths and skipped words.

        The folder is a ColBERT's (linear.weight, artifact.metadata), PyLate's, or one of
        sentence-transformers' MultiVectorEncoder. deterministic: the same text gives the same bits
        whatever the other texts are. The other arguments are those of Embedder.from_pretrained. The
        projection computes in float32. Raises ModelNotFoundError, and CheckpointError, also for a
        folder of another kind of model.
        """
        devices = check_devices(devices)
        chosen_engine(engine).check(devices)
        deterministic = flag(deterministic, "deterministic")
        opened = open_model(name, revision=revision, token=token, ignore_config=ignore_config)
        device = devices[0] if devices else None
        head, settings = open_late_interaction(
            opened.task, opened.stored, opened.ignore_config, device
        )
        tokenizer = Tokenizer.of_model(opened, settings.lower_case)
        encoder = Encoder.from_checkpoint(
            opened.stored, dtype=dtype, attention=attention, device=device
        )
        planner = by_text(backend(), encoder.position.limit) if deterministic else None
        made = cls(encoder, head, tokenizer, settings, planner, devices, engine=engine)
        for program in dict.fromkeys(made.programs.values()):
            program.prepare()
        return made

    def __reduce__(self) -> Any:
        """A pickle holds the weights; it computes where it is read, on the first device there."""
        parts = (self.encoder, self.head, self.tokenizer, self.settings, self.engine.planner)
        more = (self.sides, self.similarity_fn_name, self.engine.given_kind)
        return _put_together, (type(self), parts, *more)

    @property
    def encoder(self) -> Encoder:
        """The encoder, whose weights the compiled programs hold."""
        return self.engine.encoder

    @property
    def compilations(self) -> int:
        """How many shapes have been compiled or read from the cache so far."""
        return self.engine.compilations

    @property
    def stats(self) -> Stats:
        """What has been encoded so far; subtract an earlier one to see what was done since."""
        return self.engine.stats

    def encode_query(
        self,
        inputs: str | Iterable[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        *more: Any,
        **options: Any,
    ) -> Any:
        """`encode` of queries, with the prompt named query where none is given."""
        return self.encode(inputs, prompt_name, prompt, *more, **options | {"task": QUERY})

    def encode_document(
        self,
        inputs: str | Iterable[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        *more: Any,
        **options: Any,
    ) -> Any:
        """`encode` of documents, with the prompt named document, passage or corpus, if any."""
        return self.encode(inputs, prompt_name, prompt, *more, **options | {"task": DOCUMENT})

    def encode(
        self,
        inputs: str | Iterable[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        output_value: str = "token_embeddings",
        convert_to_numpy: bool = True,
        device: str | None = None,
        normalize_embeddings: bool = True,
        pool: None = None,
        chunk_size: None = None,
        token_pooling: None = None,
        task: str | None = None,
        *,
        truncate_dim: int | None = None,
        precision: TokenPrecision = "float32",
    ) -> Any:
        """The unit vectors of each text's tokens: a list of arrays [t, width], one array for a str.

        task is query or document. A query is [CLS] marker text [SEP], filled up with [MASK] to
        query_length where the model was trained so: each of these has a vector too, and attends to
        the query without being seen by it. A document is [CLS] marker text [SEP] without vectors
        for punctuation, where the folder says so. Longer texts are cut. truncate_dim keeps the
        first features, of which unit vectors are made again; precision is float32, float16, int8
        (round(127 x), one scale for all vectors) or ubinary (a bit for x > 0). Raises
        InputTypeError and InputError, before anything is computed if the list shows it;
        ComputationError for a vector that is not finite or has no direction.
        Differs: sentence-transformers has torch tensors by default, and a prompt that is passed
        replaces a marker there, while here it stands behind it unless the marker is in the prompt.
        """
        refuse_torch(convert_to_numpy, False, device, pool, chunk_size)
        self.check_options(output_value, normalize_embeddings, token_pooling)
        texts = as_list([inputs] if isinstance(inputs, str) else inputs)
        side = choice(task, "task", (QUERY, DOCUMENT))
        width = self.width
        if truncate_dim is not None:
            width = integer(truncate_dim, "truncate_dim", 1, width)
        precision = check_token_precision(precision)
        prefix = self.prompt(side, prompt_name, prompt)
        size = None if batch_size is None else integer(batch_size, "batch_size", 1)
        show = show_progress_bar is not None and flag(show_progress_bar, "show_progress_bar")
        check_not_forked()
        long = LongTexts("truncate", self.sides[side].length)
        request = Request(self.engine, self.tokenizer, prefix, 0, long, size, show)
        found = self.vectors(texts, side, request, width, precision)
        return found[0] if isinstance(inputs, str) else found

    def similarity(self, queries: Any, documents: Any) -> np.ndarray:
        """[q, d] in float32: sum over a query's tokens of the best dot product with a document's.

        queries and documents are lists of arrays [t, width] as `encode` gives them (int8 too), or
        one such array. meanmaxsim divides by the number of the query's tokens. Raises
        InputTypeError and InputError.
        Source: arXiv:2004.12832, section 3.3.
        """
        return maxsim(queries, documents, self.similarity_fn_name == "meanmaxsim")

    def similarity_pairwise(self, queries: Any, documents: Any) -> np.ndarray:
        """[n] in float32: the diagonal of `similarity`, of as many queries as documents."""
        asked, read = token_lists(queries, "queries"), token_lists(documents, "documents")
        if len(asked) != len(read):
            raise InputError(
                f"{len(asked)} queries cannot be paired with {len(read)} documents; pass as many "
                "of both"
            )
        pairs = [self.similarity([a], [b])[0, 0] for a, b in zip(asked, read, strict=True)]
        return np.array(pairs, np.float32)

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        return_documents: bool = False,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
    ) -> list[dict[str, Any]]:
        """The documents by falling score: {"corpus_id", "score"} each, with "text" if asked for.

        Documents of equal score keep their order; top_k keeps the first. Raises as `encode`.
        """
        ranking = Ranking.of(query, documents, top_k, return_documents)
        read = self.encode_document(
            ranking.documents, batch_size=batch_size, show_progress_bar=show_progress_bar
        )
        (scores,) = self.similarity(self.encode_query(query), read)
        return ranking.by(scores)

    # --- steps -----------------------------------------------------------------------------------

    def check_options(self, output_value: Any, normalize: Any, pooling: Any) -> None:
        """Refuse what sentence-transformers' class can give and this one cannot."""
        flag(normalize, "normalize_embeddings")
        choice(output_value, "output_value", ("token_embeddings",))
        if pooling is not None:
            raise InputError(
                "token_pooling is for modules of sentence-transformers; leave it out, and merge "
                "vectors of the arrays that come back"
            )

    def vectors(
        self,
        texts: list[str],
        side: str,
        request: Request,
        width: int,
        precision: TokenPrecision,
    ) -> list[np.ndarray]:
        """The finished vectors [t_i, width] of the tokens of each text that have one."""
        tokenizer, all_tokens = self.sides[side], []

        def windows() -> Iterable[list[np.ndarray]]:
            for window in request.tokenised(texts, tokenizer):
                all_tokens.extend(window)
                yield window

        found: dict[int, np.ndarray] = {}
        with request.counted(len(texts)) as done:
            program, size = self.programs[side], request.batch_size
            for members, rows in self.engine.run(program, windows(), size):
                for text, row in zip(members.tolist(), rows, strict=True):
                    tokens = all_tokens[text]
                    own = row[: count(tokens)][tokenizer.kept(tokens)]
                    check_unit(text, own)
                    if width < own.shape[1]:
                        own = unit_length(own[:, :width])
                    found[text] = compressed(own, precision)
                done(len(members))
        return [found[i] for i in range(len(texts))]


def check_unit(text: int, vectors: np.ndarray) -> None:
    """Raise ComputationError for a token whose projection is zero, which has no direction."""
    lengths = np.linalg.norm(vectors, axis=1)
    if (np.abs(lengths - 1.0) >= UNIT).any():
        raise ComputationError(f"text {text}", text, "has a token whose vector has no direction")


def _put_together(
    kind: type[MultiVectorEncoder],
    parts: Any,
    sides: Any,
    similarity: str,
    engine: str | AnyEngine = "jax",
) -> MultiVectorEncoder:
    """The model of a pickle."""
    model = kind(*parts, engine=engine)
    model.sides, model.similarity_fn_name = sides, similarity
    return model
