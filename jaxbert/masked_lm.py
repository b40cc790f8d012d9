"""Text with [MASK] -> the words that may stand there: tokenise, run, take the best."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from os import PathLike
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxbert.arguments import as_list, integer, names
from jaxbert.checkpoint.heads import left_aside
from jaxbert.checkpoint.masked_language import NAMES, load_masked_language_head
from jaxbert.checkpoint.opening import open_model
from jaxbert.checkpoint.source import Source
from jaxbert.encoder import Encoder
from jaxbert.errors import ComputationError, InputError, InputTypeError, TextError, shown
from jaxbert.inference.inputs import ArrayInput
from jaxbert.inference.planning import by_length
from jaxbert.model.attention import Attend
from jaxbert.model.config import LARGEST
from jaxbert.model.head import MaskedLanguageHead
from jaxbert.portable import check_made
from jaxbert.portable_kinds import PortableFiller, settings_of
from jaxbert.process.backend import backend, computing
from jaxbert.text.tokenizer import SPECIAL, Tokenizer


class MaskedLM(PortableFiller):
    """An encoder, the head that gives every token of the vocabulary a logit, and a tokenizer."""

    _title = "a MaskedLM"
    _anew = "MaskedLM(model.encoder, model.head, model.tokenizer)"
    _made = (
        *("_encoder", "_head", "tokenizer", "mask_token", "mask_id", "max_length", "left_aside"),
        "_source",
    )

    def __init__(
        self,
        encoder: Encoder,
        head: MaskedLanguageHead,
        tokenizer: Tokenizer,
        *,
        mask_token: str = "[MASK]",
        max_length: int | None = None,
        left_aside: Sequence[str] = (),
        source: Source | None = None,
    ) -> None:
        """Put a model together; mask_token is the word of a text that is to be filled in.

        max_length is the most tokens of a text, special ones included; None: as many as the encoder
        has positions, or 512. left_aside names the tensors of its folder that it does not use;
        source is for from_pretrained and for pickles. Raises InputTypeError and InputError.
        """
        check_made(
            encoder=(encoder, Encoder),
            head=(head, MaskedLanguageHead),
            tokenizer=(tokenizer, Tokenizer),
        )
        self._encoder, self._head, self.tokenizer = encoder, head, tokenizer
        self.mask_token = mask_token
        self.mask_id = mask_id(tokenizer, mask_token, encoder.config.vocab_size)
        limit = encoder.position.limit
        if max_length is None:
            max_length = limit or 512
        self.max_length = integer(max_length, "max_length", 1, limit or LARGEST)
        self.left_aside = names(left_aside, "left_aside")
        self._source = source

    @classmethod
    def from_pretrained(
        cls,
        name: str | PathLike[str],
        *,
        dtype: DTypeLike = jnp.float32,
        attention: Attend | None = None,
        revision: str | None = None,
        token: str | None = None,
        ignore_config: Sequence[str] = (),
    ) -> Self:
        """The masked language model of a folder or hub name, every tensor accounted for.

        dtype is that of the encoder's weights, float32 or bfloat16; the head is float32 in both.
        Arguments as in Encoder.from_pretrained. Raises ModelNotFoundError, and CheckpointError for
        what is damaged or not understood, and for a folder without such a head.
        """
        opened = open_model(name, revision=revision, token=token, ignore_config=ignore_config)
        opened.task.check("MaskedLM")
        stored = opened.stored
        head = load_masked_language_head(stored)
        tokenizer = Tokenizer.of_model(opened, lower_case=False)
        encoder = Encoder.from_checkpoint(stored, dtype=dtype, attention=attention)
        read = settings_of(tokenizer, encoder)
        mask, most = read(opened.tokenizer_folder, opened.ignore_config)
        return cls(
            encoder,
            head,
            tokenizer,
            mask_token=mask,
            max_length=most,
            left_aside=left_aside(stored, NAMES),
            source=Source.of(opened, (encoder, head)),
        )

    @property
    def encoder(self) -> Encoder:
        """The encoder; to exchange it, make another MaskedLM."""
        return self._encoder

    @property
    def head(self) -> MaskedLanguageHead:
        """The head; to exchange it, make another MaskedLM."""
        return self._head

    def logits(
        self,
        input_ids: ArrayInput,
        attention_mask: ArrayInput | None = None,
        token_type_ids: ArrayInput | None = None,
    ) -> jax.Array:
        """The logits [b, t, v] in float32 of every token of the vocabulary, at every position.

        Arguments and errors as in `Encoder.__call__`; rows of padding hold numbers that mean
        nothing. Source: transformers' BertForMaskedLM.
        """

        def run(encoder: Encoder, inputs: Any) -> jax.Array:
            return _logits(encoder, self._head, inputs)

        texts = (input_ids, attention_mask, token_type_ids)
        v = self.encoder.config.vocab_size
        return self.encoder.run(run, self.encoder.attention, *texts, outputs=v)

    def fill(self, texts: str | Iterable[str], top_k: int = 5) -> list[Any]:
        """The top_k likeliest tokens for each mask of each text, in the form of transformers.

        For one mask: a list of {"score", "token", "token_str", "sequence"}, where score is the
        probability among all tokens, token an id and sequence the text with it, without special
        tokens. For several masks: a list of such lists, each filled in alone, and sequence keeps
        the special tokens but padding. For a list of texts: a list of those.
        Raises InputError for a text without a mask and for one that is cut before its last mask,
        InputTypeError; ComputationError for what is not finite.
        Source: transformers 5, FillMaskPipeline. Differs: that one cuts no text, and takes
        a list of one text for the text.
        """
        found = as_list([texts] if isinstance(texts, str) else texts, "texts")
        top_k = min(integer(top_k, "top_k", 1), self.encoder.config.vocab_size)
        ids = [self.ids_of(i, text) for i, text in enumerate(found)]
        filled: list[Any] = [None] * len(ids)
        for i, at, scores in self.probabilities(ids):
            filled[i] = self.answer(ids[i], at, scores, top_k)
        return filled[0] if isinstance(texts, str) else filled

    def ids_of(self, i: int, text: str) -> np.ndarray:
        """The ids [t] of text i, which has a mask and keeps them all if it is cut."""
        (ids,) = self.tokenizer([text])
        number = int((ids == self.mask_id).sum())
        if number == 0:
            raise TextError(i, f"has no {self.mask_token}; put one where a word is to be filled in")
        if len(ids) > self.max_length:
            whole = len(ids)
            (ids,) = self.tokenizer([text], self.max_length)
            if (ids == self.mask_id).sum() < number:
                raise TextError(
                    i,
                    f"has {whole} tokens and is cut to {self.max_length}, which loses a "
                    f"{self.mask_token}; shorten it",
                )
        return ids

    def probabilities(
        self, ids: Sequence[np.ndarray]
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Each text's index, where its m masks are, and the probabilities [m, v] of all tokens."""
        masks = [np.flatnonzero(row == self.mask_id) for row in ids]
        planner = by_length(backend(), self.encoder.position.limit)
        planner = replace(planner, packing=None, together=None)  # rows of their own
        for batch in planner.plan([len(row) for row in ids]):
            arrays = batch.fill(ids)
            hidden = self.encoder(arrays.ids, arrays.segments)
            members = batch.members.tolist()
            counts = [len(masks[i]) for i in members]
            rows = np.repeat(np.arange(len(members)), counts)
            columns = np.concatenate([masks[i] for i in members])
            # A power of two, so that few programs are compiled; what is added is cut off again.
            more = (0, (1 << (len(rows) - 1).bit_length()) - len(rows))
            with computing():
                places = [jnp.asarray(np.pad(x, more), jnp.int32) for x in (rows, columns)]
                word = self.encoder.embeddings.word[...]
                scores = np.asarray(_probabilities(self._head, word, hidden, *places))
            own = np.split(scores[: len(rows)], np.cumsum(counts)[:-1])
            for i, part in zip(members, own, strict=True):
                if not np.isfinite(part).all():
                    raise ComputationError(f"text {i}", i)
                yield i, masks[i], part

    def answer(self, ids: np.ndarray, masks: np.ndarray, scores: np.ndarray, top_k: int) -> Any:
        """The candidates for each mask of a text; for the mask alone where there is one."""
        decode, single = self.tokenizer.backend.decode, len(masks) == 1
        padding = {self.tokenizer.backend.token_to_id(word) for word in SPECIAL["pad_token"]}
        answers = []
        for at, row in zip(masks.tolist(), scores, strict=True):
            candidates = []
            for token in np.argsort(-row, kind="stable")[:top_k].tolist():
                filled = ids.tolist()
                filled[at] = token
                filled = [one for one in filled if one not in padding]  # as transformers
                candidates.append(
                    {
                        "score": float(row[token]),
                        "token": token,
                        "token_str": decode([token], skip_special_tokens=False),
                        "sequence": decode(filled, skip_special_tokens=single),
                    }
                )
            answers.append(candidates)
        return answers[0] if single else answers


def mask_id(tokenizer: Tokenizer, word: Any, vocab_size: int) -> int:
    """The id of the mask, which the model must have. Raises InputError and InputTypeError."""
    if not isinstance(word, str):
        raise InputTypeError(f"mask_token is a {type(word).__name__}; pass a str")
    valid = word.encode("utf-8", "replace").decode() == word  # which the library insists on
    number = tokenizer.backend.token_to_id(word) if valid else None
    if number is None or number >= vocab_size:
        raise InputError(f"mask_token is {shown(word)}, which is no token of the model; pass one")
    return number


# Jitted once for all models, as in encoder.py.
@jax.jit
def _logits(encoder: Encoder, head: MaskedLanguageHead, inputs: Any) -> jax.Array:
    """The logits [b, t, v] of checked inputs."""
    return head(encoder.forward(inputs), encoder.embeddings.word[...])


@jax.jit
def _probabilities(
    head: MaskedLanguageHead,
    word: jax.Array,
    hidden: jax.Array,
    rows: jax.Array,
    columns: jax.Array,
) -> jax.Array:
    """softmax of the logits [m, v] at hidden[rows, columns], for m places."""
    return jax.nn.softmax(head(hidden[rows, columns][:, None], word)[:, 0], axis=-1)
