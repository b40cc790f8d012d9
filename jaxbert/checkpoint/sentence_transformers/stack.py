"""Everything that a sentence-transformers folder says beside the encoder <-> Stack.

Source: sentence-transformers 6.2.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from jaxbert.checkpoint.json_file import typed
from jaxbert.checkpoint.sentence_transformers.dense import read_dense, write_dense
from jaxbert.checkpoint.sentence_transformers.modules_json import read_modules, write_modules
from jaxbert.checkpoint.sentence_transformers.normalize import read_normalize, write_normalize
from jaxbert.checkpoint.sentence_transformers.pooling import read_pooling, write_pooling
from jaxbert.checkpoint.sentence_transformers.settings import (
    PROMPTS,
    SETTINGS_FILE,
    read_settings,
    write_settings,
)
from jaxbert.checkpoint.sentence_transformers.transformer import (
    max_length,
    read_transformer,
    write_transformer,
)
from jaxbert.errors import CheckpointError, shown
from jaxbert.model.config import EncoderConfig
from jaxbert.model.head import Dense, Normalize, Pooling


@dataclass(frozen=True)
class Stack:
    """Everything about a model that is neither the encoder nor the tokenizer's vocabulary."""

    pooling: Pooling = field(default_factory=Pooling)
    after: tuple[Dense | Normalize, ...] = ()
    max_length: int = 512  # tokens of a text, special tokens included; longer texts are truncated
    lower_case: bool = False
    prompts: dict[str, str] = field(default_factory=lambda: dict(PROMPTS))
    default_prompt_name: str | None = None
    similarity: str = "cosine"
    truncate_dim: int | None = None
    # Keys of the folder's files that were taken and change nothing.
    not_used: tuple[str, ...] = field(default=(), compare=False)

    def width(self, hidden_size: int) -> int:
        """The features of a vector before truncate_dim."""
        width = hidden_size * len(self.pooling.modes)
        for step in self.after:
            width = step.weight.shape[0] if isinstance(step, Dense) else width
        return width


def read_stack(folder: Path, config: EncoderConfig, ignore_config: Collection[str] = ()) -> Stack:
    """The stack of a folder; without modules.json: mean pooling, not normalised.

    config gives the width of the states, and the length where nothing else says one.
    ignore_config names keys of the files that may be passed over. Raises CheckpointError for a
    module, mode or value that is not understood.
    """
    modules = read_modules(folder)
    transformer = read_transformer(modules[0][1], ignore_config)
    pooling = Pooling()
    after: list[Dense | Normalize] = []
    for kind, path in modules[1:]:
        if kind == "Pooling":
            pooling = read_pooling(path, ignore_config)
        elif kind == "Dense":
            after.append(read_dense(path, ignore_config))
        elif kind == "Normalize":
            after.append(read_normalize(path, ignore_config))
        elif kind != "Dropout":  # which does nothing at inference
            raise CheckpointError(
                f"{folder}/modules.json has a module of type {kind}, which is not implemented; "
                "understood are Transformer, Pooling, Dense, Normalize and Dropout"
            )
    check_widths(pooling, after, config.hidden_size, folder)
    stack = Stack(
        pooling=pooling,
        after=tuple(after),
        max_length=max_length(modules[0][1], transformer, config, ignore_config),
        lower_case=typed(transformer, "do_lower_case", bool, False, folder),
        **read_settings(folder / SETTINGS_FILE, ignore_config),
    )
    width = stack.width(config.hidden_size)
    if stack.truncate_dim is not None and not 1 <= stack.truncate_dim <= width:
        raise CheckpointError(
            f"{folder / SETTINGS_FILE} has truncate_dim = {shown(stack.truncate_dim)}, but vectors "
            f"have {width} features; it must be 1 to {width}, or null"
        )
    return stack


def check_widths(
    pooling: Pooling, after: list[Dense | Normalize], hidden_size: int, folder: Path
) -> None:
    """Each Dense module must take vectors as wide as they come."""
    width = hidden_size * len(pooling.modes)
    for step in after:
        if isinstance(step, Dense):
            if step.weight.shape[1] != width:
                raise CheckpointError(
                    f"a Dense module of {folder} takes {step.weight.shape[1]} features, but the "
                    f"vectors before it have {width}: they are of different models"
                )
            width = step.weight.shape[0]


def save_stack(stack: Stack, hidden_size: int, folder: Path) -> None:
    """Write modules.json and what it lists, with the names that every version reads.

    hidden_size is the width of the states that the pooling takes.
    """
    modules: list[Pooling | Dense | Normalize] = [stack.pooling, *stack.after]
    paths = write_modules(folder, [type(step).__name__ for step in modules])
    write_transformer(folder, stack.max_length, stack.lower_case)
    write_settings(
        folder / SETTINGS_FILE,
        stack.prompts,
        stack.default_prompt_name,
        stack.similarity,
        stack.truncate_dim,
    )
    for path, step in zip(paths, modules, strict=True):
        if isinstance(step, Pooling):
            write_pooling(path, step, hidden_size)
        elif isinstance(step, Dense):
            write_dense(path, step)
        else:
            write_normalize(path)
