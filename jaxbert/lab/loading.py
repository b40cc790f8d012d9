"""A user's file and a name in it -> a position scheme.

The file is named on the command line by the user who wrote it, so its code runs; nothing else runs
code because a text names it.
"""

import functools
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
from flax import nnx

from jaxbert.arguments import path
from jaxbert.errors import InputError, JaxbertError, shown
from jaxbert.model.position import Bias, Position

# What a constructor may ask for by the name of its argument, and what it then gets.
HEADS = ("num_heads", "heads", "n")
WIDTH = ("hidden_size", "width", "d")
LENGTH = ("max_positions",)


class Biased(Position):
    """A scheme of nothing but a bias, for a file that has a Bias alone."""

    def __init__(self, bias: Bias) -> None:
        """The bias of all layers."""
        self.bias = bias  # type: ignore[misc]


def load(spec: str) -> tuple[str, Any]:
    """What my.py:Scheme names, and its dotted name, my:Scheme. Raises InputError."""
    file, _, name = spec.rpartition(":")
    if not file.endswith(".py"):
        raise InputError(f"{shown(spec)} names no class in a file; say it as my.py:Scheme")
    module = run_file(path(file, "a file"))
    if not hasattr(module, name):
        found = ", ".join(schemes_of(module)) or "none"
        raise InputError(f"{file} has no {shown(name)}; the schemes in it are: {found}")
    return f"{module.__name__}:{name}", getattr(module, name)


def run_file(file: Path) -> ModuleType:
    """The module that a file defines, by its name without .py. Raises InputError."""
    if not file.is_file():
        raise InputError(f"{file} is no file; name the file that has the scheme")
    name = file.stem
    place = importlib.util.spec_from_file_location(name, file)
    if place is None or place.loader is None:
        raise InputError(f"{file} cannot be loaded as Python; name a file that ends in .py")
    module = importlib.util.module_from_spec(place)
    sys.path.insert(0, str(file.resolve().parent))  # as when the file is run as a script
    known = sys.modules.get(name)
    sys.modules[name] = module  # where its dataclasses look for their module
    try:
        place.loader.exec_module(module)
    except SyntaxError as error:
        raise InputError(
            f"{error.filename}, line {error.lineno}: {error.msg}; correct the file"
        ) from error
    except (Exception, SystemExit) as error:
        raise InputError(f"{file} cannot be loaded: {reason(error)}; correct the file") from error
    finally:
        sys.path.pop(0)
        if known is not None:
            sys.modules[name] = known
    return module


def schemes_of(module: ModuleType) -> list[str]:
    """The names of the schemes and biases that a file defines itself."""
    return [
        name
        for name, value in vars(module).items()
        if is_scheme(value) and value.__module__ == module.__name__
    ]


def is_scheme(value: Any) -> bool:
    """Whether this is a class of schemes, or of biases."""
    return inspect.isclass(value) and issubclass(value, Position | Bias)


def maker(title: str, found: Any, *, heads: int, width: int, length: int) -> Callable[[], Position]:
    """A function that makes the scheme anew, each time with the same arguments.

    found is a class of schemes or biases, or a function that gives one. Raises InputError for
    anything else, and for arguments that nobody here knows.
    """
    if not is_scheme(found) and (inspect.isclass(found) or not callable(found)):
        kind = "a class" if inspect.isclass(found) else f"a {type(found).__name__}"
        raise InputError(f"{title} is {kind} and no jaxbert.Position or jaxbert.Bias; derive it")
    numbers = dict.fromkeys(HEADS, heads) | dict.fromkeys(WIDTH, width)
    names = arguments(title, found, numbers | dict.fromkeys(LENGTH, length))

    def make() -> Position:
        rngs = {"rngs": nnx.Rngs(0)} if "rngs" in names else {}
        try:
            scheme = found(**{key: value for key, value in names.items() if key != "rngs"}, **rngs)
        except JaxbertError:
            raise
        except Exception as error:
            raise InputError(f"{title} cannot be made: {reason(error)}") from error
        if not isinstance(scheme, Position | Bias):
            raise InputError(f"{title} gave a {type(scheme).__name__}, which is no Position")
        check_arrays(title, scheme)
        return Biased(scheme) if isinstance(scheme, Bias) else scheme

    return make


def check_arrays(title: str, scheme: Any) -> None:
    """Refuse a weight that is a number of Python, which has no shape and no dtype."""
    for keys, leaf in jax.tree.leaves_with_path(scheme):
        if not hasattr(leaf, "dtype"):
            name = jax.tree_util.keystr(keys, simple=True, separator=".").removesuffix(".value")
            raise InputError(
                f"{title} holds {name} = {shown(leaf)}, which is no array; make it one, such as "
                "nnx.Param(jnp.full(num_heads, 0.5))"
            )


def arguments(title: str, found: Any, known: Mapping[str, int]) -> dict[str, Any]:
    """The arguments of a constructor that have no default, with values; InputError for others."""
    # That of a module's class is nnx's own.
    constructor = functools.partial(found.__init__, None) if inspect.isclass(found) else found
    try:
        parameters = inspect.signature(constructor).parameters.values()
    except (TypeError, ValueError):  # written in C
        return {}
    free = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [one.name for one in parameters if one.kind not in free and one.default is one.empty]
    for name in needed:
        if name not in known and name != "rngs":
            raise InputError(
                f"{title} needs {name}, which is not known here; give it a default, or name a "
                f"function without it that returns the scheme (known: {', '.join(known)}, rngs)"
            )
    return {name: known.get(name) for name in needed}


def reason(error: BaseException) -> str:
    """The kind of an error and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
