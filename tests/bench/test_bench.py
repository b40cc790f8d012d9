"""`jaxbert bench`: turns, times and differences by hand, and the command on small models."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from jaxbert.bench import command, measuring, table, texts
from jaxbert.bench.measuring import Candidate, LeftOut, Loaded, Timed
from jaxbert.bench.subjects import SUBJECTS, Subject
from jaxbert.cli import main
from jaxbert.errors import DeviceMemoryError, EngineError, InputError
from jaxbert.inference.planning import ByLength
from jaxbert.inference.stats import Stats
from tests.models import GOLDEN, write_folder, write_late

ROWS = ["a b c", "x y", "d e f g h i j k l m n", "a", "q r s t", "c b a", "h i"]
EMBEDDER = SUBJECTS["Embedder"]


class Clock:
    """Seconds that go on when a model computes."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


class Slow:
    """A model that takes `seconds` for an item, and more for the first list."""

    def __init__(self, clock, name, seconds, result, log):
        self.clock, self.name, self.seconds, self.log = clock, name, seconds, log
        self.result, self.stats = np.float32(result), Stats()
        self.engine = SimpleNamespace(planner=ByLength(compiling=7))

    def run(self, items):
        self.log.append((self.name, len(items)))
        self.clock.now += self.seconds * len(items) + (5.0 if not self.stats.texts else 0.0)
        self.stats = Stats(self.stats.texts + len(items), self.stats.tokens + 3 * len(items))
        return [self.result * np.ones(2, np.float32) for _ in items]


@pytest.fixture
def slow(monkeypatch):
    """(subject, two models, the log of what ran)."""
    clock, log = Clock(), []
    monkeypatch.setattr(measuring, "time", clock)
    subject = Subject("Embedder", "text", list, lambda model, items: model.run(items))
    models = [
        Loaded(Candidate("jax", "float32"), Slow(clock, "first", 0.25, 2.0, log), 1.5),
        Loaded(Candidate("jax", "bfloat16"), Slow(clock, "second", 0.125, 1.5, log), 2.5),
    ]
    return subject, models, log


def test_models_take_turns_and_each_begins_a_round(slow):
    subject, models, log = slow
    (first, second), left_out = measuring.measured(subject, models, list("abcdefg"), "z", 0.01)
    assert left_out == []
    lists = [name for name, count in log if count == 7]
    assert lists == "first first second second  first second  second first  first second".split()
    # The first list is a new user's, the others are those of a model that has seen many texts.
    assert all(own.model.engine.planner == ByLength(compiling=0) for own in models)
    assert first == Timed(
        Candidate("jax", "float32"), 1.5, 5 + 7 / 4, (7 / 4,) * 3, (0.25,) * 3, 21, 0.0
    )
    assert second.lists == (7 / 8,) * 3
    assert second.singles == (0.125,) * 3
    assert second.difference == 0.25  # of 2, which is the largest number of the first
    assert (first.speed, second.speed) == (12.0, 24.0)


def test_rounds_go_on_until_the_time_has_passed(slow):
    subject, models, _ = slow
    a_round = (7 + measuring.SINGLES) * (0.25 + 0.125)
    found, _ = measuring.measured(subject, models, list("abcdefg"), "z", 10.5 * a_round)
    assert [len(own.lists) for own in found] == [11, 11]


def test_what_cannot_compute_the_texts_is_left_out_unless_it_is_the_first(slow):
    subject, models, _ = slow

    def fail(items):
        raise DeviceMemoryError("no room\n for this")

    models[1].model.run = fail
    (first,), left_out = measuring.measured(subject, models, list("abcdefg"), "z", 0.01)
    assert left_out == [LeftOut(models[1].candidate, "no room for this")]
    assert len(first.lists) == 3
    with pytest.raises(DeviceMemoryError):
        measuring.measured(subject, models[::-1], list("abcdefg"), "z", 0.01)


def test_more_items_where_a_model_is_fast(slow):
    subject, models, _ = slow
    for own in models:
        subject.run(own.model, ["warm"])
    slower, faster = (measuring.enough(subject, own.model, list(range(999)), 25) for own in models)
    assert (slower, faster) == (100, 200)
    assert measuring.enough(subject, models[0].model, [1, 2, 3], 1e-6) == measuring.GUESSED


def test_the_guess_is_from_items_of_all_the_list(slow):
    subject, (own, _), _ = slow
    seen = []
    own.model.run = seen.extend
    with pytest.raises(ZeroDivisionError):
        measuring.enough(subject, own.model, list(range(160)), 1)
    assert seen[:16] == list(range(0, 160, 10))


def test_a_difference_is_seen_in_any_array():
    exact = [np.array([1.0, -4.0]), np.array([2.0, 0.0])]
    assert measuring.difference(exact, exact) == 0
    assert measuring.difference([exact[0], np.array([2.0, 1.0])], exact) == 0.25


def test_what_does_not_load_is_left_out_with_its_reason_unless_it_is_the_first(monkeypatch):
    def load(self, engine, dtype, **_):
        if engine == "openvino":
            raise EngineError("no\n  such thing")
        return SimpleNamespace(engine=engine)

    monkeypatch.setattr(Subject, "load", load)
    ways = [Candidate("jax", "float32"), Candidate("openvino", "float32")]
    first, second = measuring.loaded(EMBEDDER, ways, name="x")
    assert first.model.engine == "jax"
    assert second == LeftOut(ways[1], "no such thing")
    with pytest.raises(EngineError):
        list(measuring.loaded(EMBEDDER, ways[::-1], name="x"))


def timed(dtype, seconds):
    return Timed(Candidate("jax", dtype), 1.0, 2.0, (seconds,) * 3, (0.01,) * 3, 100, 0.0)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.5, '2.00 times the default: Embedder.from_pretrained(..., engine="jax", dtype="bf'),
        (0.98, "nothing here is faster than the default: Embedder.from_pretrained(..., eng"),
        (3.0, "nothing here is faster than the default"),
    ],
)
def test_what_follows_is_said_only_beyond_noise(seconds, said):
    both = [timed("float32", 1.0), timed("bfloat16", seconds)]
    bench = table.Bench("title", EMBEDDER, 7, 11, both, [])
    assert table.shown(bench).splitlines()[-1].startswith(said)


def test_the_texts_of_python_are_of_many_lengths():
    found = texts.python_paragraphs()
    words = sorted(len(text.split()) for text in found)
    assert len(set(found)) == len(found) > 1000
    assert words[0] < 5
    assert words[len(words) // 2] in range(15, 100)
    assert words[-1] > 200


def test_texts_are_taken_at_equal_distances():
    assert texts.spread("abcdefghijk", 4) == ["a", "c", "f", "i"]
    assert texts.spread("abc", 7) == ["a", "b", "c"]


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Models of each class, and texts."""
    folder = tmp_path_factory.mktemp("bench")
    write_folder(folder / "embedder", "jinabert-geglu")
    write_late(folder / "late")
    (folder / "texts.txt").write_text("\n".join(ROWS))
    return folder


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    return place


def bench(capsys, model, *more, status=0):
    given = ["bench", str(model), "--texts", "texts.txt", "--seconds", "0.01", *more]
    capsys.readouterr()
    assert main(given) == status
    found = capsys.readouterr()
    return found.out if status == 0 else found.err


@pytest.mark.parametrize("model", ["embedder", "late", "bert-cross-encoder"])
def test_each_class_of_models_has_a_table(here, capsys, monkeypatch, model):
    monkeypatch.setattr(command, "CANDIDATES", command.CANDIDATES[:2])
    name = GOLDEN / model if model == "bert-cross-encoder" else here / model
    out = bench(capsys, name, "--json", f"{model}.json").splitlines()
    item = "pair" if model == "bert-cross-encoder" else "text"
    assert f"7 {item}s of " in out[1]
    assert "3 rounds" in out[1]
    assert out[3].split()[:3] == ["engine", "dtype", "tokens/s"]
    assert [line.split()[:2] for line in out[4:6]] == [["jax", "float32"], ["jax", "bfloat16"]]
    found = json.loads((here / f"{model}.json").read_text())
    exact, rounded = found["timed"]
    assert exact["difference"] == 0
    assert 0 < rounded["difference"] < 0.1
    assert exact["tokens"] == rounded["tokens"] > 7
    assert all(seconds > 0 for own in (exact, rounded) for seconds in own["lists"])


def test_what_is_not_installed_is_left_out(here, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    out = bench(capsys, "embedder")
    assert "left out: openvino float32: " in out
    assert 'pip install "jaxbert[openvino]"' in out


def test_a_picture(here, monkeypatch):
    monkeypatch.undo()
    pytest.importorskip("matplotlib")
    file = here / "bench.png"
    both = [timed("float32", 1.0), timed("bfloat16", 0.5)]
    table.draw(table.Bench("title", EMBEDDER, 7, 11, both, []), file)
    assert file.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--seconds", "0"], "--seconds is 0.0"),
        (["--seconds", "nan"], "--seconds is nan"),
        (["--texts", "none.txt"], "none.txt"),
        (["--json", "nowhere/at/all.json"], "nowhere/at/all.json cannot be written"),
        (["--picture", "nowhere/a.png"], "nowhere/a.png cannot be written"),
        (["--picture", ""], "a file"),
    ],
)
def test_bad_options_are_one_sentence(here, capsys, monkeypatch, more, said):
    monkeypatch.setattr(command, "measured", None)  # nothing is timed
    err = bench(capsys, "embedder", *more, status=1)
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_file_of_blank_lines_has_no_text(here, capsys):
    (here / "blank.txt").write_text("\n \n")
    assert "has no text" in bench(capsys, "embedder", "--texts", "blank.txt", status=1)


def test_a_model_that_only_fills_words_of_another_family_is_refused():
    from jaxbert.bench.subjects import subject_of
    from jaxbert.checkpoint.kinds import OTHER, Task

    with pytest.raises(InputError, match="model of another task"):
        subject_of(Task("folder", OTHER, "a sign"))
