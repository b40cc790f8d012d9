"""Counts of what has been embedded: texts, tokens, batches, compilations, seconds."""

from dataclasses import dataclass
from threading import Lock


@dataclass(frozen=True)
class Stats:
    """Counts and times so far; the difference of two is what was done between them."""

    texts: int = 0
    tokens: int = 0  # special tokens included
    slots: int = 0  # tokens that the batches had room for
    batches: int = 0
    compilations: int = 0
    compile_seconds: float = 0.0
    seconds: float = 0.0  # of encode and warmup in all, compilations included

    def __sub__(self, before: "Stats") -> "Stats":
        """What was done since `before`, a field at a time."""
        earlier = vars(before)
        return Stats(**{name: value - earlier[name] for name, value in vars(self).items()})

    @property
    def padding_efficiency(self) -> float:
        """tokens / slots, the share of computed tokens that are text; 1 if there are none yet."""
        return self.tokens / self.slots if self.slots else 1.0

    @property
    def tokens_per_second(self) -> float:
        """Tokens of text per second, without the time of compilations."""
        running = self.seconds - self.compile_seconds
        return self.tokens / running if running > 0 else 0.0

    def __str__(self) -> str:
        """The numbers as one line for the log."""
        return (
            f"{self.texts} texts, {self.tokens} tokens in {self.seconds:.2f} s, "
            f"{self.tokens_per_second:.0f} tokens/s; {self.batches} batches, padding efficiency "
            f"{self.padding_efficiency:.3f}; {self.compilations} compilations in "
            f"{self.compile_seconds:.2f} s"
        )


class StatsCounter:
    """A running total of Stats, safe to share between threads."""

    def __init__(self) -> None:
        """Start from zero in every field."""
        self.total, self.lock = Stats(), Lock()

    def add(self, **numbers: float) -> None:
        """Add to the fields of `total` that are named."""
        with self.lock:
            self.total = Stats(
                **{name: value + numbers.get(name, 0) for name, value in vars(self.total).items()}
            )
