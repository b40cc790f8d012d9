"""The settings of a model that callers read and set: prompts, lengths, similarity."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Self

import numpy as np

from jaxbert.arguments import as_list, choice, flag, integer
from jaxbert.checkpoint.sentence_transformers.settings import SIMILARITIES
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.errors import InputError, InputTypeError, shown
from jaxbert.inference.constructor_options import enum_value
from jaxbert.inference.outputs import Finish, check_device
from jaxbert.inference.quantise import Precision, Ranges
from jaxbert.inference.similarity import OneScore, similarity, similarity_pairwise
from jaxbert.text.chunking import Chunker, of_tokens
from jaxbert.text.prompts import Prompts, chosen
from jaxbert.text.tokenizer import Tokenizer

# The prompts that encode_document takes, the first that a model has.
DOCUMENT_PROMPTS = ("document", "passage", "corpus")


class Settings:
    """A tokenizer and a Stack whose fields can be set, under sentence-transformers' names."""

    def __init__(self, stack: Stack, tokenizer: Tokenizer, hidden_size: int) -> None:
        """hidden_size is the width of the states before pooling."""
        self.tokenizer = tokenizer
        self._stack = stack
        self.change(prompts=Prompts(stack.prompts, self.check_prompts))  # checked when changed
        self._hidden_size = hidden_size

    @property
    def stack(self) -> Stack:
        """The current settings, which began as those of the model's folder."""
        return self._stack

    def change(self, **fields: Any) -> None:
        """Replace fields of the stack; values must have been checked."""
        self._stack = dataclasses.replace(self._stack, **fields)

    @property
    def max_seq_length(self) -> int:
        """The most tokens of a text, special tokens included; longer texts are cut."""
        return self.stack.max_length

    @max_seq_length.setter
    def max_seq_length(self, tokens: int) -> None:
        self.change(max_length=integer(tokens, "max_seq_length", 1))

    @property
    def truncate_dim(self) -> int | None:
        """How many features of a vector `encode` keeps; None: all."""
        return self.stack.truncate_dim

    @truncate_dim.setter
    def truncate_dim(self, width: int | None) -> None:
        self.change(truncate_dim=None if width is None else self.check_width(width))

    @property
    def similarity_fn_name(self) -> str:
        """What `similarity` computes: cosine, dot, euclidean or manhattan."""
        return self.stack.similarity

    @similarity_fn_name.setter
    def similarity_fn_name(self, name: str) -> None:
        name = choice(enum_value(name), "similarity_fn_name", SIMILARITIES)
        self.change(similarity=name)

    @property
    def prompts(self) -> dict[str, str]:
        """The prompts by name; set a mapping, or change the items of this one."""
        return self.stack.prompts

    @prompts.setter
    def prompts(self, prompts: Mapping[str, str]) -> None:
        if not isinstance(prompts, Mapping):
            raise InputTypeError(f"prompts is a {type(prompts).__name__}; pass a dict of texts")
        if prompts is not self.stack.prompts:  # which |= gives back
            self.change(prompts=Prompts(prompts, self.check_prompts))

    def check_prompts(self, prompts: Mapping[str, str]) -> None:
        """Raise InputError if the default prompt is not among the prompts."""
        if self.stack.default_prompt_name not in (None, *prompts):
            raise InputError(
                f"the default prompt {self.stack.default_prompt_name!r} is not among the new "
                "prompts; set default_prompt_name = None first"
            )

    @property
    def default_prompt_name(self) -> str | None:
        """The name of the prompt that `encode` uses where the caller names none."""
        return self.stack.default_prompt_name

    @default_prompt_name.setter
    def default_prompt_name(self, name: str | None) -> None:
        if name is not None:
            self.prompt(name, None)
        self.change(default_prompt_name=name)

    def set_pooling_include_prompt(self, include_prompt: bool) -> None:
        """Whether the tokens of a prompt are pooled with those of the text."""
        if not isinstance(include_prompt, bool):
            raise InputTypeError(f"include_prompt is {shown(include_prompt)}; pass True or False")
        pooling = dataclasses.replace(self.stack.pooling, include_prompt=include_prompt)
        self.change(pooling=pooling)

    def prompt(self, name: str | None, text: str | None) -> str:
        """The prompt that applies: the text, else the named one, else the default."""
        return chosen(self.stack.prompts, self.stack.default_prompt_name, name, text)

    @property
    def full_width(self) -> int:
        """The width of a vector before truncation."""
        return self.stack.width(self._hidden_size)

    def check_width(self, width: int) -> int:
        """truncate_dim as an int. Raises InputError unless it is from 1 to the full width."""
        return integer(width, "truncate_dim", 1, self.full_width)

    def get_embedding_dimension(self) -> int:
        """The width of a vector after truncation."""
        width = self.full_width
        return width if self.stack.truncate_dim is None else min(width, self.stack.truncate_dim)

    # The former name in sentence-transformers, which much code still uses.
    get_sentence_embedding_dimension = get_embedding_dimension

    def similarity(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """[n, d] and [m, d] -> [n, m]: cosine, dot, or a negative distance, as the folder says.

        Of two single vectors [d] it is [1, 1], of which float() makes a number.
        Source: sentence-transformers' similarity_fn_name; euclidean and manhattan are negated there
        too, so that larger always means more similar.
        """
        scores = similarity(a, b, self.stack.similarity)
        return scores.view(OneScore) if np.ndim(a) == np.ndim(b) == 1 else scores

    def similarity_pairwise(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """[n, d] and [n, d] -> [n]: the similarity of each a[i] with b[i]."""
        return similarity_pairwise(a, b, self.stack.similarity)

    # Names that code for sentence-transformers calls.

    def get_max_seq_length(self) -> int:
        """The most tokens of a text: max_seq_length."""
        return self.max_seq_length

    def eval(self) -> Self:
        """The model itself, which has no dropout to switch off."""
        return self

    def to(self, device: Any) -> Self:
        """The model itself, where it is; InputError for another platform, see `encode`."""
        check_device(device)
        return self

    def chunker(self, tokens: int) -> Chunker:
        """A function from a text to chunks of so many tokens that cover it, for `encode_chunks`."""
        size = integer(tokens, "tokens", 1)
        return lambda text: of_tokens(self.tokenizer.detailed([text])[0], size, len(text))

    def count_tokens(
        self, inputs: str | Iterable[str], prompt_name: str | None = None, prompt: str | None = None
    ) -> Any:
        """The tokens of each text before it is cut, special ones included: int [n], or an int."""
        texts = as_list([inputs] if isinstance(inputs, str) else inputs)
        prefix = self.prompt(prompt_name, prompt)
        counts = np.array([len(ids) for ids in self.tokenizer([prefix + t for t in texts])], int)
        return int(counts[0]) if isinstance(inputs, str) else counts

    def finish(
        self,
        truncate_dim: int | None,
        normalize: bool,
        precision: Precision | None,
        ranges: Ranges | np.ndarray | None,
    ) -> Finish:
        """The Finish of a call, its arguments checked; a precision of None is float32."""
        precision = "float32" if precision is None else precision
        width, normalize = self.get_embedding_dimension(), flag(normalize, "normalize_embeddings")
        if truncate_dim is not None:
            width = self.check_width(truncate_dim)
        return Finish(width, normalize, precision, None if ranges is None else Ranges.given(ranges))
