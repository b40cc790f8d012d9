"""The examples of notes/07-cookbook.md that need another package, where it is installed."""

import importlib
import os
import re
from pathlib import Path

import jax
import pytest

# Other people's packages warn of each other.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

PAGE = Path(__file__).parents[2] / "notes" / "07-cookbook.md"
FENCE = re.compile(r"^```(\S[^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = FENCE.findall(PAGE.read_text(encoding="utf-8"))
FIRST = BLOCKS[0][1]  # loads the model; every example stands on it alone
NEEDING = {
    head.removeprefix("python needs="): code
    for head, code in BLOCKS
    if head.startswith("python needs=")
}


def import_or_skip(package):
    """Import a package; one that is not there is left out, but not where all are to be there."""
    if os.environ.get("JAXBERT_RECIPES") == "all":
        return importlib.import_module(package)
    return pytest.importorskip(package)


def run(title, code, namespace):
    """Under JAX's ordinary settings, for readers do not set the strict ones of these tests."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(compile(code, f"{PAGE.name}, {title}", "exec"), namespace)


@pytest.mark.parametrize("package", NEEDING)
def test_an_example_runs_where_its_package_is(package, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MTEB_CACHE", str(tmp_path))
    import_or_skip(package)
    namespace = {"__name__": PAGE.stem}
    run("the first block", FIRST, namespace)
    run(package, NEEDING[package], namespace)


def test_every_block_of_code_is_run_or_names_what_it_needs():
    heads = [head for head, _ in BLOCKS]
    needing = [head for head in heads if head != "python"]
    assert all(re.fullmatch(r"python needs=\w+", head) for head in needing), needing
    assert len(set(needing)) == len(needing) == len(NEEDING)
    wanted = (
        "faiss langchain_core llama_index haystack txtai setfit chromadb keybert bertopic chonkie"
    )
    assert {*wanted.split(), "usearch", "sklearn", "mteb"} <= NEEDING.keys()


@pytest.mark.parametrize("package", NEEDING)
def test_an_example_with_a_package_checks_what_it_gets(package):
    assert "\nassert " in NEEDING[package]
