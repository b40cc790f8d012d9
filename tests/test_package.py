"""The package as a whole: quick to import, one direction of imports, no torch, short files."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import jaxbert

ROOT = Path(jaxbert.__file__).parents[1]
PACKAGE = ROOT / "jaxbert" / "__init__.py"  # only names where things are
SOURCES = sorted(file for file in (ROOT / "jaxbert").rglob("*.py") if file != PACKAGE)
# Each module imports only those before it.
ORDER = (
    "errors axes reference config hub rules storage huggingface checkpoint modules stack "
    "pieces layers variants position schemes attention.dense attention.online attention.tiles "
    "attention.backward attention.blockwise attention.kernel attention.tpu attention.gpu "
    "attention memory parts inputs loading saving encoder unrolled pooling arguments "
    "tokenizer similarity quantise outputs chunking settings batches batching cache runner "
    "spread engine request embedder mteb verify published report textio corpus corpus.fields "
    "corpus.tables corpus.rows corpus.columns corpus.files corpus.parquet corpus.formats "
    "corpus.folder corpus.parts corpus.survey corpus.progress corpus.settings corpus.run "
    "corpus.ray corpus.command cli"
).split()
READING_PATH = ("axes", "layers", "position", "attention/dense", "parts", "encoder")


def module_name(file):
    parts = file.relative_to(ROOT / "jaxbert").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imported(file):
    """The modules of jaxbert that a file imports, at any depth of the code."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "jaxbert":
            inside = (node.module or "").removeprefix("jaxbert").removeprefix(".")
            yield from [inside] if inside else (name.name for name in node.names)


@pytest.mark.parametrize("file", SOURCES, ids=module_name)
def test_imports_point_one_way(file):
    name = module_name(file)
    for other in imported(file):
        if other != "__version__":
            assert ORDER.index(other) < ORDER.index(name), f"{name} imports {other}"


def test_every_module_has_its_place():
    assert sorted(ORDER) == sorted(map(module_name, SOURCES))


def test_reference_imports_nothing_of_jaxbert():
    assert not list(imported(ROOT / "jaxbert" / "reference.py"))


def test_the_path_from_notation_to_encoder_can_be_read_in_one_sitting():
    files = [ROOT / "jaxbert" / f"{name}.py" for name in READING_PATH]
    assert sum(len(file.read_text().splitlines()) for file in files) < 700


@pytest.mark.parametrize("file", SOURCES, ids=module_name)
def test_files_are_short(file):
    assert len(file.read_text().splitlines()) <= 300


def test_importing_jaxbert_imports_nothing_heavy_and_using_it_no_torch():
    code = """
import sys, jaxbert
heavy = [m for m in ("jax", "numpy", "flax", "tokenizers", "huggingface_hub") if m in sys.modules]
for name in jaxbert.__all__: getattr(jaxbert, name)
import jaxbert.report, jaxbert.cli, jaxbert.model.position_schemes
print(heavy, [m for m in ("torch", "transformers", "huggingface_hub") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "[] []\n", done.stderr


def test_public_names():
    assert set(jaxbert.__all__) <= set(dir(jaxbert))
    with pytest.raises(AttributeError, match="no attribute 'Embeder'"):
        _ = jaxbert.Embeder
    assert (ROOT / "jaxbert" / "py.typed").is_file()
