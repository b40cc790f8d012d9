"""The files that a tokenizer is saved as."""

import shutil
from pathlib import Path
from typing import Any

import tokenizers

from jaxbert.text.special_tokens import SPECIAL

# The files that a tokenizer is made of.
FILES = tuple(
    "tokenizer.json tokenizer_config.json special_tokens_map.json added_tokens.json vocab.txt "
    "vocab.json merges.txt".split()
)


def remove_files(folder: Path) -> None:
    """Remove a tokenizer's files from a folder, those that there are."""
    for name in FILES:
        (folder / name).unlink(missing_ok=True)


def copy_files(source: Path, target: Path) -> None:
    """Copy a tokenizer's files from one folder to another."""
    for name in FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def settings_of(backend: tokenizers.Tokenizer, side: str, typed: bool) -> dict[str, Any]:
    """What transformers needs beside tokenizer.json, as the contents of tokenizer_config.json.

    typed says whether the second text of a pair has type 1.
    """
    vocabulary = backend.get_vocab()
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "truncation_side": side,
    }
    named = {key: [name for name in names if name in vocabulary] for key, names in SPECIAL.items()}
    settings |= {key: names[0] for key, names in named.items() if names}
    if typed:
        # transformers 5 gives no types to a model unless they are listed.
        settings["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    if not backend.get_added_tokens_decoder():
        # Else the words of these tokens would be found in texts, as they are not here.
        settings["split_special_tokens"] = True
    return settings
