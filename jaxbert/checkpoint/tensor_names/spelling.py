"""How published names are spelled: prefixes, old spellings, and which tensors embeddings need."""

import re
from collections.abc import Collection, Mapping

from jaxbert.checkpoint.tensor_file import Entry
from jaxbert.errors import CheckpointError, shown

WORD = "embeddings.word_embeddings.weight"
# Tensors that published checkpoints carry and embeddings never use: carried along, not computed.
UNUSED = re.compile(
    r"pooler\.dense\.(weight|bias)|embeddings\.(position_ids|token_type_ids)"
    r"|cls\..+|classifier\..+|qa_outputs\..+|score\..+|linear\.weight"
)
# Wrappers that put a prefix before every name.
PREFIX = re.compile(r"((bert|model|0\.auto_model|auto_model|module|_orig_mod)\.)*")


def spelled_out(name: str) -> str:
    """LayerNorm.gamma and LayerNorm.beta, as TensorFlow's BERT had them, in today's spelling."""
    name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
    return re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)


def common_prefix(found: Collection[str]) -> str:
    """What stands before every name, found from the word embeddings."""
    words = [name for name in found if name == WORD or name.endswith(f".{WORD}")]
    if len(words) != 1:
        many = "no" if not words else "more than one"
        raise CheckpointError(f"the weights have {many} {WORD}, so this is not a BERT checkpoint")
    prefix = words[0].removesuffix(WORD)
    if not PREFIX.fullmatch(prefix):
        raise CheckpointError(
            f"the tensors' prefix {shown(prefix)} is not understood; save them without"
        )
    return prefix


def check_layers(names: Collection[str], expected: int) -> None:
    """config.json and the tensors' names must count the same layers."""
    layers = {match[1] for name in names if (match := re.match(r"encoder\.layer\.(\d+)\.", name))}
    if layers != set(map(str, range(min(expected, len(layers) + 1)))):
        # By length first: Python reads no number of thousands of digits.
        in_order = sorted(layers, key=lambda digits: (len(digits), digits))
        raise CheckpointError(
            f"config.json says num_hidden_layers = {expected}, but the weights have the layers "
            f"{', '.join(in_order) or 'none'}: they are of different models"
        )


def sort_out(found: Mapping[str, Entry], prefix: str) -> tuple[dict[str, Entry], dict[str, Entry]]:
    """(needed, unused) by name without prefix; heads stand beside the encoder, not under it."""
    entries: dict[str, Entry] = {}
    unused: dict[str, Entry] = {}
    outer = re.sub(r"bert\.$", "", prefix)
    for name, entry in found.items():
        inside = name.startswith(prefix)
        plain = spelled_out(name.removeprefix(prefix if inside else outer))
        if UNUSED.fullmatch(plain):
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
