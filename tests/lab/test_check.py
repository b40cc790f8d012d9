"""`jaxbert lab check`: what is said of schemes whose properties are known, and of broken files."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbert import cli
from jaxbert.errors import InputError
from jaxbert.lab import check as module
from jaxbert.lab.check import Subject, check
from jaxbert.lab.loading import load, maker
from jaxbert.lab.properties import Heads, Probe, Sizes, difference, tile_difference, upper_excess
from jaxbert.model.position import Alibi, Learned, Position
from jaxbert.model.position_schemes import Rope, T5Bias

MINE = """
import jax.numpy as jnp
from flax import nnx
from jaxbert import Bias, Position
from jaxbert.model.position import Shared


class Slopes(Bias):
    def __init__(self, num_heads):
        self.slopes = nnx.Param(jnp.full((num_heads,), 0.5))
        self.lost = nnx.Param(jnp.ones((num_heads,)))

    def __call__(self, pos_q, pos_k):
        return -self.slopes[...] * jnp.abs(pos_q[:, None] - pos_k[None, :])

    def upper(self, distance):
        return -self.slopes[...] * distance


class Narrow(Position):
    def __init__(self, rngs, width, heads):
        self.width, self.bias = width, Slopes(heads)


class Numbered(Slopes):
    \"\"\"It counts its arguments instead of looking at them, and its bound is too low.\"\"\"

    def __call__(self, pos_q, pos_k):
        return -self.slopes[...] * jnp.abs(jnp.arange(len(pos_q))[:, None] - pos_k[None, :])

    def upper(self, distance):
        return -2 * self.slopes[...] * distance - 1


class Crooked(Bias):
    def __init__(self, num_heads):
        self.slope = jnp.ones(num_heads)

    def __call__(self, pos_q, pos_k):
        raise KeyError("what a user may raise")


class Capped(Bias):
    def __init__(self, num_heads):
        self.cap = nnx.Param(jnp.linspace(1.0, 2.0, num_heads))

    def score(self, scores, pos_q, pos_k):
        return self.cap[...] * jnp.tanh(scores / self.cap[...])


class First(Slopes):
    # All see the first token; the bound of a distance is too low for it.

    def __call__(self, pos_q, pos_k):
        return jnp.where(pos_k[None, :] == 0, 0.0, super().__call__(pos_q, pos_k))


class FirstBounded(First):
    def upper_tile(self, queries, keys):
        return jnp.where(keys.low == 0, 0.0, super().upper_tile(queries, keys))


class Rotated(Bias):
    # It holds an array that all heads share.
    def __init__(self):
        self.weight = Shared(jnp.array([0.5, 0.25]))

    def __call__(self, pos_q, pos_k):
        offset = (pos_k[None, :] - pos_q[:, None]) / 8
        return self.weight[0] * jnp.sin(offset) + self.weight[1] * jnp.cos(offset)


class Fixed(Bias):
    # It holds nothing at all.
    def __call__(self, pos_q, pos_k):
        return -0.5 * jnp.abs(pos_q[:, None] - pos_k[None, :])

    def upper(self, distance):
        return -0.5 * distance


class Headless(Bias):
    def __init__(self):
        self.slope = jnp.ones(())


class Infinite(Bias):
    # The root has no slope at distance 0.
    def __init__(self, num_heads):
        self.slope = nnx.Param(jnp.ones(num_heads))
        self.parts = nnx.List([nnx.Param(jnp.ones(num_heads)) for _ in range(3)])

    def __call__(self, pos_q, pos_k):
        distance = jnp.abs(pos_q[:, None] - pos_k[None, :])
        return sum(part[...] for part in self.parts) * jnp.sqrt(self.slope[...] * distance)


class Far(Slopes):
    def __call__(self, pos_q, pos_k):
        return super().__call__(pos_q, pos_k) / jnp.maximum(pos_q, 64)[:, None]


class Number(Bias):
    def __init__(self):
        self.slope = nnx.Param(0.5)


class Deep(Position):
    def __init__(self, depth):
        pass


class Failing(Position):
    def __init__(self):
        raise OSError("no such table")


class Other:
    pass


def narrow():
    return Narrow(None, 3, 4)


def number():
    return 3
"""


@pytest.fixture(autouse=True)
def ordinary_settings():
    """As for a user's file: it need not meet the strict ones of these tests."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path / "mine.py"


def subject(make, heads=4, width=24):
    return Subject.of("mine", make, heads, width)


def asked(make, *names, **sizes):
    """The answers to these questions, and whether they are faults."""
    own = subject(make, **sizes)
    return [answer for name in names for answer in module.QUESTIONS[name](own)]


def slopes(make, name):
    """A scheme of the file above."""
    _, found = load(f"{make}:{name}")
    return maker("mine", found, heads=4, width=24, length=19)


def heads(make):
    """The bias of a scheme for four heads."""
    return Heads(make().bias, 4)


# --- properties ----------------------------------------------------------------------------------


def drawn(kind):
    """A maker of a scheme of the package."""
    from flax import nnx

    return {
        "none": Position,
        "alibi": lambda: Alibi(4),
        "learned": lambda: Learned(19, 24, rngs=nnx.Rngs(0), std=0.5),
        "rope": Rope,
        "t5": lambda: T5Bias(4, rngs=nnx.Rngs(0), std=0.5),
    }[kind]


# Where it acts; whether only distances count; whether left and right are told apart.
KNOWN = {
    "alibi": ("scores", True, False),
    "learned": ("states", False, True),
    "rope": ("queries and keys", True, True),
    "t5": ("scores", True, True),
}


@pytest.mark.parametrize("kind", KNOWN)
def test_the_properties_of_known_schemes(kind):
    place, shift, direction = KNOWN[kind]
    (acts, wrong), (shifted, _), (mirrored, _) = asked(drawn(kind), "acts on", "shift", "mirror")
    assert (acts, wrong) == (place, False)
    assert shifted.startswith("only distances count" if shift else "positions count")
    assert mirrored.startswith("left and right are told" if direction else "left and right are the")


def test_a_scheme_that_does_nothing_is_named():
    assert asked(drawn("none"), "acts on") == [("nothing: it is no scheme at these sizes", True)]


def test_leaves_and_limit(mine):
    assert asked(slopes(mine, "Narrow"), "leaves", "limit") == [
        ("bias.lost [4] float32, trained", False),
        ("bias.slopes [4] float32, trained", False),
        ("none: texts of any length", False),
    ]
    (leaf, limit) = asked(drawn("learned"), "leaves", "limit")
    assert leaf == ("table [19, 24] float32, trained", False)
    assert limit == ("19 positions", False)
    assert asked(drawn("alibi"), "leaves") == [("none", False)]
    assert asked(slopes(mine, "Infinite"), "leaves") == [
        ("bias.parts.* [4] float32, trained, 3 of them", False),
        ("bias.slope [4] float32, trained", False),
    ]


def test_a_bias_that_counts_its_arguments_is_found(mine):
    good, bad = heads(slopes(mine, "Slopes")), heads(slopes(mine, "Numbered"))
    assert tile_difference(good, 75) == 0
    assert tile_difference(bad, 75) > 1
    ((answer, wrong),) = asked(slopes(mine, "Numbered"), "tiles")
    assert wrong
    assert "the bias on a tile is not that part of the whole bias" in answer


def test_a_bound_is_sound_or_not(mine):
    good, bad = heads(slopes(mine, "Slopes")), heads(slopes(mine, "Numbered"))
    assert upper_excess(good, 1000) == (0, True)
    assert upper_excess(bad, 1000)[0] > 0.5
    assert upper_excess(heads(drawn("t5")), 1000) == (0, True)
    assert upper_excess(heads(slopes(mine, "First")), 1000)[0] > 0.5
    assert upper_excess(heads(slopes(mine, "FirstBounded")), 1000) == (0, True)
    ((answer, wrong),) = asked(slopes(mine, "Slopes"), "upper")
    assert answer == (
        "never below a score; at 4,096 tokens it leaves out 66% to 66% of the tiles of a head"
    )
    assert not wrong
    assert asked(slopes(mine, "Numbered"), "upper")[0][1]
    assert asked(drawn("rope"), "upper", "tiles") == [("no bias", False)] * 2


def test_a_weight_without_a_gradient_is_found(mine):
    assert asked(slopes(mine, "Slopes"), "gradient") == [
        ("WRONG: in 256 tokens it is zero for bias.lost", True)
    ]
    ((reached, wrong),) = asked(drawn("t5"), "gradient")
    assert reached.startswith("reaches every weight (norms of ")
    assert not wrong
    ((lost, wrong),) = asked(slopes(mine, "Infinite"), "gradient")
    assert (lost, wrong) == ("WRONG: in 256 tokens it is not finite for bias.slope", True)
    assert asked(drawn("alibi"), "gradient") == [("nothing is trained", False)]


def test_tiled_implementations_are_compared(mine):
    for answer, wrong in asked(drawn("rope"), "blockwise", "TPU kernel", "GPU kernel"):
        assert answer.startswith("agrees with the dense definition (")
        assert not wrong
    ((answer, wrong),) = asked(slopes(mine, "Numbered"), "blockwise")
    assert wrong
    assert answer.endswith("from the dense definition")


def test_a_scheme_comes_back_from_a_folder_or_not(mine):
    assert asked(slopes(mine, "Narrow"), "saved") == [
        ('comes back bit for bit with parts={"position": ...}', False)
    ]


def test_a_function_of_the_scores(mine):
    make = slopes(mine, "Capped")
    answers = asked(make, "acts on", "tiles", "shift", "upper", "gradient", "blockwise")
    assert not any(wrong for _, wrong in answers)
    said = [answer for answer, _ in answers]
    assert said[0] == "scores"
    assert said[3] == "none: only padding and other texts are left out"
    assert said[4].startswith("reaches every weight")


@pytest.mark.parametrize("name", ["Rotated", "Fixed"])
def test_a_bias_without_an_axis_of_heads(mine, name):
    names = ("acts on", "tiles", "shift", "upper", "gradient")
    answers = asked(slopes(mine, name), *names)
    assert not any(wrong for _, wrong in answers)
    assert answers[0][0] == "scores"


def test_what_users_code_raises_is_an_answer(mine):
    rows = {row.name: row for row in check(subject(slopes(mine, "Crooked")))}
    assert rows["tiles"].answer == "WRONG: it raised KeyError: 'what a user may raise'"
    assert rows["tiles"].wrong
    assert rows["leaves"] == module.Row("leaves", "bias.slope [4] float32, constant")


def test_the_effect_is_seen_beside_a_mask():
    """The -1e9 of a mask does not hide what is added to other scores."""
    assert difference([-1e9, 0.5], [-1e9, 0.25]) == 0.25
    assert difference([-1e9, 0.5], [-1e9, 0.5]) == 0
    assert np.isnan(difference([np.nan], [0.0]))
    probe = Probe.of(Alibi(4), Sizes(4, 24, 7))
    assert probe.change(range(7), range(3, 10)) == 0
    assert probe.change(range(7), range(0, 14, 2)) > 0.1


def test_a_scheme_that_looks_at_far_positions_is_no_relative_one(mine):
    """At near ones its numbers are those of the distance."""
    ((answer, _),) = asked(slopes(mine, "Far"), "shift")
    assert answer.startswith("positions count by themselves (a shift by 512 changes")


# --- files ---------------------------------------------------------------------------------------

BROKEN = {
    "mine.py": "'mine.py' names no class in a file; say it as my.py:Scheme",
    "mine:Slopes": "names no class in a file",
    "other.py:Slopes": "other.py is no file; name the file that has the scheme",
    "mine.py:Slope": "mine.py has no 'Slope'; the schemes in it are: Slopes, Narrow, Numbered, ",
    "mine.py:Other": "mine:Other is a class and no jaxbert.Position or jaxbert.Bias; derive it",
    "mine.py:MINE": "mine.py has no 'MINE'",
    "mine.py:number": "mine:number gave a int, which is no Position",
    "mine.py:Deep": "mine:Deep needs depth, which is not known here; give it a default, or name a",
    "mine.py:Number": "mine:Number holds slope = 0.5, which is no array; make it one, such as",
    "mine.py:Failing": "mine:Failing cannot be made: OSError: no such table",
    "mine.py:Headless": "a bias of Biased has an array of shape (); its first axis must be",
    "syntax.py:A": "syntax.py, line 2: '(' was never closed; correct the file",
    "raises.py:A": "raises.py cannot be loaded: ZeroDivisionError: division by zero; correct the",
    "exits.py:A": "exits.py cannot be loaded: SystemExit: 3; correct the file",
}


@pytest.mark.parametrize("spec", BROKEN)
def test_a_file_or_class_that_cannot_serve_is_refused_in_one_sentence(mine, spec, capsys):
    (mine.parent / "syntax.py").write_text("a = 1\nb = (\n")
    (mine.parent / "raises.py").write_text("1 / 0")
    (mine.parent / "exits.py").write_text("raise SystemExit(3)")
    assert cli.main(["lab", "check", spec]) == 1
    heard = capsys.readouterr()
    assert BROKEN[spec] in heard.err
    assert heard.err.count("\n") == 1
    assert heard.out == ""


def test_a_file_may_import_its_neighbours_and_define_dataclasses(mine):
    (mine.parent / "beside.py").write_text("HEADS = 4")
    (mine.parent / "uses.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\nfrom typing import ClassVar\n"
        "from beside import HEADS\nfrom mine import Narrow\n"
        "@dataclass\nclass A:\n    b: ClassVar[int] = 1\n"
        "def scheme():\n    return Narrow(None, 3, HEADS)\n"
    )
    title, found = load("uses.py:scheme")
    assert title == "uses:scheme"
    assert maker(title, found, heads=4, width=24, length=19)().width == 3
    assert str(mine.parent) not in sys.path


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--heads", "0"], "--heads is 0; it must be from 1 to"),
        (["--heads", "3"], "--width 64 does not give 3 heads of an even width; choose a multiple"),
    ],
)
def test_sizes_that_cannot_serve_are_refused(mine, options, words, capsys):
    assert cli.main(["lab", "check", "mine.py:Slopes", *options]) == 1
    assert words in capsys.readouterr().err


# --- the command ---------------------------------------------------------------------------------


def test_the_command_prints_a_table_and_says_whether_something_is_wrong(mine, monkeypatch, capsys):
    chosen = ("acts on", "leaves", "shift", "gradient")
    questions = {name: module.QUESTIONS[name] for name in chosen}
    monkeypatch.setattr(module, "QUESTIONS", questions)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert cli.main(["lab", "check", "mine.py:Slopes", "--heads", "2", "--width", "8"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "scheme      mine:Slopes, 2 heads of 4"
    assert lines[1] == "acts on     scores"
    assert lines[-2] == "gradient    WRONG: in 256 tokens it is zero for bias.lost"
    assert lines[-1] == (
        "picture     none: matplotlib is not installed; pip install 'jaxbert[figures]' brings it"
    )
    monkeypatch.setattr(module, "QUESTIONS", {"acts on": questions["acts on"]})
    assert cli.main(["lab", "check", "mine.py:Slopes"]) == 0


def test_every_question_has_an_answer():
    """All of them, of a scheme without a fault."""
    rows = list(check(subject(drawn("alibi"))))
    assert [row.name for row in rows] == ["scheme", *module.QUESTIONS]
    assert not any(row.wrong for row in rows)
    time = next(row.answer for row in rows if row.name == "time")
    assert time.startswith("dense ")
    assert time.endswith(" times that of no scheme (1,024 tokens)")


@pytest.mark.parametrize("kind", ["alibi", "rope", "learned", "capped"])
def test_a_picture(mine, tmp_path, kind):
    pytest.importorskip("matplotlib")
    from jaxbert.lab.picture import draw

    make = slopes(mine, "Capped") if kind == "capped" else drawn(kind)
    draw(subject(make), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_help_of_the_lab_imports_no_jax():
    code = (
        "import sys, jaxbert.cli as cli\n"
        "try: cli.main(['lab', 'check', '--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('jax', 'numpy', 'flax', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "FILE.py:SCHEME" in done.stdout
    assert done.stdout.endswith("[]\n")


def test_an_instance_or_a_number_is_no_scheme():
    with pytest.raises(InputError, match=r"a is a float and no jaxbert\.Position"):
        maker("a", 3.0, heads=4, width=24, length=19)
    assert jnp.isfinite(jnp.zeros(3)).all()
