"""The code in README and notes runs, in order, one page at a time."""

import re
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "notes").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page):
    return BLOCK.findall(page.read_text(encoding="utf-8"))


WITH_CODE = [page for page in PAGES if blocks(page)]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_code_runs(page, tmp_path, monkeypatch):
    """Under JAX's ordinary settings, for readers do not set the strict ones of these tests."""
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": page.stem}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for number, block in enumerate(blocks(page), start=1):
            exec(compile(block, f"{page.name}, block {number}", "exec"), namespace)


def test_pages_with_code_are_found():
    assert len(WITH_CODE) >= 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_nothing_is_left_to_be_filled_in(page):
    assert "@@" not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_lines_of_the_page_of_families_are_in_their_files():
    page = ROOT / "notes" / "09-families.md"
    quoted = re.findall(r"\| `([^`]+)` in \[\S+\]\((\S+)\) \|", page.read_text(encoding="utf-8"))
    assert len(quoted) > 12
    for line, file in quoted:
        assert line in (page.parent / file).read_text(encoding="utf-8"), line


def test_the_parity_table_of_the_readme_is_that_of_the_note():
    note = (ROOT / "notes" / "02-parity.md").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme[readme.index("## Parity") : readme.index("## Reading order")]
    for number in re.findall(r"\d\.\de-\d\d", section):
        assert number in note, number


def test_the_figures_of_long_texts_in_the_readme_are_those_of_the_note():
    note = (ROOT / "notes" / "05-attention.md").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme[readme.index("## Long texts") : readme.index("## On a CPU")]
    figures = re.findall(r"[\d.]+ s, [\d.]+ GiB", section)
    assert len(figures) == 5
    for figure in figures:
        assert figure in note, figure


def test_the_figures_of_the_cpu_in_the_readme_are_those_of_the_note():
    note = (ROOT / "notes" / "06-cpu.md").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme[readme.index("## On a CPU") : readme.index("## Parity")]
    figures = re.findall(r"\| (\d{4,5}) ", section)
    assert len(figures) == 28
    for figure in figures:
        assert f"| {figure} " in note, figure


def test_the_book_has_all_chapters():
    """make book builds it; a chapter that its list lacks would be a page that nobody finds."""
    listed = (ROOT / "notes" / "book" / "mkdocs.yml").read_text(encoding="utf-8")
    for page in PAGES:
        assert f"{page.relative_to(ROOT).as_posix()}\n" in listed, page.name
