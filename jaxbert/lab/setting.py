"""What decides about a model of `jaxbert lab extrapolate`, beside scheme, seed and texts."""

from dataclasses import asdict, dataclass
from typing import Any

from jaxbert.arguments import choice, integer
from jaxbert.errors import InputError
from jaxbert.lab.schemes import Sizes

# What stands at the ends of a row: nothing, [CLS] before it, or [CLS] and [SEP].
SPECIAL = ("none", "cls", "both")


@dataclass(frozen=True)
class Setting:
    """All numbers that decide about a result, beside the scheme, the seed and the texts.

    steps of training, or seconds of it; lengths are counted without special symbols.
    """

    length: int = 64
    lengths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    steps: int | None = 1000
    seconds: float | None = None
    special: str = "none"
    batch: int = 16
    share: float = 0.3
    rate: float = 3e-3
    layers: int = 2
    width: int = 64
    heads: int = 4
    std: float = 0.02

    def __post_init__(self) -> None:
        """Raise InputError for numbers that do not fit together."""
        for name in ("length", "batch", "layers", "width", "heads"):
            integer(getattr(self, name), f"--{name}", 1)
        choice(self.special, "--special", SPECIAL)
        if self.width % (2 * self.heads):
            raise InputError(
                f"--width {self.width} does not give {self.heads} heads of an even width; choose "
                f"a multiple of {2 * self.heads}"
            )
        if self.seconds is None:
            integer(self.steps, "--steps", 2)
        elif not 0 < self.seconds < float("inf"):
            raise InputError(f"--seconds is {self.seconds}; it must be positive")
        for own in self.lengths:
            if own % self.length or max(self.lengths) % own:
                raise InputError(
                    f"--lengths has {own}; each must be a multiple of --length {self.length} and "
                    f"divide the longest, {max(self.lengths)}"
                )
        if self.lengths[0] != self.length:
            raise InputError(f"--lengths must begin with --length, {self.length}")

    @property
    def ends(self) -> int:
        """How many special symbols a row has."""
        return SPECIAL.index(self.special)

    @property
    def sizes(self) -> Sizes:
        """What schemes are made for."""
        return Sizes(self.heads, self.width, max(self.lengths) + self.ends, self.std)

    def described(self) -> dict[str, Any]:
        """The numbers of a record by name."""
        return asdict(self) | {"lengths": list(self.lengths)}
