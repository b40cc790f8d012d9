"""What every model that an engine runs says of it."""

from typing import Generic

from jaxbert.inference.engine import Engine, Model
from jaxbert.inference.planning import Planner
from jaxbert.inference.stats import Stats


class OnEngine(Generic[Model]):
    """An encoder that an engine runs."""

    engine: Engine[Model]

    @property
    def encoder(self) -> Model:
        """The encoder, whose weights the programs hold; to exchange it, make another model."""
        return self.engine.encoder

    @property
    def planner(self) -> Planner:
        """What decides the shapes of batches."""
        return self.engine.planner

    @property
    def compilations(self) -> int:
        """How many shapes have been compiled, or read from the cache, so far."""
        return self.engine.compilations

    @property
    def stats(self) -> Stats:
        """What has been computed so far; subtract an earlier one to see what was done since."""
        return self.engine.stats
