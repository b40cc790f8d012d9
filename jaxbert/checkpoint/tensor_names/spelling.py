"""How published names are spelled: prefixes, old spellings, and which tensors embeddings need."""

import re
from collections.abc import Collection, Mapping, Sequence

from jaxbert.checkpoint.tensor_file import Entry
from jaxbert.errors import CheckpointError, shown

WORD = "embeddings.word_embeddings.weight"
# Wrappers that put a prefix before every name, and the names of encoders in models with a head.
WRAPPERS = r"model|0\.auto_model|auto_model|module|_orig_mod"
BASES = "bert|roberta|mpnet|distilbert"
PREFIX = re.compile(rf"(({BASES}|{WRAPPERS})\.)*")


def spelled_out(name: str) -> str:
    """LayerNorm.gamma and LayerNorm.beta, as TensorFlow's BERT had them, in today's spelling."""
    name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
    return re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)


def common_prefix(found: Collection[str], words: Sequence[str], base: str, title: str) -> str:
    """What stands before every name, found from the word embeddings, which have one of `words`.

    base is the name of the encoder in a model with a head; that of another family is refused.
    """
    prefixes = {
        name.removesuffix(word)
        for word in words
        for name in found
        if name == word or name.endswith(f".{word}")
    }
    if len(prefixes) != 1:
        many = "more than one" if prefixes else "no"
        raise CheckpointError(
            f"the weights have {many} {' or '.join(words)}, so this is not a {title} checkpoint"
        )
    prefix = prefixes.pop()
    if not re.fullmatch(rf"(({base}|{WRAPPERS})\.)*", prefix):
        raise CheckpointError(
            f"the tensors' prefix {shown(prefix)} is not understood in a {title}; save them without"
        )
    return prefix


def check_layers(names: Collection[str], expected: int, under: str, key: str) -> None:
    """config.json, by this key, and the tensors' names must count the same layers."""
    pattern = re.compile(rf"{re.escape(under)}(\d+)\.")
    layers = {match[1] for name in names if (match := pattern.match(name))}
    if layers != set(map(str, range(min(expected, len(layers) + 1)))):
        # By length first: Python reads no number of thousands of digits.
        in_order = sorted(layers, key=lambda digits: (len(digits), digits))
        raise CheckpointError(
            f"config.json says {key} = {expected}, but the weights have the layers "
            f"{', '.join(in_order) or 'none'}: they are of different models"
        )


def sort_out(
    found: Mapping[str, Entry], prefix: str, base: str, not_needed: re.Pattern[str]
) -> tuple[dict[str, Entry], dict[str, Entry]]:
    """(needed, unused) by name without prefix; heads stand beside the encoder, not under it.

    base is the name of the encoder in a model with a head, not_needed the tensors that published
    checkpoints carry and embeddings never use: they are carried along, not computed.
    """
    entries: dict[str, Entry] = {}
    unused: dict[str, Entry] = {}
    outer = re.sub(rf"{base}\.$", "", prefix)
    for name, entry in found.items():
        inside = name.startswith(prefix)
        plain = spelled_out(name.removeprefix(prefix if inside else outer))
        if not_needed.fullmatch(plain):
            unused[name] = entry
        elif not inside:
            raise CheckpointError(f"the tensor {name} is not understood; no rule reads it")
        elif plain in entries:
            raise CheckpointError(f"{plain} is stored in two spellings; keep one of them")
        else:
            entries[plain] = entry
    return entries, unused


def listing(names: list[str]) -> str:
    """The first few names, and how many more."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
