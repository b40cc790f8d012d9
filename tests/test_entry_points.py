"""Whatever is passed to a public entry point, no exception of a foreign library comes back."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import jaxbert
from jaxbert import (
    AsyncCrossEncoder,
    AsyncEmbedder,
    CrossEncoder,
    Embedder,
    Encoder,
    MaskedLM,
    MultiVectorEncoder,
)
from tests.entry_points import CALLS, SETTINGS

ROOT = Path(__file__).parents[1]
# Names that are no calls with arguments: bases to be subclassed, records, the version.
PLAIN = {"__version__", "Bias", "Position", "JaxbertError", "TokenEmbeddings"}
# Steps of others, which get what those have checked.
INNER = {
    *("Embedder.change", "Embedder.finish", "Embedder.request", "Embedder.check_width"),
    *("MultiVectorEncoder.check_options", "MultiVectorEncoder.prompt"),
    *("MultiVectorEncoder.set_length", "MultiVectorEncoder.vectors"),
    *("CrossEncoder.request", "CrossEncoder.from_opened"),
    *("MaskedLM.answer", "MaskedLM.ids_of", "MaskedLM.probabilities"),
    *("Embedder.check_prompts", "Encoder.run", "Encoder.prepared", "Encoder.from_checkpoint"),
    *(
        "Encoder.forward",
        "Encoder.forward_embeddings",
        "Encoder.forward_states",
        "Encoder.forward_attentions",
    ),
    *(
        f"{kind}.{step}"
        for kind in ("AsyncEmbedder", "AsyncCrossEncoder")
        for step in ("admitted", "check_room", "check_work", "computed", "drop", "in_thread")
    ),
    *(
        f"{kind}.{step}"
        for kind in ("AsyncEmbedder", "AsyncCrossEncoder")
        for step in ("lane", "prepared", "shares", "tokenised", "too_late")
    ),
    *("AsyncEmbedder.answered", "AsyncEmbedder.new_rows", "AsyncEmbedder.tokenizer"),
    "AsyncCrossEncoder.programs",
}
# In one process each, for it takes seconds to begin.
OTHERS = ("Async", "C", "E", "M", "jaxbert ")
GROUPS = {
    "numbers": [name for name in CALLS if not name.startswith(OTHERS)],
    "queue": [name for name in CALLS if name.startswith("Async")],
    "encoder": [name for name in CALLS if name.startswith("Encoder")],
    "embedder": [name for name in CALLS if name.startswith("Embedder")],
    "cross_encoder": [name for name in CALLS if name.startswith("CrossEncoder")],
    "masked_lm": [name for name in CALLS if name.startswith("MaskedLM")],
    "multi_vector": [name for name in CALLS if name.startswith("MultiVectorEncoder")],
    "command": [name for name in CALLS if name.startswith("jaxbert ")],
}


def methods(kind):
    """The public methods with arguments that the package gives a class, and its setters."""
    for name in dir(kind):
        homes = [home for home in kind.__mro__ if name in vars(home)]
        if name.startswith("_") or not homes or not homes[0].__module__.startswith("jaxbert"):
            continue
        value = inspect.getattr_static(kind, name)
        if isinstance(value, property):
            if value.fset is not None:
                yield f"{kind.__name__}.{name} ="
        elif callable(getattr(kind, name)):
            bound = isinstance(value, classmethod)
            if len(inspect.signature(getattr(kind, name)).parameters) > (0 if bound else 1):
                yield f"{kind.__name__}.{name}"


def test_every_entry_point_is_tried():
    known = {*CALLS, *INNER}
    faces = (Embedder, Encoder, CrossEncoder, MaskedLM, MultiVectorEncoder)
    faces += (AsyncEmbedder, AsyncCrossEncoder)
    for kind in (*faces, jaxbert.Ranges, jaxbert.EncoderConfig):
        assert set(methods(kind)) - known == set(), "give it right arguments in entry_points.py"
    assert set(jaxbert.__all__) - known - PLAIN == set()
    assert {f"Embedder.{name} =" for name in SETTINGS} <= set(methods(Embedder))
    assert sorted(name for group in GROUPS.values() for name in group) == sorted(CALLS)


@pytest.mark.parametrize("group", GROUPS)
def test_broken_arguments_are_refused_with_errors_of_the_package(group):
    found = subprocess.run(
        [sys.executable, "-m", "tests.entry_points", *GROUPS[group]],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAXBERT_CACHE": "off"},
        capture_output=True,
        text=True,
    )
    lines = found.stdout.splitlines()
    assert [line for line in lines if not line.startswith("done ")] == []
    assert [line[5:] for line in lines] == GROUPS[group], found.stderr[-2000:]
