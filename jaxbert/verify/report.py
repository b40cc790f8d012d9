"""What `jaxbert verify` says: a model beside the reference and beside published values."""

from collections.abc import Callable

import numpy as np

from jaxbert.checkpoint.sums import sha256
from jaxbert.checkpoint.tensors import read_tensors
from jaxbert.errors import printable
from jaxbert.model import reference
from jaxbert.verify.compare import TEXTS, TOLERANCE, agree, compare, pad, table
from jaxbert.verify.opened import Model
from jaxbert.verify.parts import Pair
from jaxbert.verify.published import Outcome, Published, check, published

# --- verify: the reference ---------------------------------------------------------------------


def verify_against_reference(model: Model, dtype: str) -> tuple[str, bool]:
    """A table of the differences between the encoder and the reference, and whether they agree."""

    def states(ids: np.ndarray, mask: np.ndarray) -> list[np.ndarray]:
        return reference.encode(read_tensors(model.stored), model.stored.raw, ids, mask)

    return side_by_side(model, dtype, states, "the float64 reference")


def side_by_side(
    model: Model, dtype: str, other: Callable[..., list[np.ndarray]], title: str
) -> tuple[str, bool]:
    """A table of the differences between a model and one with the states other(ids, mask)."""
    ids, mask, what = sample(model)
    theirs = other(ids, mask)
    ours = [np.asarray(state, np.float32) for state in model.encoder.hidden_states(ids, mask)]
    states = Pair(ours[-1], np.asarray(theirs[-1]), mask)
    more, line = model.part.compare(model.stored, model.encoder, states)
    differences = [*compare(ours, theirs, mask), *more]
    agreed = agree(differences, TOLERANCE[dtype])
    lines = [
        printable(str(model.stored.folder)),
        *(f"sha256 {sha256(file)}  {file.name}" for file in model.stored.files),
        table(differences),
        *([line] if line else []),
        f"the {dtype} {model.part.title} {'agrees with' if agreed else 'DIFFERS from'} {title} "
        f"on {what} (tolerance {TOLERANCE[dtype]:g} of each line's largest number)",
    ]
    return "\n".join(lines), agreed


def sample(model: Model) -> tuple[np.ndarray, np.ndarray, str]:
    """Ids and mask of a few texts; of random ids where the folder has no tokenizer."""
    longest = min(64, model.part.max_length)
    if model.tokenizer is not None:
        return *pad(model.tokenizer(TEXTS, longest)), f"{len(TEXTS)} texts"
    random = np.random.default_rng(0)
    vocabulary = model.encoder.config.vocab_size
    tokens = [random.integers(0, vocabulary, length) for length in (longest, longest // 3, 1)]
    return *pad(tokens), f"{len(tokens)} rows of random ids (the folder has no tokenizer)"


# --- verify: published values ------------------------------------------------------------------

WIDEST_TEXT = 28


def verify_against_published(model: Model, name: str | None, dtype: str) -> tuple[str, bool]:
    """A table of what is published for the model of this name, and whether all is reproduced.

    Where nothing can be compared it is one line, and no failure. bfloat16 is not compared: it moves
    a component by up to 3e-3 of the vector's norm (notes/06-cpu.md) where 1e-3 and less is allowed,
    and a logit of 9 by 5e-2 where 1e-2 is (what sentence-transformers' tests have in both dtypes);
    a tolerance that let it pass would let mistakes pass too.
    """
    if name is None:
        return "no published values are known for this model (--published NAME chooses some)", True
    if model.tokenizer is None:
        return f"the published values of {name} need a tokenizer, and the folder has none", True
    if dtype != "float32":
        return f"the published values of {name} are compared in float32 only, not in {dtype}", True
    entries = published(name)
    outcomes = [check(entry, model) for entry in entries]
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
