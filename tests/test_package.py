"""The package as a whole: quick to import, imports without a circle, no torch."""

import ast
import importlib.util
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import jaxbert

ROOT = Path(jaxbert.__file__).parents[1]
PACKAGE = ROOT / "jaxbert" / "__init__.py"  # only names where things are
SOURCES = sorted(file for file in (ROOT / "jaxbert").rglob("*.py") if file != PACKAGE)


def module_name(file):
    parts = file.relative_to(ROOT / "jaxbert").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imported(file):
    """The modules of jaxbert that a file imports, at any depth of the code."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "jaxbert":
            inside = (node.module or "").removeprefix("jaxbert").removeprefix(".")
            yield from [inside] if inside else (name.name for name in node.names)


# A room, or a face beside the rooms, imports only what stands before it.
ROOMS = (
    "errors model arguments process checkpoint text graphs inference encoder copying portable "
    "portable_kinds masked_lm cross_encoder multi_vector embedder search compat verify corpus "
    "train lab bench mteb serve cli"
).split()


def room(module):
    return module.split(".")[0]


@pytest.mark.parametrize("file", SOURCES, ids=module_name)
def test_a_room_imports_only_rooms_before_it(file):
    known = ROOMS[: ROOMS.index(room(module_name(file))) + 1]
    assert {room(module) for module in imported(file)} <= {*known, "__version__"}


def test_imports_have_no_circle():
    modules = {module_name(file) for file in SOURCES}
    graph = {module_name(file): modules & set(imported(file)) for file in SOURCES}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("file", SOURCES, ids=module_name)
def test_what_is_imported_is_there(file):
    missing = set(imported(file)) - {"__version__", *map(module_name, SOURCES)}
    assert not missing


USERS = [file for place in ("convert", "notes", "tests") for file in (ROOT / place).rglob("*.py")]


@pytest.mark.parametrize("file", USERS, ids=lambda file: str(file.relative_to(ROOT)))
def test_what_programs_beside_the_package_import_is_there(file):
    """Also in those that no test runs, such as benchmarks and figures."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "jaxbert":
            module = importlib.import_module(node.module)
            for name in (alias.name for alias in node.names):
                inner = f"{node.module}.{name}"
                assert hasattr(module, name) or importlib.util.find_spec(inner), inner


REFERENCE = [file for file in SOURCES if module_name(file).startswith("model.reference")]


def test_reference_imports_nothing_else_of_jaxbert():
    assert len(REFERENCE) > 8
    own = set(map(module_name, REFERENCE))
    for file in REFERENCE:
        assert set(imported(file)) <= own, file


def test_importing_jaxbert_imports_nothing_heavy_and_using_it_no_torch():
    code = """
import sys, jaxbert
heavy = [m for m in ("jax", "numpy", "flax", "tokenizers", "huggingface_hub") if m in sys.modules]
for name in jaxbert.__all__: getattr(jaxbert, name)
import jaxbert.verify.report, jaxbert.cli, jaxbert.model.position_schemes
print(heavy, [m for m in ("torch", "transformers", "huggingface_hub") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "[] []\n", done.stderr


def test_public_names():
    assert set(jaxbert.__all__) <= set(dir(jaxbert))
    with pytest.raises(AttributeError, match="no attribute 'Embeder'"):
        _ = jaxbert.Embeder
    assert (ROOT / "jaxbert" / "py.typed").is_file()


@pytest.mark.parametrize("file", [*SOURCES, PACKAGE], ids=lambda file: str(file.relative_to(ROOT)))
def test_docstrings_say_something(file):
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for node in ast.walk(ast.parse(file.read_text())):
        words = (isinstance(node, kinds) and ast.get_docstring(node)) or ""
        assert not words or len(words.split()) > 4, words
