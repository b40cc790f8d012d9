"""What training begins with: a model of a folder, some of its layers, or one drawn at random."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxbert.arguments import integer
from jaxbert.checkpoint.json_file import read_object
from jaxbert.encoder import Encoder
from jaxbert.errors import ConfigError, InputError
from jaxbert.model.config import EncoderConfig
from jaxbert.model.copyable import with_parts
from jaxbert.model.families.modernbert import ModernBertConfig
from jaxbert.process.backend import computing
from jaxbert.text.tokenizer import SPECIAL, Tokenizer
from jaxbert.train.trainable import parameters, with_parameters

# Layers, width, heads and width of the feed-forward of encoders for small experiments, as those of
# Turc et al., arXiv:1908.08962, table 1.
SIZES: Mapping[str, tuple[int, int, int, int]] = {
    "tiny": (2, 128, 2, 512),
    "mini": (4, 256, 4, 1024),
    "small": (4, 512, 8, 2048),
}
FAMILIES = {"bert": EncoderConfig.bert, "jinabert": EncoderConfig.jinabert}
PRESETS = tuple(f"{family}-{size}" for family in FAMILIES for size in SIZES)
# Weights of a BERT that a JinaBERT has no place for, or not of that shape.
NOT_SHARED = ("layers.feed_forward.", "position.")


# --- at random -----------------------------------------------------------------------------------


def vocabulary(tokenizer: Tokenizer) -> int:
    """How many rows a table needs for every id that the tokenizer gives."""
    return 1 + max(tokenizer.backend.get_vocab(with_added_tokens=True).values())


def special_ids(tokenizer: Tokenizer) -> tuple[int, ...]:
    """The ids of the tokens that are no part of a text, in order."""
    backend = tokenizer.backend
    added = {i for i, token in backend.get_added_tokens_decoder().items() if token.special}
    usual = {backend.token_to_id(word) for words in SPECIAL.values() for word in words}
    return tuple(sorted(added | {i for i in usual if i is not None}))


def named_config(name: str, vocab_size: int) -> EncoderConfig:
    """The config of a preset such as bert-tiny, or of a JSON file with fields of EncoderConfig.

    vocab_size is for a file that says none. Raises InputError for an unknown preset, ConfigError
    for a field that is not understood.
    """
    family, _, size = name.rpartition("-")
    if name in PRESETS:
        layers, d, n, f = SIZES[size]
        sizes = {"num_layers": layers, "hidden_size": d, "num_heads": n, "intermediate_size": f}
        return FAMILIES[family](vocab_size=vocab_size, **sizes)
    if not Path(name).is_file():
        raise InputError(f"{name} is no JSON file and no preset; presets are {', '.join(PRESETS)}")
    raw = {"vocab_size": vocab_size} | read_object(Path(name))
    known = {field.name for field in dataclasses.fields(EncoderConfig)}
    unknown = [key for key in raw if key not in known]
    if unknown:
        raise ConfigError(
            f"{name} has {unknown[0]}, which is no field of EncoderConfig; known are "
            f"{', '.join(sorted(known))}"
        )
    try:
        config = EncoderConfig(**raw)
    except TypeError as error:
        raise ConfigError(f"{name} describes no encoder: {error}") from error
    if config.vocab_size < vocab_size:
        raise ConfigError(
            f"{name} has vocab_size {config.vocab_size}, and the tokenizer gives ids up to "
            f"{vocab_size - 1}; raise it"
        )
    return config


def at_random(config: EncoderConfig, seed: int) -> Encoder:
    """An encoder with weights drawn by the seed."""
    with computing():
        return Encoder(config, rngs=nnx.Rngs(seed))


# --- of another model ----------------------------------------------------------------------------


def keep_layers(encoder: Encoder, layers: Sequence[int]) -> Encoder:
    """The encoder with these of its layers, counted from 0, in this order; arrays are new.

    Source: DistilBERT, arXiv:1910.01108, section 3, takes every other layer.
    Raises InputError for a layer that is not there, and for encoders whose layers differ by their
    number.
    """
    config = encoder.config
    if isinstance(config, ModernBertConfig):
        raise InputError(
            "the layers of a ModernBERT see more or less of a text by their number, so none can be "
            "left out; train it with all layers"
        )
    if not layers:
        raise InputError("no layer is to be kept; name some, such as 0,2,4")
    for i in layers:
        integer(i, "a layer", 0, config.num_layers - 1)
    with computing():
        index = jnp.asarray(list(layers), jnp.int32)
        own = jax.tree.map(lambda stacked: stacked[index], encoder.layers)
    return with_parts(encoder, layers=own, config=replace(config, num_layers=len(layers)))


def as_jinabert(
    encoder: Encoder, intermediate: int | None = None, seed: int = 0, max_positions: int = 8192
) -> Encoder:
    """A JinaBERT with a BERT's tables of words and types, norms and attention.

    ALiBi takes the place of learned positions, so that texts may be of any length. The gated
    feed-forward is drawn by the seed, with a width of two thirds of the BERT's if intermediate is
    None: then both have as many weights. Raises InputError for an encoder of another family.
    """
    old = encoder.config
    if type(old) is not EncoderConfig or old.position != "learned":
        raise InputError(
            f"the encoder has a {type(old).__name__} with {old.position} positions; only a BERT "
            "with learned ones can become a JinaBERT, so choose another base"
        )
    changes: dict[str, Any] = {
        "position": "alibi",
        "feed_forward": "glu",
        "activation": "gelu",
        "feed_forward_bias": True,
        "max_positions": max_positions,
        "intermediate_size": intermediate or max(1, 2 * old.intermediate_size // 3),
    }
    fresh = at_random(replace(old, **changes), seed)
    kept = {
        path: value
        for path, value in parameters(encoder).items()
        if not path.startswith(NOT_SHARED)
    }
    new = with_parameters(fresh, kept)
    return with_parts(new, attention=encoder.attention)
