"""What has been embedded so far: texts, tokens, batches, compilations, seconds."""

from dataclasses import dataclass
from threading import Lock


@dataclass(frozen=True)
class Stats:
    """What has been embedded so far; differences of two are those of the calls between them."""

    texts: int = 0
    tokens: int = 0  # special tokens included
    slots: int = 0  # tokens that the batches had room for
    batches: int = 0
    compilations: int = 0
    compile_seconds: float = 0.0
    seconds: float = 0.0  # of encode and warmup in all, compilations included

    def __sub__(self, before: "Stats") -> "Stats":
        """What was done since then."""
        mine, theirs = vars(self), vars(before)
        return Stats(**{name: mine[name] - theirs[name] for name in mine})

    @property
    def padding_efficiency(self) -> float:
        """tokens / slots: the share of the computed tokens that are text; 1 before any."""
        return self.tokens / self.slots if self.slots else 1.0

    @property
    def tokens_per_second(self) -> float:
        """Tokens of text per second, without the time of compilations."""
        running = self.seconds - self.compile_seconds
        return self.tokens / running if running > 0 else 0.0

    def __str__(self) -> str:
        """One line for the log."""
        return (
            f"{self.texts} texts, {self.tokens} tokens in {self.seconds:.2f} s, "
            f"{self.tokens_per_second:.0f} tokens/s; {self.batches} batches, padding efficiency "
            f"{self.padding_efficiency:.3f}; {self.compilations} compilations in "
            f"{self.compile_seconds:.2f} s"
        )


class StatsCounter:
    """Stats that grow; threads may share it."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.total, self.lock = Stats(), Lock()

    def add(self, **numbers: float) -> None:
        """Add to some of the numbers."""
        with self.lock:
            self.total = Stats(
                **{name: value + numbers.get(name, 0) for name, value in vars(self.total).items()}
            )
