"""Text -> token ids, with the tokenizers library."""

import json
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import tokenizers
from tokenizers import normalizers

from jaxbert.arguments import check_text
from jaxbert.errors import CheckpointError, InputError
from jaxbert.storage import read_object

# What transformers takes for a BertTokenizer where tokenizer_config.json does not say.
BERT_DEFAULTS = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True}


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


class Tokens(NamedTuple):
    """The tokens of one text, special ones included."""

    ids: np.ndarray  # [t] int32
    offsets: np.ndarray  # [t, 2] int32: first character and the one behind the last; 0, 0 if none
    special: np.ndarray  # [t] bool: put there by the tokenizer, not by the text


class Tokenizer:
    """A folder's tokenizer without its stored padding; truncation is set by each call.

    Differs: all-MiniLM-L6-v2 stores truncation to 128 in tokenizer.json, where the model takes 256.
    """

    def __init__(self, backend: tokenizers.Tokenizer, side: Literal["left", "right"]) -> None:
        """Wrap a tokenizer of the tokenizers library; side is where long texts are cut."""
        backend.no_padding()
        self.backend = backend
        self.side = side
        self.folder: Path | None = None  # where its files came from, if they did
        # The library keeps truncation as a state of the tokenizer; threads must not share it.
        self.lock = Lock()

    @classmethod
    def from_folder(
        cls, folder: Path, lower_case: bool = False, ignore_config: Collection[str] = ()
    ) -> Self:
        """tokenizer.json, or vocab.txt where that is missing (WordPiece, as BERT's first release).

        lower_case puts a lower-casing step in front where the tokenizer has none. Raises
        CheckpointError where tokenizer_config.json contradicts tokenizer.json: transformers would
        follow the former, this package the latter; ignore_config names keys to pass over.
        """
        file = folder / "tokenizer_config.json"
        settings = read_object(file) if file.is_file() else {}
        if (folder / "tokenizer.json").is_file():
            backend = from_json(folder / "tokenizer.json")
            check_agreement(backend, settings, file, ignore_config)
        elif (folder / "vocab.txt").is_file():
            backend = from_vocabulary(folder, settings)
        else:
            raise CheckpointError(f"{folder} has neither tokenizer.json nor vocab.txt")
        if lower_case and not lowers(backend.normalizer):
            steps = [step for step in (normalizers.Lowercase(), backend.normalizer) if step]
            backend.normalizer = normalizers.Sequence(steps)
        if any(backend.encode("a").type_ids):
            raise CheckpointError(f"{folder} gives single texts a token type that is not 0")
        own = cls(backend, "left" if settings.get("truncation_side") == "left" else "right")
        own.folder = folder
        return own

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle holds: the tokenizer as its JSON, and no lock."""
        with self.lock:
            text = as_json(self.backend)
        return {**vars(self), "backend": text, "lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the tokenizer of its JSON again."""
        backend = tokenizers.Tokenizer.from_str(state["backend"])
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
        encodings = self.encodings(self.backend.encode_batch_fast, texts, max_length, on_cut)
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

    def encodings(
        self,
        encode: Callable[[list[str]], list[tokenizers.Encoding]],
        texts: Sequence[str],
        max_length: int | None,
        on_cut: Callable[[int, int], None] | None,
    ) -> list[tokenizers.Encoding]:
        """What a method of the library makes of checked texts."""
        for i, text in enumerate(texts):
            check_text(i, text)
        with self.lock:
            self.truncate(max_length)
            found = encode(list(texts))
            special = self.backend.num_special_tokens_to_add(is_pair=False)
        if on_cut is not None:
            for i, encoding in enumerate(found):
                rest = encoding.overflowing if len(encoding) == max_length else ()
                if rest:
                    on_cut(i, len(encoding) + sum(len(part) - special for part in rest))
        return found

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
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "truncation_side": self.side}
        named = {
            key: [name for name in names if name in vocabulary] for key, names in SPECIAL.items()
        }
        settings |= {key: names[0] for key, names in named.items() if names}
        with self.lock:
            self.backend.no_truncation()
            (folder / "tokenizer.json").write_text(self.backend.to_str(), encoding="utf-8")
        text = json.dumps(settings, indent=2) + "\n"
        (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")

    def truncate(self, max_length: int | None) -> None:
        """Cut texts to max_length tokens, on the tokenizer's side, keeping the special tokens."""
        if max_length is None:
            self.backend.no_truncation()
            return
        special = self.backend.num_special_tokens_to_add(is_pair=False)
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
            special = self.backend.encode(prompt).special_tokens_mask
        return len(special) - (special[-1] if special else 0)


def as_json(backend: tokenizers.Tokenizer) -> str:
    """The whole tokenizer as text."""
    try:
        return backend.to_str()
    except Exception as error:  # the library raises a bare Exception, for parts made in Python
        raise InputError(f"the tokenizer cannot be written as JSON ({error})") from error


def from_json(file: Path) -> tokenizers.Tokenizer:
    """The tokenizer in tokenizer.json."""
    try:
        return tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises a bare Exception
        raise CheckpointError(f"{file} is no tokenizer ({error}); restore it") from error


def check_agreement(
    backend: tokenizers.Tokenizer,
    settings: Mapping[str, Any],
    file: Path,
    ignore: Collection[str],
) -> None:
    """Refuse a tokenizer_config.json that contradicts tokenizer.json about the same step.

    transformers rebuilds a BertTokenizer from its vocabulary and tokenizer_config.json, with
    defaults for what is absent; then tokenizer.json must be what it would build.
    """
    stored = json.loads(backend.to_str())
    normalizer, splitter = stored["normalizer"] or {}, stored["pre_tokenizer"] or {}
    name = settings.get("tokenizer_class")
    by_default = name is None and stored["model"]["type"] == "WordPiece"
    rebuilt = by_default or str(name).startswith("BertTokenizer")
    if rebuilt and "tokenizer_class" not in ignore:
        special = backend.num_special_tokens_to_add(is_pair=False)
        if normalizer.get("type") != "BertNormalizer" or special != 2:
            raise CheckpointError(
                f"{file.parent} has a tokenizer.json that is not the BertTokenizer its files say "
                'it is; pass ignore_config=("tokenizer_class",) to follow tokenizer.json'
            )
        settings = {**BERT_DEFAULTS, **settings}
    said: dict[str, Any] = {}
    if normalizer.get("type") == "BertNormalizer":
        said["do_lower_case"] = normalizer["lowercase"]
        said["strip_accents"] = normalizer["strip_accents"]
        said["tokenize_chinese_chars"] = normalizer["handle_chinese_chars"]
    if splitter.get("type") == "ByteLevel":
        said["add_prefix_space"] = splitter["add_prefix_space"]
    for key, value in said.items():
        if key not in ignore and settings.get(key, value) != value:
            raise CheckpointError(
                f"{file} has {key} = {settings[key]!r} where tokenizer.json has {value!r}; make "
                f'them equal, or pass ignore_config=("{key}",) to follow tokenizer.json'
            )


def from_vocabulary(folder: Path, settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """BERT's WordPiece over vocab.txt; lower-casing unless tokenizer_config.json says no."""
    name = settings.get("tokenizer_class")
    if name not in (None, "BertTokenizer", "BertTokenizerFast"):
        raise CheckpointError(f"{folder} wants a {name}, which only tokenizer.json could describe")
    added = folder / "added_tokens.json"
    if added.is_file() and read_object(added):
        raise CheckpointError(f"{folder} has added_tokens.json but no tokenizer.json; make one")
    chosen = {**BERT_DEFAULTS, **settings}
    try:
        return tokenizers.BertWordPieceTokenizer(
            str(folder / "vocab.txt"),
            lowercase=chosen["do_lower_case"],
            strip_accents=chosen["strip_accents"],
            handle_chinese_chars=chosen["tokenize_chinese_chars"],
        )._tokenizer
    except Exception as error:  # as above
        raise CheckpointError(f"{folder}/vocab.txt is no vocabulary ({error})") from error


def lowers(normalizer: normalizers.Normalizer | None) -> bool:
    """Whether the normaliser contains a plain lower-casing step."""
    if isinstance(normalizer, normalizers.Sequence):
        return any(lowers(step) for step in normalizer)  # type: ignore[attr-defined]
    return isinstance(normalizer, normalizers.Lowercase)
