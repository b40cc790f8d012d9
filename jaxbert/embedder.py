"""Text -> vectors: tokenise, run, pool, put back in order."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxbert.arguments import as_list, flag, integer, texts_given
from jaxbert.checkpoint.opening import open_model
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.checkpoint.source import Source
from jaxbert.encoder import Encoder
from jaxbert.errors import InputTypeError
from jaxbert.inference.constructor_options import ConstructorKeywords, ConstructorOptions
from jaxbert.inference.engine import Engine
from jaxbert.inference.engines import AnyEngine, chosen_engine
from jaxbert.inference.outputs import LongTexts, OnEmpty, OnLong, Output, check_output, refuse_torch
from jaxbert.inference.planning import Planner, by_text
from jaxbert.inference.quantise import Precision, Ranges
from jaxbert.inference.request import Request
from jaxbert.inference.settings import DOCUMENT_PROMPTS
from jaxbert.model.attention import Attend
from jaxbert.portable import check_made
from jaxbert.portable_kinds import PortableEmbedder
from jaxbert.process.backend import backend, check_devices
from jaxbert.process.forked import check_not_forked
from jaxbert.text.chunking import Chunker, check_chunks
from jaxbert.text.tokenizer import Tokenizer


class Embedder(PortableEmbedder):
    """An encoder, its tokenizer and the stack that a model's folder puts behind it."""

    _title = "an Embedder"
    _anew = "Embedder(embedder.encoder, embedder.tokenizer, embedder.stack)"
    _made = ("engine", "tokenizer", "_source", "_stack", "_hidden_size")

    def __init__(
        self,
        encoder: Encoder,
        tokenizer: Tokenizer,
        stack: Stack | None = None,
        planner: Planner | None = None,
        devices: Sequence[jax.Device] | None = None,
        *,
        engine: str | AnyEngine = "jax",
        source: Source | None = None,
    ) -> None:
        """Put a model together; without a stack: means, not normalised, of up to 512 tokens.

        planner decides the shapes of batches, engine is as in from_pretrained. source is for
        from_pretrained and for pickles: where the encoder's weights came from, so that they are
        written back as they were and need not travel. A subclass with a constructor of its own
        passes both on.
        """
        stack = Stack() if stack is None else stack
        check_made(encoder=(encoder, Encoder), stack=(stack, Stack))
        if not callable(tokenizer):
            raise InputTypeError(f"tokenizer is a {type(tokenizer).__name__}; pass a Tokenizer")
        super().__init__(stack, tokenizer, encoder.config.hidden_size)
        self.engine = Engine(encoder, self.stack, planner, devices, engine)
        self._source = source

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
        parts: Mapping[str, Any] | None = None,
        engine: str | AnyEngine = "jax",
        **theirs: Unpack[ConstructorKeywords],
    ) -> Self:
        """The model of a folder or a hub name, with its pooling, normalisation and prompts.

        deterministic: the same text gives the same bits whatever its batch mates are (one device
        and version), at the price of full batches. ignore_config names keys of the folder's JSON
        files that may be passed over. devices (jax.local_devices()) each take batches of their own,
        None is the first one alone. dtype is float32 or bfloat16, that of the weights and of the
        states between layers; sums, norms, softmax and pooling are float32 in both. bfloat16 is
        faster where the processor multiplies it, and moves components by up to 3e-3 of a vector's
        norm (notes/06-cpu.md), so float32 is the default. parts is as in Encoder.from_pretrained.
        engine is what computes: "jax"; "openvino", which takes the extra of that name, is for BERT
        and JinaBERT on a CPU, and has compared itself with the JAX encoder before it gives a result
        (notes/13-engines.md); or an object with their interface. theirs are sentence-transformers'
        keywords, such as prompts and truncate_dim, which set what the folder says otherwise
        (inference/constructor_options.py); those that change nothing are logged. Raises
        ModelNotFoundError, CheckpointError, and InputError for what the engine cannot run.
        """
        kind, deterministic = chosen_engine(engine), flag(deterministic, "deterministic")
        options = ConstructorOptions.of(theirs, check_devices(devices))
        devices = options.devices
        kind.check(devices)  # before a model is fetched
        opened = open_model(
            name,
            revision=revision,
            token=token,
            ignore_config=ignore_config,
            cache=options.cache,
            offline=options.offline,
        )
        stack = options.stack(opened.read_stack(), opened.stored.config.hidden_size)
        tokenizer = Tokenizer.of_model(opened, stack.lower_case)
        device = devices[0] if devices else None
        encoder = Encoder.from_checkpoint(
            opened.stored, dtype=dtype, attention=attention, device=device, parts=parts
        )
        planner = by_text(backend(), encoder.position.limit) if deterministic else None
        # Parts of a user's own code are nothing that another process finds in the folder.
        source = None if parts else Source.of(opened, (encoder,))
        made = cls(encoder, tokenizer, stack, planner, devices, engine=engine, source=source)
        made.engine.vectors.prepare()
        return made

    def encode(
        self,
        inputs: str | Iterable[str] | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        output_value: Output | None = "sentence_embedding",
        precision: Precision | None = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Any = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        pool: None = None,
        chunk_size: None = None,
        *,
        max_length: int | None = None,
        on_long: OnLong = "truncate",
        ranges: Ranges | np.ndarray | None = None,
        sentences: str | Iterable[str] | None = None,
    ) -> Any:
        """One vector per text, an np.ndarray: [n, d] for a list, [d] for one str, [0, d] for none.

        The arguments are those of sentence-transformers, and max_length, on_long and ranges;
        sentences is the older name of inputs. prompt (or
        prompts[prompt_name], or the default of the folder) is put before each text. Beyond
        max_length tokens, the folder's if None, texts are cut, special tokens kept; on_long="warn"
        warns of it, "error" refuses. truncate_dim keeps the first features; normalize_embeddings
        then divides by the length of what is left; precision then makes bytes of it, int8 and uint8
        by ranges (quantise.py). batch_size is the most rows that run together, None leaves it to
        the planner's budget of tokens; with deterministic=True it changes nothing.
        output_value="token_embeddings" gives a list of states [t, d], None a dict per text with
        ids, offsets and mask too; see encode_tokens. What was done is added to `stats`.
        Raises InputTypeError, InputError, before anything is computed if the list shows it;
        ComputationError for a vector that is not finite.
        Differs: sentence-transformers sorts by characters and its vectors change with the batch;
        here no component moves by more than 1e-5 of the vector's norm (float32; notes/02), and no
        bit does with deterministic=True.
        """
        refuse_torch(convert_to_numpy, convert_to_tensor, device, pool, chunk_size)
        inputs = texts_given(inputs, sentences)
        texts = as_list([inputs] if isinstance(inputs, str) else inputs)
        finish = self.finish(truncate_dim, normalize_embeddings, precision, ranges)
        check_output(output_value, finish, len(texts))
        request = self.request(
            prompt_name, prompt, batch_size, show_progress_bar, max_length, on_long
        )
        if output_value == "sentence_embedding":
            found: Any = finish(request.vectors(texts))
        elif output_value == "token_embeddings":
            found = [own.embeddings for own in request.tokens(texts)]
        else:
            tokens = request.tokens(texts)
            pooled = finish(request.pooled(tokens))
            found = [own.as_dict(row) for own, row in zip(tokens, pooled, strict=True)]
        return found[0] if isinstance(inputs, str) else found

    def encode_query(
        self,
        inputs: str | Iterable[str] | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        *more: Any,
        **options: Any,
    ) -> Any:
        """`encode` with the prompt named query, where the model has it and none is given."""
        if prompt_name is None and prompt is None and "query" in self.stack.prompts:
            prompt_name = "query"
        return self.encode(inputs, prompt_name, prompt, *more, **options)

    def encode_document(
        self,
        inputs: str | Iterable[str] | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        *more: Any,
        **options: Any,
    ) -> Any:
        """`encode` with the prompt named document, passage or corpus: the first that there is."""
        if prompt_name is None and prompt is None:
            prompt_name = next((n for n in DOCUMENT_PROMPTS if n in self.stack.prompts), None)
        return self.encode(inputs, prompt_name, prompt, *more, **options)

    def encode_tokens(
        self,
        inputs: str | Iterable[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        *,
        max_length: int | None = None,
        on_long: OnLong = "truncate",
    ) -> Any:
        """The last state of every token: a list of TokenEmbeddings, one TokenEmbeddings for a str.

        embeddings [t, d] float32 before pooling, ids [t], offsets [t, 2] in characters of the text
        without its prompt, mask [t] of the tokens that `encode` pools. Arguments and errors as in
        `encode`.
        """
        texts = as_list([inputs] if isinstance(inputs, str) else inputs)
        request = self.request(
            prompt_name, prompt, batch_size, show_progress_bar, max_length, on_long
        )
        found = request.tokens(texts)
        return found[0] if isinstance(inputs, str) else found

    def encode_chunks(
        self,
        inputs: str | Iterable[str],
        chunks: Chunker | Sequence[Any],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        *,
        overlap: int | None = None,
        on_empty: OnEmpty = "error",
        max_length: int | None = None,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        precision: Precision = "float32",
        ranges: Ranges | np.ndarray | None = None,
    ) -> Any:
        """Late chunking: a vector for each part of a text, pooled from states that saw all of it.

        chunks gives the spans (first character, the one behind the last) of each text: a list of
        them per text (for a str: the list itself), or a function from a text to its spans, such as
        `chunker(256)`. A token belongs to the part in which it begins; what stands before the text
        goes with its first token, what stands after it with its last, so that one part over the
        whole text has the vector of `encode`. A text beyond max_length tokens runs in windows that
        share `overlap` tokens: half of a window's room, at most 256, if None. A part in which no
        token begins is refused; with on_empty="nan" its row is NaN. [c, d] for a str, a list of
        them for a list.
        Raises InputError for a span outside its text or inside another, TextError for an empty one.
        Source: Guenther et al., arXiv:2409.04701.
        """
        single = isinstance(inputs, str)
        texts = as_list([inputs] if isinstance(inputs, str) else inputs)
        chunks = [chunks] if single and not callable(chunks) else chunks
        check_chunks(chunks, len(texts))
        overlap = None if overlap is None else integer(overlap, "overlap", 0)
        finish = self.finish(truncate_dim, normalize_embeddings, precision, ranges)
        request = self.request(
            prompt_name, prompt, batch_size, show_progress_bar, max_length, "truncate"
        )
        found = request.chunks(texts, chunks, finish, overlap, on_empty)
        return found[0] if single else found

    def request(
        self,
        prompt_name: str | None,
        prompt: str | None,
        batch_size: int | None,
        show_progress_bar: bool | None,
        max_length: int | None,
        on_long: OnLong,
    ) -> Request:
        """The arguments that all ways to encode share, checked."""
        check_not_forked()
        if batch_size is not None:
            batch_size = integer(batch_size, "batch_size", 1)
        most = self.max_seq_length
        if max_length is not None:
            most = integer(max_length, "max_length", 1)
        prefix, skipped = self.prompt(prompt_name, prompt), 0
        if prefix and not self.stack.pooling.include_prompt:
            skipped = self.tokenizer.prompt_length(prefix, most)
        show = show_progress_bar is not None and flag(show_progress_bar, "show_progress_bar")
        long = LongTexts(on_long, most)
        return Request(self.engine, self.tokenizer, prefix, skipped, long, batch_size, show)

    def warmup(self, max_length: int | None = None) -> int:
        """Compile what texts of up to max_length tokens usually need; how many shapes were new.

        That is a text alone and a full batch of every bucket of lengths, and of rows that short
        texts share; a last, smaller batch may still compile. None: 512, or max_seq_length if less.
        """
        longest = min(self.max_seq_length, 512) if max_length is None else max_length
        return self.engine.warmup(integer(longest, "max_length", 1))
