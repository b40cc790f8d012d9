"""What a position scheme of one's own does, before it is trained: a row for each property."""

import re
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from jaxbert.encoder import Encoder
from jaxbert.errors import JaxbertError
from jaxbert.lab.loading import reason
from jaxbert.lab.properties import (
    Heads,
    Probe,
    Sizes,
    context,
    gradients,
    kernels,
    leaves,
    skipped,
    tile_difference,
    upper_excess,
)
from jaxbert.model.attention import blockwise, dense
from jaxbert.model.config import EncoderConfig
from jaxbert.model.position import Position

# Beyond this share two results are not the same: two programs in float32 are closer.
SAME = 1e-5
# Beyond this one a shift or a mirror changes the scores: the angles of far positions are rounded.
ALIKE = 1e-3
# Positions by which a text is shifted.
SHIFT = 512
# Tokens of a text that has all distances of which schemes tell one from the next, of one that takes
# several small tiles, and of the one that is timed.
WHOLE, TILED, LONG = 256, 75, 1024
# Tokens and tile for the share of tiles that are left out, and the farthest position.
SKIPPED, TILE, FAR = 4096, 512, 65_536
# Calls that are timed.
TIMES = 5


class Row(NamedTuple):
    """One property of a scheme, and whether it is a fault."""

    name: str
    answer: str
    wrong: bool = False


class Subject(NamedTuple):
    """A scheme to be checked, how it is made anew, and the sizes that it is made for."""

    title: str
    make: Callable[[], Position]
    scheme: Position
    heads: int
    width: int

    @classmethod
    def of(cls, title: str, make: Callable[[], Position], heads: int, width: int) -> "Subject":
        """The scheme that make gives, if an encoder can have it; InputError where none can."""
        subject = cls(title, make, make(), heads, width)
        subject.encoder(subject.scheme)
        return subject

    @property
    def bias(self) -> Heads | None:
        """The scheme's bias for all heads; None where it has none."""
        bias = self.scheme.bias
        return None if bias is None else Heads(bias, self.heads)

    def sizes(self, tokens: int) -> Sizes:
        """Sizes for texts of so many tokens, or as many as the scheme has positions for."""
        limit = self.scheme.limit
        return Sizes(self.heads, self.width, tokens if limit is None else min(tokens, limit))

    def encoder(self, scheme: Position, **more: Any) -> Encoder:
        """An encoder of one layer with random weights and this scheme."""
        config = EncoderConfig.bert(
            vocab_size=64,
            hidden_size=self.width,
            num_layers=1,
            num_heads=self.heads,
            intermediate_size=2 * self.width,
            position="none",
        )
        return Encoder(config, rngs=nnx.Rngs(0), position=scheme, **more)


def check(subject: Subject) -> Iterator[Row]:
    """All rows of a scheme, one after the other as they are found; also what fails is a row."""
    heads, width = subject.heads, subject.width // subject.heads
    yield Row("scheme", f"{subject.title}, {heads} heads of {width}")
    for name, answers in QUESTIONS.items():
        try:
            yield from (Row(name, *answer) for answer in answers(subject))
        except JaxbertError as error:
            yield Row(name, f"WRONG: {error}", True)
        except Exception as error:  # the user's code may raise anything
            yield Row(name, f"WRONG: it raised {reason(error)}", True)


# --- questions: each gives answers, and whether they are faults ----------------------------------

Answers = Iterator[tuple[str, bool]]


def acts_on(subject: Subject) -> Answers:
    """Which of the three places the scheme uses."""
    places = Probe.of(subject.scheme, subject.sizes(WHOLE)).places()
    yield ", ".join(places) or "nothing: it is no scheme at these sizes", not places


def its_leaves(subject: Subject) -> Answers:
    """The arrays of the scheme, those of a list together, and which of them are trained."""
    counts = Counter(
        f"{re.sub(r'[.][0-9]+', '.*', leaf.path)} {list(leaf.shape)} {leaf.dtype}, "
        f"{'trained' if leaf.trained else 'constant'}"
        for leaf in leaves(subject.scheme)
    )
    for text, count in counts.items():
        yield text if count == 1 else f"{text}, {count} of them", False
    if not counts:
        yield "none", False


def its_limit(subject: Subject) -> Answers:
    """How many positions there are."""
    limit = subject.scheme.limit
    yield "none: texts of any length" if limit is None else f"{limit} positions", False


def tiles(subject: Subject) -> Answers:
    """Whether the bias on a tile is that part of the whole bias."""
    if subject.bias is None:
        yield "no bias", False
        return
    off = tile_difference(subject.bias, subject.sizes(TILED).tokens)
    if off <= SAME:
        yield "the bias on a tile is that part of the whole bias", False
    else:
        yield f"WRONG: the bias on a tile is not that part of the whole bias ({off:.0e} off)", True


def shift(subject: Subject) -> Answers:
    """Whether only distances between tokens count."""
    sizes, limit = subject.sizes(WHOLE), subject.scheme.limit
    tokens = sizes.tokens if limit is None else max(1, min(sizes.tokens, limit // 2))
    by = SHIFT if limit is None else min(SHIFT, limit - tokens)
    probe = Probe.of(subject.scheme, sizes._replace(tokens=tokens))
    off = probe.change(range(tokens), range(by, by + tokens))
    if off <= ALIKE:
        yield "only distances count: a shifted text has the same states", False
    else:
        yield f"positions count by themselves (a shift by {by} changes {off:.0e})", False


def mirror(subject: Subject) -> Answers:
    """Whether left and right are told apart."""
    sizes = subject.sizes(WHOLE)
    positions = range(sizes.tokens)
    off = Probe.of(subject.scheme, sizes).change(positions, positions[::-1])
    if off <= ALIKE:
        yield "left and right are the same: a mirrored text has mirrored states", False
    else:
        yield f"left and right are told apart ({off:.0e})", False


def upper(subject: Subject) -> Answers:
    """Whether the bound of the bias holds, and what it saves."""
    bias, limit = subject.bias, subject.scheme.limit
    if bias is None:
        yield "no bias", False
        return
    excess, bounded = upper_excess(bias, FAR if limit is None else min(FAR, limit - 1))
    if not bounded:
        yield "none: only padding and other texts are left out", False
    elif excess > SAME:
        yield f"WRONG: a score exceeds the bound of its tile by {excess:.0e}", True
    else:
        sizes = subject.sizes(SKIPPED)
        share = skipped(bias, sizes, min(TILE, sizes.tokens))
        most = f"{share.min():.0%} to {share.max():.0%} of the tiles of a head"
        yield f"never below a score; at {sizes.tokens:,} tokens it leaves out {most}", False


def gradient(subject: Subject) -> Answers:
    """Whether the gradient of every weight is finite and not zero."""
    encoder, ids = subject.encoder(subject.scheme), token_ids(subject.sizes(WHOLE).tokens)
    weight = np.random.default_rng(2).normal(size=(1, ids.shape[1], subject.width))

    def loss(encoder: Encoder) -> jax.Array:
        return (encoder(ids) * weight.astype(np.float32)).sum()

    if not any(leaf.trained for leaf in leaves(subject.scheme)):
        yield "nothing is trained", False
        return
    norms = {
        path.removeprefix("position."): norm
        for path, norm in gradients(loss, encoder, "position.").items()
    }
    wrong = {
        "zero": [path for path, norm in norms.items() if norm == 0],
        "not finite": [path for path, norm in norms.items() if not np.isfinite(norm)],
    }
    for fault, paths in wrong.items():
        if paths:
            yield f"WRONG: in {ids.shape[1]} tokens it is {fault} for {', '.join(paths)}", True
    if not any(wrong.values()):
        least, most = min(norms.values()), max(norms.values())
        yield f"reaches every weight (norms of {least:.0e} to {most:.0e})", False


def implementation(name: str) -> Callable[[Subject], Answers]:
    """Whether a tiled implementation agrees with the dense definition."""

    def answers(subject: Subject) -> Answers:
        sizes = subject.sizes(TILED)
        expected = context(dense, subject.scheme, sizes)
        try:
            got = context(kernels()[name], subject.scheme, sizes)
        except NotImplementedError as error:
            yield f"refused, so attention is blockwise: {error}", False
            return
        off = float(np.abs(got - expected).max() / np.abs(expected).max())
        if off <= SAME:
            yield f"agrees with the dense definition ({off:.0e})", False
        else:
            yield f"WRONG: {off:.0e} from the dense definition", True

    return answers


def speed(subject: Subject) -> Answers:
    """What the scheme costs, as a ratio to none."""
    ids = token_ids(subject.sizes(LONG).tokens)
    ratios = []
    for kind in (dense, blockwise):
        own, none = (
            subject.encoder(scheme, attention=kind) for scheme in (subject.scheme, Position())
        )
        # In turn, so that both see the same load; the first calls compile.
        pairs = [(seconds(own, ids), seconds(none, ids)) for _ in range(TIMES + 1)][1:]
        medians = [statistics.median(column) for column in zip(*pairs, strict=True)]
        ratios.append(f"{kind.name} {medians[0] / medians[1]:.2f}")
    yield f"{', '.join(ratios)} times that of no scheme ({ids.shape[1]:,} tokens)", False


def seconds(encoder: Encoder, ids: np.ndarray) -> float:
    """What one call of a scheme takes."""
    begun = time.perf_counter()
    encoder(ids).block_until_ready()
    return time.perf_counter() - begun


def saved(subject: Subject) -> Answers:
    """Whether an encoder with the scheme comes back from a folder."""
    encoder, ids = subject.encoder(subject.scheme), token_ids(subject.sizes(TILED).tokens)
    with tempfile.TemporaryDirectory() as folder:
        encoder.save_pretrained(folder, parts={"position": subject.scheme})
        again = Encoder.from_pretrained(folder, parts={"position": subject.make()})
    if np.array_equal(np.asarray(encoder(ids)), np.asarray(again(ids))):
        yield 'comes back bit for bit with parts={"position": ...}', False
    else:
        yield "WRONG: what is loaded computes other states", True


def token_ids(tokens: int) -> np.ndarray:
    """One text of random tokens."""
    return np.random.default_rng(3).integers(0, 64, (1, tokens))


QUESTIONS: dict[str, Callable[[Subject], Answers]] = {
    "acts on": acts_on,
    "leaves": its_leaves,
    "limit": its_limit,
    "tiles": tiles,
    "shift": shift,
    "mirror": mirror,
    "upper": upper,
    "gradient": gradient,
    **{name: implementation(name) for name in ("blockwise", "TPU kernel", "GPU kernel")},
    "time": speed,
    "saved": saved,
}
