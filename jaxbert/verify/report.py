"""What the command says about a model: a description, and how it compares with what is known."""

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxbert.checkpoint.files import is_there
from jaxbert.checkpoint.opening import OpenedModel, open_model
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.checkpoint.sums import sha256
from jaxbert.checkpoint.tensor_names.families import FAMILIES
from jaxbert.checkpoint.tensors import Checkpoint, read_tensors
from jaxbert.encoder import Encoder
from jaxbert.errors import printable, shown
from jaxbert.model import reference
from jaxbert.model.attention import Attend, attend, name_of, plan
from jaxbert.model.head import Dense, pool
from jaxbert.process.backend import computing
from jaxbert.text.tokenizer import Tokenizer
from jaxbert.verify.compare import TEXTS, TOLERANCE, agree, compare, cosine, pad, table
from jaxbert.verify.published import Outcome, Published, check, published


class Model(NamedTuple):
    """A folder, opened: its tokenizer may be missing, for a bare encoder can be checked too."""

    opened: OpenedModel
    encoder: Encoder
    stack: Stack
    tokenizer: Tokenizer | None

    @property
    def stored(self) -> Checkpoint:
        """The record of the weights."""
        return self.opened.stored


def load_model(
    name: str | os.PathLike[str],
    *,
    revision: str | None,
    ignore_config: Sequence[str],
    dtype: DTypeLike,
    attention: Attend = attend,
) -> Model:
    """All parts of a model, its weights too; the errors are those of Embedder.from_pretrained."""
    opened = open_model(name, revision=revision, ignore_config=ignore_config)
    stack = opened.read_stack()
    inner = opened.tokenizer_folder
    bare = not any(is_there(inner / name) for name in ("tokenizer.json", "vocab.txt"))
    tokenizer = None if bare else Tokenizer.of_model(opened, stack.lower_case)
    encoder = Encoder.from_checkpoint(opened.stored, dtype=dtype, attention=attention)
    return Model(opened, encoder, stack, tokenizer)


# --- info --------------------------------------------------------------------------------------


def describe(model: Model) -> str:
    """The family, sizes, parameters, pooling and lengths, and what was not used."""
    config, stack, stored = model.encoder.config, model.stack, model.stored
    family = FAMILIES[stored.family]
    limit = model.encoder.position.limit
    width = stack.width(config.hidden_size)
    steps = [" + ".join(stack.pooling.modes), *map(step_title, stack.after)]
    rows = {
        "folder": stored.folder,
        "family": family.title + ("" if family.verified else " (inferred, not verified)"),
        "layers": f"{config.num_layers}, each of {config.num_heads} heads of {config.sizes['h']}",
        "widths": f"model {config.hidden_size}, feed-forward {config.intermediate_size}",
        "vocabulary": f"{config.vocab_size} tokens, {config.type_vocab_size} types",
        "position": f"{config.position}, {'any length' if limit is None else f'up to {limit}'}",
        "feed-forward": f"{config.feed_forward}, {config.activation}",
        "attention": attention_title(model.encoder.attention),
        "parameters": f"{sum(weight.size for weight in model.encoder.weights().values()):,}",
        "stored as": ", ".join(sorted({entry.dtype for entry in stored.entries.values()})),
        "sha256": ", ".join(sha256(file) for file in stored.files),
        "tokenizer": "none" if model.tokenizer is None else "yes",
        "pooling": ", then ".join(steps),
        "vector": f"{stack.truncate_dim or width} x float32, {stack.similarity} similarity",
        "max length": f"{stack.max_length} tokens",
        "prompts": ", ".join(
            f"{name}: {shown(text)}" for name, text in stack.prompts.items() if text
        ),
    }
    lines = [printable(f"{key:<14}{value or 'none'}") for key, value in rows.items()]
    passed_over = [ignored(stored), not_used([*stored.not_used, *stack.not_used])]
    return "\n".join([*lines, "", layer_table(model.encoder), "", *map(printable, passed_over)])


def step_title(step: object) -> str:
    """A module after pooling, in words."""
    if isinstance(step, Dense):
        return f"dense {step.weight.shape[1]} -> {step.weight.shape[0]} ({step.activation})"
    return "unit length"


def attention_title(attention: Attend) -> str:
    """How attention is computed here: the choice by length, or what was asked for."""
    name = name_of(attention)
    return plan(jax.default_backend()) if name == "auto" else f"{name}, as asked for"


def layer_table(encoder: Encoder) -> str:
    """Every weight with its shape and size; those under layers. have the leading axis l."""
    return "\n".join(
        f"  {name:<44}{' x '.join(map(str, weight.shape)):>20}{weight.size:>14,}"
        for name, weight in encoder.weights().items()
    )


def ignored(stored: Checkpoint) -> str:
    """The tensors that embeddings do not need."""
    return f"ignored in the checkpoint: {', '.join(sorted(stored.unused)) or 'nothing'}"


def not_used(keys: Sequence[str]) -> str:
    """The keys of the JSON files that change nothing."""
    return f"not used in the JSON files: {', '.join(keys) or 'nothing'}"


# --- verify ------------------------------------------------------------------------------------


def verify_against_reference(model: Model, dtype: str) -> tuple[str, bool]:
    """A table of the differences between the encoder and the reference, and whether they agree."""

    def states(ids: np.ndarray, mask: np.ndarray) -> list[np.ndarray]:
        return reference.encode(read_tensors(model.stored), model.stored.raw, ids, mask)

    return side_by_side(model, dtype, states, "the float64 reference")


def side_by_side(
    model: Model, dtype: str, other: Callable[..., list[np.ndarray]], title: str
) -> tuple[str, bool]:
    """A table of the differences between the encoder and other(ids, mask), and the verdict."""
    ids, mask, what = sample(model)
    theirs = other(ids, mask)
    ours = [np.asarray(state, np.float32) for state in model.encoder.hidden_states(ids, mask)]
    differences, modes = compare(ours, theirs, mask), model.stack.pooling.modes
    with computing():
        pooled = [
            np.asarray(pool(jnp.asarray(states[-1], jnp.float32), jnp.asarray(mask != 0), modes))
            for states in (ours, theirs)
        ]
    agreed = agree(differences, TOLERANCE[dtype])
    lines = [
        printable(str(model.stored.folder)),
        *(f"sha256 {sha256(file)}  {file.name}" for file in model.stored.files),
        table(differences),
        f"pooled: smallest cosine {cosine(*pooled):.9f}",
        f"the {dtype} encoder {'agrees with' if agreed else 'DIFFERS from'} {title} "
        f"on {what} (tolerance {TOLERANCE[dtype]:g} of a layer's largest state)",
    ]
    return "\n".join(lines), agreed


def sample(model: Model) -> tuple[np.ndarray, np.ndarray, str]:
    """Ids and mask of a few texts; of random ids where the folder has no tokenizer."""
    longest = min(64, model.stack.max_length)
    if model.tokenizer is not None:
        return *pad(model.tokenizer(TEXTS, longest)), f"{len(TEXTS)} texts"
    random = np.random.default_rng(0)
    vocabulary = model.encoder.config.vocab_size
    tokens = [random.integers(0, vocabulary, length) for length in (longest, longest // 3, 1)]
    return *pad(tokens), f"{len(tokens)} rows of random ids (the folder has no tokenizer)"


# --- verify: published vectors -----------------------------------------------------------------

WIDEST_TEXT = 28


def verify_against_published(model: Model, name: str | None, dtype: str) -> tuple[str, bool]:
    """A table of what is published for the model of this name, and whether all is reproduced.

    Where nothing can be compared it is one line, and no failure. bfloat16 is not compared: it moves
    a component by up to 3e-3 of the vector's norm (notes/06-cpu.md) where 1e-3 and less is allowed,
    and a tolerance that let it pass would let mistakes pass too.
    """
    if name is None:
        return "no published vectors are known for this model (--published NAME chooses some)", True
    if model.tokenizer is None:
        return f"the published vectors of {name} need a tokenizer, and the folder has none", True
    if dtype != "float32":
        return f"the published vectors of {name} are compared in float32 only, not in {dtype}", True
    entries = published(name)
    outcomes = [check(entry, model.encoder, model.tokenizer) for entry in entries]
    missed = sum(not outcome.reproduced for outcome in outcomes)
    lines = [
        f"{'text':<{WIDEST_TEXT}}  {'value':<17}{'compared':>9}{'max |diff|':>12}{'tolerance':>11}"
        f"{'1 - cosine':>12}  {'verdict':<15}  source",
        *map(published_row, entries, outcomes),
        *dict.fromkeys(f"{entry.source.split()[0]}: {entry.how}" for entry in entries),
        f"{missed} of {len(entries)} published values of {name} are NOT REPRODUCED"
        if missed
        else f"all {len(entries)} published values of {name} are reproduced",
    ]
    return "\n".join(lines), not missed


def published_row(entry: Published, outcome: Outcome) -> str:
    """One line of the table."""
    text = repr(entry.text)
    text = text if len(text) <= WIDEST_TEXT else text[: WIDEST_TEXT - 3] + "..."
    alike = "" if outcome.cosine is None else f"{1.0 - outcome.cosine:.1e}"
    verdict = "reproduced" if outcome.reproduced else "NOT REPRODUCED"
    return (
        f"{text:<{WIDEST_TEXT}}  {entry.title:<17}{len(entry.components):>9}"
        f"{outcome.largest:>12.1e}{entry.tolerance:>11.1e}{alike:>12}  {verdict:<15}  "
        f"{entry.source}{f' ({entry.revision[:7]})' if entry.revision else ''}"
    )
