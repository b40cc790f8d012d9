"""Failures of the tokenizers library as errors of this package."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jaxbert.errors import JaxbertError, shown


@contextmanager
def caught(explain: Callable[[str], JaxbertError]) -> Iterator[None]:
    """A context in which explain(message) is raised for any error of the library.

    It raises bare Exceptions, and its Rust code may panic: a BaseException of a class that cannot
    be imported. Interrupts and MemoryError pass unchanged.
    """
    try:
        yield
    except (JaxbertError, MemoryError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise explain(shown(str(error))[1:-1]) from error
