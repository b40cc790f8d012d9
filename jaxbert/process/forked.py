"""Detects a fork after JAX had started: the child lacks JAX's threads and would wait for ever.

Imports neither JAX nor NumPy: it is registered when jaxbert is imported.
"""

import os
import sys
import threading
from pathlib import Path

from jaxbert.errors import ForkedProcessError

# Linux lists the threads of a process here, those of C++ libraries too.
THREADS = Path("/proc/self/task")


class Marks:
    """`forked`: whether this process or an ancestor of it was forked while JAX was running."""

    def __init__(self) -> None:
        """Examine the process as it is now, and register for forks from now on."""
        self.forked = jax_runs() and only_python_threads()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.in_child)

    def in_child(self) -> None:
        """Update `forked` in a new child, which has the state of its parent."""
        self.forked = self.forked or jax_runs()


def jax_runs() -> bool:
    """Whether a backend of JAX has been started.

    Reads JAX's table without its lock, which a thread may hold that a forked child does not have.
    """
    return bool(getattr(sys.modules.get("jax._src.xla_bridge"), "_backends", None))


def only_python_threads() -> bool:
    """Whether all threads of the process are Python's; a running JAX has threads of its own.

    Detects a fork before jaxbert was imported. False where the threads cannot be counted.
    """
    try:
        return len(list(THREADS.iterdir())) <= threading.active_count()
    except OSError:
        return False


marks = Marks()


def check_not_forked() -> None:
    """Raise ForkedProcessError in a process where JAX would wait for ever."""
    if marks.forked:
        raise ForkedProcessError(
            "this process was forked after JAX had begun to run, so JAX would wait here for ever; "
            "start workers with spawn, or load the model in each worker before anything uses JAX"
        )
