"""What can go wrong, by name; every message is one sentence that says what to do."""


class JaxbertError(Exception):
    """Base of all errors raised on purpose by this package."""


class ConfigError(JaxbertError, ValueError):
    """A configuration that does not describe an encoder we know."""


class CheckpointError(JaxbertError, ValueError):
    """A folder whose files are missing, damaged, contradictory or not understood."""


class InputError(JaxbertError, ValueError):
    """An argument whose value, shape or length cannot be used."""


class InputTypeError(JaxbertError, TypeError):
    """An argument of the wrong type."""


class InputChangedError(JaxbertError, ValueError):
    """An input that is not what it was when a run began; nothing is mixed."""


class ComputationError(JaxbertError, ArithmeticError):
    """A result that is not finite; no such vector is returned. `text` is the first such text."""

    def __init__(self, name: str, text: int) -> None:
        """name says which text it is, to a reader."""
        super().__init__(
            f"the vector of {name} is not finite; check the weights with `jaxbert verify`"
        )
        self.text = text


class DeviceMemoryError(JaxbertError, MemoryError):
    """Texts that need more memory than the device has, by an estimate made before compiling."""


class ModelNotFoundError(JaxbertError, FileNotFoundError):
    """A model name that is no folder here and could not be fetched."""
