"""`jaxbert lab extrapolate`: what is asked at each length, runs, tables, and broken input."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxbert import cli
from jaxbert.errors import InputError
from jaxbert.lab import extrapolate_command
from jaxbert.lab.extrapolate import Experiment, Result, answers, questions
from jaxbert.lab.material import BEFORE, BEHIND, MASK, OTHER, apart, characters, material, tokens
from jaxbert.lab.schemes import NAMED, Asymmetric, scheme
from jaxbert.lab.setting import Setting
from jaxbert.lab.table import Spread, Table, read, shown, write

ROOT = Path(__file__).parents[2]
SMALL = {"length": 8, "lengths": (8, 16, 32), "batch": 3, "layers": 1, "width": 8, "heads": 2}
TINY = Setting(**SMALL | {"lengths": (8, 32)}, steps=4)
OPTIONS = "--length 8 --lengths 8,32 --batch 3 --layers 1 --width 8 --heads 2 --steps 4".split()

MINE = """
import jax.numpy as jnp
from jaxbert import Bias, Position


class Near(Bias):
    def __init__(self, num_heads):
        self.slopes = jnp.ones(num_heads)

    def __call__(self, pos_q, pos_k):
        return -self.slopes * jnp.abs(pos_q[:, None] - pos_k[None, :])


class Few(Position):
    limit = 13


class Crooked(Bias):
    def __init__(self, num_heads):
        self.slopes = jnp.ones(num_heads)

    def __call__(self, pos_q, pos_k):
        raise KeyError("what a user may raise")
"""


@pytest.fixture(autouse=True)
def ordinary_settings():
    """As for a user's file: it need not meet the strict ones of these tests."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module")
def texts():
    """Texts of words that are drawn from a few, so that there is something to learn."""
    random = np.random.default_rng(0)
    words = "the cat sat on a mat and saw the other cats sit".split()
    return [" ".join(random.choice(words, 31)) for _ in range(41)]


@pytest.fixture(scope="module")
def small(texts):
    return material(texts, None, None, 8, 32, 5)


@pytest.fixture
def place(tmp_path, monkeypatch, texts):
    """A folder with texts and a user's file, without matplotlib."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    return tmp_path


def command(*schemes, options=OPTIONS, folder="runs", texts=("--texts", "texts.txt")):
    named = [part for own in schemes for part in ("--scheme", own)]
    return cli.main(["lab", "extrapolate", *named, *texts, *options, "-o", folder])


# --- texts ---------------------------------------------------------------------------------------


def test_characters_are_symbols_and_rare_ones_are_not():
    symbols = characters(["ab" * 99_999, "cx"])
    assert symbols.encode("abxa").tolist() == [OTHER + 1, OTHER + 2, OTHER, OTHER + 1]
    assert symbols.size == OTHER + 3


def test_tokens_are_those_of_a_tokenizer_without_special_ones(minilm):
    symbols = tokens(str(minilm))
    assert symbols.size == 30_522
    assert symbols[1:4] == (103, 101, 102)
    assert symbols.encode("hello world").tolist() == [7592, 2088]


def test_what_is_evaluated_is_never_trained_on(texts):
    last = texts[-1]
    own = material([last, *texts], None, None, 8, 32, 5)
    text = "".join(map(chr, own.rows.ravel()))
    for piece in own.pieces.reshape(-1, 16):
        assert "".join(map(chr, piece)) not in text
    seen, kept = apart(texts, 200)
    assert [*seen, *kept] == texts
    assert kept == texts[-2:]
    assert len(apart(texts, 10**6)[1]) == 5, "a tenth at most, and the text that it ends in"


def test_texts_for_evaluation_can_be_named(texts):
    own = material(texts[:30], texts[25:], None, 8, 32, 5)
    assert np.array_equal(own.rows, material(texts[:25], texts[25:], None, 8, 32, 5).rows)


# --- what is asked -------------------------------------------------------------------------------


@pytest.mark.parametrize("special", ["none", "cls", "both"])
def test_the_same_symbols_are_masked_at_every_length(small, special):
    setting = Setting(**SMALL, special=special)
    before = int(special != "none")
    found = []
    for length in setting.lengths:
        ids, places, wanted = questions(small, setting, length)
        assert ids.shape == (5, 32 // length, length + setting.ends)
        assert (np.take_along_axis(ids, places, axis=2) == MASK).all()
        assert (ids == MASK).sum() == places.size == 5 * 4 * 2
        if before:
            assert (ids[:, :, 0] == BEFORE).all()
        assert (ids[:, :, -1] == BEHIND).all() == (special == "both")
        np.put_along_axis(ids, places, wanted, axis=2)
        assert np.array_equal(ids[:, :, before : before + length].reshape(5, 32), small.pieces)
        rows = np.arange(32 // length)[None, :, None] * length
        found.append((rows + places - before).reshape(5, -1))
    assert all(np.array_equal(own, found[0]) for own in found)


class Counting(nnx.Module):
    """It knows that symbol i of a row is i modulo 8, and reads nothing."""

    def __init__(self, before):
        self.before = jnp.asarray(before)

    def forward(self, inputs):
        return jax.nn.one_hot((inputs.positions - self.before) % 8, 8) + 0 * inputs.ids[..., None]

    def logits(self, hidden, places):
        return jnp.take_along_axis(hidden, places[..., None], axis=1)

    @property
    def encoder(self):
        return self


@pytest.mark.parametrize(("special", "before"), [("none", 0), ("cls", 1), ("both", 1)])
def test_answers_are_counted_where_the_masks_are(small, special, before):
    setting = Setting(**SMALL, special=special)
    own = small._replace(pieces=np.tile(np.arange(8, dtype=np.int32), (5, 4)))
    own = own._replace(symbols=own.symbols._replace(mask=9))
    for length in setting.lengths:
        asked = questions(own, setting, length)
        assert int(answers(Counting(before), asked)) == asked.wanted.size
        assert int(answers(Counting(before + 1), asked)) == 0


# --- schemes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMED)
def test_every_scheme_that_has_a_name_fits(small, name):
    experiment = Experiment(scheme(name), TINY, small)
    assert experiment.model(0).encoder.position.limit in (None, 32)


def test_what_is_drawn_depends_on_the_seed(small):
    for name in ("learned", "t5", "none"):
        one, same, other = (Experiment(scheme(name), TINY, small).model(i) for i in (1, 1, 2))
        same, other = (
            [bool((a == b).all()) for a, b in zip(*map(jax.tree.leaves, pair), strict=True)]
            for pair in ((one, same), (one, other))
        )
        assert all(same)
        assert not all(other)


def test_asymmetric_alibi_is_that_of_the_gallery():
    found = importlib.util.spec_from_file_location("variants", ROOT / "notes" / "variants.py")
    gallery = importlib.util.module_from_spec(found)
    found.loader.exec_module(gallery)
    positions = jnp.arange(7)
    for name in ("__call__", "upper"):
        own, other = (
            jax.vmap(
                lambda head, name=name: getattr(head, name)(*[positions] * (2 - (name == "upper")))
            )(made(3))
            for made in (Asymmetric, gallery.Asymmetric)
        )
        assert np.array_equal(own, other)


# --- runs ----------------------------------------------------------------------------------------


def test_a_run_is_the_same_each_time_and_another_with_another_seed(small):
    experiment = Experiment(scheme("alibi"), TINY, small)
    heard = []
    first, again, other = (experiment.result(seed, heard.append) for seed in (1, 1, 2))
    assert heard == [1, 2, 3, 4] * 3
    assert first._replace(seconds=0) == again._replace(seconds=0)
    assert first.loss != other.loss
    assert first.masked == 5 * 4 * 2
    assert list(first.accuracy) == [8, 32]


def test_runs_of_equal_time_have_as_many_steps_as_fit(small, monkeypatch):
    setting = Setting(**SMALL, steps=None, seconds=3.0)
    experiment = Experiment(scheme("none"), setting, small)
    monkeypatch.setattr(experiment, "seconds_per_step", 0.25)
    assert experiment.steps == 12
    timed = Experiment(scheme("none"), setting, small)
    assert 1e-5 < timed.seconds_per_step < 2


def test_the_command_trains_what_is_not_there_yet(place, monkeypatch, capsys):
    assert command("alibi", "mine.py:Near", options=[*OPTIONS, "--seeds", "2"]) == 0
    out, err = capsys.readouterr()
    names = [line.split()[0] for line in out.splitlines()]
    assert names == ["accuracy", "alibi", "mine:Near", "of"]
    assert "alibi, seed 1: 4 steps in" in err
    assert "no plot: matplotlib is not installed" in err
    table = read(place / "runs" / "extrapolation.json")
    assert out == shown(table) + "\n"
    assert table.setting == json.loads(json.dumps(TINY.described()))
    assert [(own.scheme, own.seed) for own in table.results] == [
        *(("alibi", 0), ("alibi", 1)),
        *(("mine:Near", 0), ("mine:Near", 1)),
    ]

    def refused(*_):
        raise AssertionError("it is computed again")

    with monkeypatch.context() as patched:
        patched.setattr(extrapolate_command, "Experiment", refused)
        assert command("alibi", "mine.py:Near", options=[*OPTIONS, "--seeds", "2"]) == 0
        assert capsys.readouterr().out == out
        # A scheme of other lines is another one, and a damaged file is none.
        (place / "mine.py").write_text(MINE + "\n")
        with pytest.raises(AssertionError, match="computed again"):
            extrapolate_command.run_extrapolate(parsed("mine.py:Near"))
        file = next((place / "runs").glob("alibi-0-*.json"))
        file.write_bytes(file.read_bytes()[:-9])
        with pytest.raises(AssertionError, match="computed again"):
            extrapolate_command.run_extrapolate(parsed("alibi"))
    assert "is damaged" in capsys.readouterr().err


def parsed(*schemes):
    from jaxbert.cli.options import parser

    named = [part for own in schemes for part in ("--scheme", own)]
    texts = ["--texts", "texts.txt", "-o", "runs"]
    return parser().parse_args(["lab", "extrapolate", *named, *OPTIONS, *texts])


def test_without_texts_pythons_own_are_taken():
    from jaxbert.lab.material import read

    found = read((), None, "text")
    assert len(found) > 50
    assert sum(map(len, found)) > 300_000


# --- tables --------------------------------------------------------------------------------------


def result(name, seed, *accuracy):
    lengths = dict(zip((8, 16, 32), accuracy, strict=True))
    return Result(name, seed, 4, 2.6, 31, 1.5, lengths, 40)


TABLE = Table(
    Setting(**SMALL, steps=4).described(),
    0.25,
    (
        result("alibi", 0, 0.3, 0.3, 0.33),
        result("alibi", 1, 0.4, 0.3, 0.4),
        result("none", 0, 0.0, 0.0, 0.0),
    ),
)


def test_levels_and_ratios_stand_beside_each_other(tmp_path):
    alibi, none = TABLE.lines()
    assert alibi.levels[16] == Spread(0.3, 0.3, 0.3)
    assert alibi.ratios[16] == pytest.approx((0.875, 0.75, 1.0))
    assert none.ratios[32].mean == 0
    lines = shown(TABLE).splitlines()
    assert len({len(line) for line in lines[:3]}) == 1
    assert "35.0 ±5.0 1.00" in lines[1]
    assert "30.0 ±0.0 0.88" in lines[1]
    assert lines[1].endswith("1.100 1.000")
    assert "25.0% of all" in lines[3]
    write(TABLE, tmp_path / "a.json")
    assert read(tmp_path / "a.json") == TABLE
    (tmp_path / "b.json").write_text(json.dumps({"results": 3}))
    with pytest.raises(InputError, match=r"b\.json is no table"):
        read(tmp_path / "b.json")


def test_curves_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    from jaxbert.lab.curves import draw

    draw(TABLE, tmp_path / "a.png", {"alibi": "ALiBi"})
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


# --- broken input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schemes", "options", "words"),
    [
        (["alibis"], [], "'alibis' is no scheme; choose one of alibi, asymmetric, rope, t5"),
        (["alibi", "alibi"], [], "--scheme alibi is given twice"),
        (["mine.py:Far"], [], "mine.py has no 'Far'; the schemes in it are: Near, Few, Crooked"),
        (["mine.py"], [], "'mine.py' names no class in a file; say it as my.py:Scheme"),
        (["broken.py:A"], [], "line 1: '(' was never closed; correct the file"),
        (["mine.py:Few"], [], "mine:Few has 13 positions, and the longest row 32 symbols"),
        (["mine.py:Crooked"], [], "mine:Crooked raised KeyError: 'what a user may raise'"),
        (["none"], ["--texts", "one.txt"], "there is 1 text, and training and evaluation need"),
        (["none"], ["--texts", "few.txt"], "have less than 32 symbols, and one piece takes as"),
        (["none"], ["--batch", "9999"], "which is less than a batch of 9999; give more texts"),
        (["none"], ["--lengths", "8,12"], "--lengths has 8; each must be a multiple of --length"),
        (["none"], ["--lengths", "16,32"], "--lengths must begin with --length, 8"),
        (["none"], ["--lengths", "8,x"], "--lengths is '8,x'; give numbers"),
        (["none"], ["--seconds", "nan"], "--seconds is nan; it must be positive"),
        (["none"], ["--heads", "3"], "--width 8 does not give 3 heads of an even width"),
        (["none"], ["--share", "1.5"], "share is 1.5; it must be from 0 to 1"),
        (["none"], ["--steps", "1"], "--steps is 1; it must be from 2"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_sentence(place, schemes, options, words, capsys):
    (place / "broken.py").write_text("class A(\n")
    (place / "one.txt").write_text("a text\n")
    (place / "few.txt").write_text("a text\nanother text\n")
    assert command(*schemes, options=[*OPTIONS, *options]) == 1
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_help_imports_no_jax():
    code = (
        "import sys, jaxbert.cli as cli\n"
        "try: cli.main(['lab', 'extrapolate', '--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('jax', 'numpy', 'flax', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.endswith("\n[]\n"), done.stderr
