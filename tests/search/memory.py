"""The memory that NumPy takes while something is computed."""

import tracemalloc
from collections.abc import Callable
from typing import Any


def traced(call: Callable[[], Any]) -> tuple[Any, int]:
    """What call gives, and the most bytes that were allocated at once meanwhile."""
    tracemalloc.start()
    try:
        return call(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
