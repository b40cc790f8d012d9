"""Notices a fork after JAX had begun to run: the child lacks JAX's threads and would wait for ever.

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
    """Whether this process, or one that it descends from by forks, was forked with JAX running."""

    def __init__(self) -> None:
        """Judge the process as it is now, and watch forks from now on."""
        self.forked = jax_runs() and only_python_threads()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.in_child)

    def in_child(self) -> None:
        """What a new child inherits is the state of its parent."""
        self.forked = self.forked or jax_runs()


def jax_runs() -> bool:
    """Whether a backend of JAX has been started.

    Reads the table itself, for its lock may be held by a thread that a forked child does not have.
    """
    return bool(getattr(sys.modules.get("jax._src.xla_bridge"), "_backends", None))


def only_python_threads() -> bool:
    """Whether no thread but Python's own is there; JAX keeps some of its own while it lives.

    Tells a fork that happened before jaxbert was imported. False where nobody can say.
    """
    try:
        return len(list(THREADS.iterdir())) <= threading.active_count()
    except OSError:
        return False


marks = Marks()


def check_not_forked() -> None:
    """Refuse to compute where JAX would never answer. Raises ForkedProcessError."""
    if marks.forked:
        raise ForkedProcessError(
            "this process was forked after JAX had begun to run, so JAX would wait here for ever; "
            "start workers with spawn, or load the model in each worker before anything uses JAX"
        )
