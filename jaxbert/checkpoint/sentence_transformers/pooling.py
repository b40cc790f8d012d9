"""1_Pooling/config.json <-> Pooling.

Source: sentence-transformers 6.2, and the flags of the versions before it, which it still reads.
"""

from collections.abc import Collection
from pathlib import Path

from jaxbert.checkpoint.json_file import read_object, typed, write
from jaxbert.checkpoint.sentence_transformers.keys import check_keys
from jaxbert.errors import CheckpointError, shown
from jaxbert.model.head import Pooling

# In the order in which several old flags are concatenated.
OLD_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
MODES = tuple(OLD_FLAGS.values())


def read_pooling(folder: Path, ignore: Collection[str]) -> Pooling:
    """1_Pooling/config.json; old flags count only where the new pooling_mode is absent."""
    file = folder / "config.json"
    raw = read_object(file)
    known = {"word_embedding_dimension", "embedding_dimension", "pooling_mode", "include_prompt"}
    check_keys(raw, file, known | set(OLD_FLAGS), ignore)
    flagged = [mode for flag, mode in OLD_FLAGS.items() if typed(raw, flag, bool, False, file)]
    chosen = typed(raw, "pooling_mode", str | list, flagged or "mean", file)
    modes = (chosen,) if isinstance(chosen, str) else tuple(chosen)
    for mode in modes or (None,):
        if mode not in MODES:
            raise CheckpointError(
                f"{file} has the pooling mode {shown(mode)}; understood are: {', '.join(MODES)}"
            )
    return Pooling(modes, typed(raw, "include_prompt", bool, True, file))


def write_pooling(folder: Path, pooling: Pooling, hidden_size: int) -> None:
    """Write config.json with the old flags, which every version reads.

    Modes in an order that flags cannot say are written as the new pooling_mode.
    """
    size = {"word_embedding_dimension": hidden_size, "include_prompt": pooling.include_prompt}
    flags = {flag: mode in pooling.modes for flag, mode in OLD_FLAGS.items()}
    if pooling.modes == tuple(mode for mode in OLD_FLAGS.values() if mode in pooling.modes):
        write(folder / "config.json", size | flags)
        return
    size["embedding_dimension"] = size.pop("word_embedding_dimension")
    write(folder / "config.json", size | {"pooling_mode": list(pooling.modes)})
