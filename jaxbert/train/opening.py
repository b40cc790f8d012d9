"""The options of a beginning -> an encoder, its tokenizer, what is behind it, and who it is."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flax import nnx

from jaxbert.checkpoint import hub
from jaxbert.checkpoint.masked_language import load_masked_language_head
from jaxbert.checkpoint.opening import OpenedModel, open_model
from jaxbert.checkpoint.sentence_transformers.modules_json import transformer_folder
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.checkpoint.sums import sha256
from jaxbert.corpus.files import bytes_sha256
from jaxbert.encoder import Encoder
from jaxbert.errors import CheckpointError, InputError
from jaxbert.model.activations import ACTIVATIONS
from jaxbert.model.head import MaskedLanguageHead, PoolingHead
from jaxbert.process.backend import computing
from jaxbert.text.special_tokens import mask_word
from jaxbert.text.tokenizer import Tokenizer
from jaxbert.train.models import MaskedModel, TextModel
from jaxbert.train.options import Beginning
from jaxbert.train.students import (
    as_jinabert,
    at_random,
    keep_layers,
    named_config,
    vocabulary,
)


@dataclass(frozen=True)
class Start:
    """What a run begins with."""

    encoder: Encoder
    tokenizer: Tokenizer
    tokenizer_folder: Path
    settings: dict[str, Any]  # what identifies it
    opened: OpenedModel | None = None

    def check_length(self, length: int) -> None:
        """InputError for texts that the encoder has no positions for."""
        limit = self.encoder.position.limit
        if limit is not None and length > limit:
            raise InputError(
                f"--length is {length}, and the model has {limit} positions; lower it, or train a "
                "model with ALiBi"
            )

    @property
    def stack(self) -> Stack:
        """What makes vectors of the states: the base's, or the means; prompts are not learned.

        Raises CheckpointError for a base that is no embedder and cannot become one.
        """
        config, limit = self.encoder.config, self.encoder.position.limit
        if self.opened is None:
            return Stack(max_length=config.max_positions)
        own = quiet_stack(self.opened)
        base = self.opened.stored.config
        longer = base.position != config.position
        most = config.max_positions if longer else own.max_length
        return replace(
            own,
            max_length=most if limit is None else min(most, limit),
            prompts=Stack().prompts,
            default_prompt_name=None,
            truncate_dim=None,
        )

    @property
    def text_model(self) -> TextModel:
        """The encoder with its pooling and the modules behind."""
        stack = self.stack
        with computing():
            return TextModel(self.encoder, PoolingHead(stack.pooling, stack.after))

    @property
    def mask_word(self) -> str:
        """The word of the mask. Raises CheckpointError for a tokenizer that has none."""
        ignore = () if self.opened is None else self.opened.ignore_config
        return mask_word(self.tokenizer.backend, self.tokenizer_folder, ignore)

    @property
    def mask_id(self) -> int:
        """The id of the mask."""
        found = self.tokenizer.backend.token_to_id(self.mask_word)
        assert found is not None, "mask_word looks it up"
        return found

    def masked_model(self, seed: int) -> MaskedModel:
        """The encoder with the base's masked-LM head, or with one that is drawn by the seed."""
        opened, config = self.opened, self.encoder.config
        if opened is not None and is_masked(opened):
            return MaskedModel(self.encoder, load_masked_language_head(opened.stored))
        activation = ACTIVATIONS[config.activation]
        with computing():
            head = MaskedLanguageHead(config, activation, rngs=nnx.Rngs(seed + 1), tied=True)
        return MaskedModel(self.encoder, head)


def quiet_stack(opened: OpenedModel) -> Stack:
    """The stack of a folder, also where it was not trained to embed, for now it will be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return opened.read_stack()


def is_masked(opened: OpenedModel) -> bool:
    """Whether a folder has the head of a masked language model that is understood here."""
    try:
        opened.task.check("MaskedLM")
    except CheckpointError:
        return False
    return True


def identity(opened: OpenedModel, name: str) -> dict[str, Any]:
    """Which weights these are: those of a folder are known by their sums."""
    return {
        "name": Path(name).name if Path(name).is_dir() else name,
        "weights_sha256": [sha256(file) for file in opened.stored.files],
        "config_sha256": sha256(opened.stored.folder / "config.json"),
    }


def begin(options: Beginning, seed: int, lowers: Callable[[OpenedModel], bool]) -> Start:
    """Open the base, or draw an encoder by the config.

    lowers says whether texts for the base are lower-cased first. Raises CheckpointError and
    InputError.
    """
    if options.base is None:
        return drawn(options, seed)
    opened = open_model(
        options.base, revision=options.revision, ignore_config=options.ignore_config
    )
    tokenizer = Tokenizer.of_model(opened, lowers(opened))
    encoder = Encoder.from_checkpoint(opened.stored)
    settings: dict[str, Any] = {"base": identity(opened, options.base)}
    if options.layers is not None:
        encoder = keep_layers(encoder, options.layers)
        settings["layers"] = options.layers
    if options.architecture is not None:
        encoder = as_jinabert(encoder, options.intermediate, seed)
        settings["architecture"] = options.architecture
        settings["intermediate"] = encoder.config.intermediate_size
    settings["tokenizer_sha256"] = bytes_sha256(tokenizer.backend.to_str().encode())
    return Start(encoder, tokenizer, opened.tokenizer_folder, settings, opened)


def drawn(options: Beginning, seed: int) -> Start:
    """An encoder with random weights, and a tokenizer of a folder."""
    assert options.config is not None, "checked when the options were read"
    assert options.tokenizer is not None, "checked when the options were read"
    folder = transformer_folder(hub.resolve(options.tokenizer))
    tokenizer = Tokenizer.from_folder(folder, ignore_config=options.ignore_config)
    config = named_config(options.config, vocabulary(tokenizer))
    settings = {
        "config": {name: getattr(config, name) for name in vars(config)},
        "tokenizer_sha256": bytes_sha256(tokenizer.backend.to_str().encode()),
    }
    return Start(at_random(config, seed), tokenizer, folder, settings)
