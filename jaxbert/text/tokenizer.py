"""Text -> token ids, with the tokenizers library."""

import json
import shutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, Self

import numpy as np
import tokenizers

from jaxbert.arguments import plain_text
from jaxbert.checkpoint.opening import OpenedModel
from jaxbert.errors import InputError, TextError
from jaxbert.text.panics import caught
from jaxbert.text.shortening import TOKENS_PER_CHARACTER, Shortening
from jaxbert.text.tokenizer_files import Side, open_files

# The files that a tokenizer is made of, and the names that its special tokens mostly have.
FILES = tuple(
    "tokenizer.json tokenizer_config.json special_tokens_map.json added_tokens.json vocab.txt "
    "vocab.json merges.txt".split()
)
SPECIAL = {
    "pad_token": ("[PAD]", "<pad>"),
    "unk_token": ("[UNK]", "<unk>"),
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "mask_token": ("[MASK]", "<mask>"),
}
# Characters of a text that is encoded with Python's lock held, in some 2 ms.
HELD = 4000


class Tokens(NamedTuple):
    """The tokens of one text, special ones included."""

    ids: np.ndarray  # [t] int32
    offsets: np.ndarray  # [t, 2] int32: first character and the one behind the last; 0, 0 if none
    special: np.ndarray  # [t] bool: put there by the tokenizer, not by the text


class Tokenizer:
    """A folder's tokenizer without its stored padding; truncation is set by each call.

    `folder` is where its files came from, None if from nowhere: they are what is saved. Set it to
    None after a change of `backend`, to save the tokenizer as it is now.
    Differs: all-MiniLM-L6-v2 stores truncation to 128 in tokenizer.json, where the model takes 256.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        side: Side,
        *,
        folder: Path | None = None,
        gives_types: bool = True,
    ) -> None:
        """Wrap a tokenizer of the tokenizers library; side is where long texts are cut.

        gives_types says whether a model of pairs is given the token types of the library.
        """
        backend.no_padding()
        self.backend, self.gives_types = backend, gives_types
        self.side = side
        # What lies behind so many characters cannot be told where texts are cut on the left.
        self.shortening = Shortening.of(backend) if side == "right" else None
        self.folder = folder
        # The library keeps truncation as a state of the tokenizer; threads must not share it.
        self.lock = Lock()

    @classmethod
    def from_folder(
        cls,
        folder: Path,
        lower_case: bool = False,
        ignore_config: Collection[str] = (),
        *,
        vocab_size: int | None = None,
    ) -> Self:
        """tokenizer.json, or vocab.txt where that is missing (WordPiece, as BERT's first release).

        lower_case puts a lower-casing step in front where the tokenizer has none. vocab_size is the
        number of tokens that the model has. Raises CheckpointError for a file that is damaged, for
        an id that the model has not, for settings that draw tokens at random, and where
        tokenizer_config.json contradicts tokenizer.json: transformers would follow the former, this
        package the latter; ignore_config names keys to pass over.
        """
        opened = open_files(folder, lower_case, ignore_config, vocab_size)
        return cls(opened.backend, opened.side, folder=folder, gives_types=opened.gives_types)

    @classmethod
    def of_model(cls, opened: OpenedModel, lower_case: bool) -> Self:
        """The tokenizer of an opened model, whose ids the model has; see `from_folder`."""
        return cls.from_folder(
            opened.tokenizer_folder,
            lower_case,
            opened.ignore_config,
            vocab_size=opened.stored.config.vocab_size,
        )

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle holds: the tokenizer as its JSON, and no lock."""
        with self.lock:
            text = as_json(self.backend)
        special = self.backend.encode_special_tokens  # which the JSON does not say
        return {**vars(self), "backend": (text, special), "lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the tokenizer of its JSON again."""
        text, special = state["backend"]
        backend = tokenizers.Tokenizer.from_str(text)
        backend.encode_special_tokens = special
        vars(self).update(state | {"backend": backend, "lock": Lock()})

    def __call__(
        self,
        texts: Sequence[str],
        max_length: int | None = None,
        on_cut: Callable[[int, int], None] | None = None,
    ) -> list[np.ndarray]:
        """The ids of each text, int32, special tokens included, cut after max_length tokens.

        on_cut is told of each text that is cut: its index, and the tokens that it has uncut.
        Raises InputTypeError for what is no str and InputError for text that is no valid Unicode.
        """
        if max_length is not None and on_cut is None and self.shortening is not None:
            plain = [plain_text(i, text) for i, text in enumerate(texts)]
            texts = [self.shortening.without_runs(text, max_length) for text in plain]
        encode = self.encode_one if len(texts) == 1 else self.backend.encode_batch_fast
        encodings = self.encodings(encode, texts, max_length, on_cut)
        return [np.array(encoding.ids, np.int32) for encoding in encodings]

    def detailed(
        self,
        texts: Sequence[str],
        max_length: int | None = None,
        on_cut: Callable[[int, int], None] | None = None,
    ) -> list[Tokens]:
        """The same with the place of each token in its text."""
        return [
            Tokens(
                np.array(encoding.ids, np.int32),
                np.array(encoding.offsets, np.int32).reshape(-1, 2),
                np.array(encoding.special_tokens_mask, bool),
            )
            for encoding in self.encodings(self.backend.encode_batch, texts, max_length, on_cut)
        ]

    def pairs(
        self, pairs: Sequence[tuple[str, str]], max_length: int, typed: bool
    ) -> list[np.ndarray]:
        """The ids [t] of each pair of texts, or with `typed` their ids and token types [2, t].

        Cut to max_length tokens from the longer text first. Raises as a call does.
        """
        plain = [(plain_text(i, a), plain_text(i, b)) for i, (a, b) in enumerate(pairs)]
        with self.lock:
            plain = [self.shortened_pair(i, *pair, max_length) for i, pair in enumerate(plain)]
            self.truncate(max_length, pair=True)
            encodings = self.encoded(self.backend.encode_batch_fast, plain)
        rows = [np.array([own.ids, own.type_ids], np.int32) for own in encodings]
        return rows if typed else [row[0] for row in rows]

    @property
    def typed(self) -> bool:
        """Whether the second text of a pair has token type 1."""
        with self.lock:
            self.truncate(None)
            (probe,) = self.encoded(self.backend.encode_batch_fast, [("a", "a")])
        return self.gives_types and any(probe.type_ids)  # as of one pair, so of all

    def shortened_pair(self, i: int, a: str, b: str, max_length: int) -> tuple[str, str]:
        """A pair that is cut to the same tokens, where one text is long and the other short."""
        if self.shortening is not None and max_length:
            short = max_length // TOKENS_PER_CHARACTER
            if len(a) < short:
                b = self.shortened(i, b, max_length)
            elif len(b) < short:
                a = self.shortened(i, a, max_length)
        return a, b

    def encode_one(self, texts: list[str]) -> list[tokenizers.Encoding]:
        """What `encode_batch` makes of one text, in this thread where it is short.

        The library's pool of threads, on cores that compute, takes milliseconds to wake up. But
        `encode` keeps Python's lock, which `encode_batch_fast` gives to other threads.
        """
        (text,) = texts
        if len(text) > HELD:
            return self.backend.encode_batch_fast(texts)
        return [self.backend.encode(text)]

    def encodings(
        self,
        encode: Callable[[list[str]], list[tokenizers.Encoding]],
        texts: Sequence[str],
        max_length: int | None,
        on_cut: Callable[[int, int], None] | None,
    ) -> list[tokenizers.Encoding]:
        """What a method of the library makes of checked texts."""
        plain = [plain_text(i, text) for i, text in enumerate(texts)]
        with self.lock:
            if max_length is not None and on_cut is None and self.shortening is not None:
                plain = [self.shortened(i, text, max_length) for i, text in enumerate(plain)]
            self.truncate(max_length)
            found = self.encoded(encode, plain)
            special = self.backend.num_special_tokens_to_add(is_pair=False)
        if on_cut is not None:
            for i, encoding in enumerate(found):
                rest = encoding.overflowing if len(encoding) == max_length else ()
                if rest:
                    on_cut(i, len(encoding) + sum(len(part) - special for part in rest))
        return found

    def encoded(
        self, encode: Callable[[list[Any]], list[tokenizers.Encoding]], texts: list[Any]
    ) -> list[tokenizers.Encoding]:
        """encode(texts); where the library fails, the first text on which it does is named."""
        try:
            with caught(InputError):
                return encode(texts)
        except InputError:
            for i, text in enumerate(texts):
                with caught(self.failure(i)):
                    encode([text])
            raise

    def failure(self, i: int) -> Callable[[str], TextError]:
        """The error that names the text on which the library fails."""
        return lambda why: TextError(
            i, f"cannot be tokenised ({why}); leave it out, or look at the model's tokenizer.json"
        )

    def shortened(self, i: int, text: str, max_length: int) -> str:
        """A beginning of the text that has the same first max_length tokens."""
        assert self.shortening is not None, "asked for a cut that cannot be known"
        if len(text) <= self.shortening.few(max_length):
            return text
        self.backend.no_truncation()

        def count(beginning: str) -> int:
            with caught(self.failure(i)):
                return len(self.backend.encode_batch_fast([beginning], add_special_tokens=False)[0])

        return self.shortening(text, max_length, count)

    def beginnings(self, texts: Sequence[str], tokens: int) -> list[str]:
        """Each text, or where it is long a text with at least the same first `tokens` tokens.

        A text that has more is left with more. All of them where the tokenizer's steps do not allow
        it. Raises as a call does.
        """
        plain = [plain_text(i, text) for i, text in enumerate(texts)]
        if self.shortening is None:
            return plain
        plain = [self.shortening.without_runs(text, tokens) for text in plain]
        with self.lock:
            return [self.shortened(i, text, tokens) for i, text in enumerate(plain)]

    @property
    def beside_pair(self) -> int:
        """The special tokens of a pair beyond those that its two texts have alone."""
        alone, pair = map(self.backend.num_special_tokens_to_add, (False, True))
        return pair - 2 * alone

    def save(self, folder: Path) -> None:
        """The files that it came from, or tokenizer.json and what transformers needs beside it."""
        if self.folder is not None and self.folder.resolve() == folder.resolve():
            return
        for name in FILES:
            (folder / name).unlink(missing_ok=True)  # of another tokenizer
        if self.folder is not None and self.folder.is_dir():
            for name in FILES:
                if (self.folder / name).is_file():
                    shutil.copyfile(self.folder / name, folder / name)
            return
        vocabulary = self.backend.get_vocab()
        settings: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "truncation_side": self.side,
        }
        named = {
            key: [name for name in names if name in vocabulary] for key, names in SPECIAL.items()
        }
        settings |= {key: names[0] for key, names in named.items() if names}
        if self.typed:
            # transformers 5 gives no types to a model unless they are listed.
            settings["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
        if not self.backend.get_added_tokens_decoder():
            # Else the words of these tokens would be found in texts, as they are not here.
            settings["split_special_tokens"] = True
        with self.lock:
            self.backend.no_truncation()
            (folder / "tokenizer.json").write_text(self.backend.to_str(), encoding="utf-8")
        text = json.dumps(settings, indent=2) + "\n"
        (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")

    def truncate(self, max_length: int | None, pair: bool = False) -> None:
        """Cut texts to max_length tokens, on the tokenizer's side, keeping the special tokens."""
        if max_length is None:
            self.backend.no_truncation()
            return
        special = self.backend.num_special_tokens_to_add(is_pair=pair)
        if max_length <= special:
            raise InputError(
                f"max_length {max_length} leaves no room beside {special} special tokens; raise it"
            )
        self.backend.enable_truncation(
            max_length, stride=0, strategy="longest_first", direction=self.side
        )

    def prompt_length(self, prompt: str, max_length: int | None = None) -> int:
        """The tokens of the prompt with the special ones before it, without one after it.

        Counted as the prompt alone is cut, so that of a prompt that fills a text the last special
        token is left to be pooled.
        """
        with self.lock:
            self.truncate(max_length)
            (encoding,) = self.encoded(self.backend.encode_batch, [prompt])
            special = encoding.special_tokens_mask
        return len(special) - (special[-1] if special else 0)


def as_json(backend: tokenizers.Tokenizer) -> str:
    """The whole tokenizer as text."""
    try:
        return backend.to_str()
    except Exception as error:  # the library raises a bare Exception, for parts made in Python
        raise InputError(f"the tokenizer cannot be written as JSON ({error})") from error
