"""How far a float32 vector moves with its batch mates is one number, wherever it is written."""

import re
from pathlib import Path

import pytest

from tests.tolerances import COMPANY, ENCODER, MINILM, VISIBLE

ROOT = Path(__file__).parents[2]
WRITTEN = ["jaxbert/embedder.py", "jaxbert/corpus/ray.py", "notes/02-parity.md"]
WRITTEN += ["notes/07-cookbook.md", "notes/decisions.md"]


@pytest.mark.parametrize("page", WRITTEN)
def test_the_promise_is_what_the_tests_allow(page):
    words = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    numbers = re.findall(r"(\d(?:\.\d)?e-\d+) of (?:the vector's|its) norm", words)
    assert any(float(number) == COMPANY for number in numbers), numbers


def test_a_mistake_is_larger_than_any_tolerance():
    assert max(COMPANY, ENCODER, MINILM) * 10 <= VISIBLE
