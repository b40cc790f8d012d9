"""Encoders with parts of a user's own code: saved, loaded with that code, refused without it."""

import json
import pickle
import subprocess
import sys
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from jaxbert import Bias, CrossEncoder, Embedder, Encoder, MaskedLM, MultiVectorEncoder, Position
from jaxbert.checkpoint.opening import open_model
from jaxbert.checkpoint.own.loading import check_names
from jaxbert.checkpoint.sums import sha256
from jaxbert.errors import CheckpointError, InputError, InputTypeError
from jaxbert.model.architectures import components_of
from jaxbert.model.attention import attend, blockwise, dense
from jaxbert.model.layer_variants import LayerScheme, PreNormLayer, RmsNorm
from jaxbert.model.position_schemes import T5Bias
from jaxbert.model.transformer import Embeddings, Layer
from jaxbert.text.tokenizer import Tokenizer
from jaxbert.verify.opened import load_model
from tests.models import CONFIGS, arrays, encoder, make, word_tokenizer, write_folder
from tests.tolerances import VISIBLE, off

CONFIG = CONFIGS["jinabert-geglu"]
SIZES = CONFIG.sizes
HERE = "tests.checkpoint.test_own_parts"
TEXTS = ["a b c", "", "de f"]


class WindowBias(Bias):
    """As the tutorial has it: an array of integers, and no weight."""

    def __init__(self, widths, low=-1e9):
        self.widths = jnp.asarray(widths, jnp.int32)
        self.low = low

    def __call__(self, pos_q, pos_k):
        distance = jnp.abs(pos_q[:, None] - pos_k[None, :])
        return jnp.where(distance <= self.widths, 0.0, self.low)


class Window(Position):
    def __init__(self, widths, **more):
        self.bias = WindowBias(widths, **more)


class WideBias(WindowBias):
    """Another class with the same fields and leaves."""


class Wide(Window):
    def __init__(self, widths):
        self.bias = WideBias(widths)


class SlopesBias(Bias):
    """A weight and a constant of floats."""

    def __init__(self, heads):
        self.slopes = nnx.Param(jnp.full(heads, 0.125, jnp.float32))
        self.power = jnp.linspace(0.5, 1.5, heads, dtype=jnp.float32)

    def __call__(self, pos_q, pos_k):
        distance = jnp.abs(pos_q[:, None] - pos_k[None, :]).astype(jnp.float32)
        return -self.slopes[...].astype(jnp.float32) * distance**self.power


class Slopes(Position):
    def __init__(self, heads=3):
        self.bias = SlopesBias(heads)


class Square(nnx.Module):
    """A feed-forward, whose constant is an array of NumPy."""

    def __init__(self, rngs):
        self.weight = nnx.Param(0.3 * jax.random.normal(rngs.params(), (15, 15), jnp.float32))
        self.scale = np.float32([2.0])

    def __call__(self, x):
        return (x @ self.weight[...].astype(x.dtype)) ** 2 * self.scale.astype(x.dtype)[None, None]


class Scaled(Square):
    """A setting that is a scalar of NumPy, which is no leaf of an nnx.Module."""

    def __init__(self, rngs, factor):
        super().__init__(rngs)
        self.factor = factor

    def __call__(self, x):
        return super().__call__(x) * self.factor


class Negative(Embeddings):
    def __call__(self, inputs, scheme):
        return -super().__call__(inputs, scheme)


class Halved(Layer):
    """A layer that knows how many there are."""

    def __init__(self, components, *, rngs, layers):
        super().__init__(components, rngs=rngs)
        self.layers = layers

    def __call__(self, x, metadata, attention):
        return super().__call__(x, metadata, attention) / self.layers


def soft_cap(q, k, v, bias, positions, segments):
    """A function, of which only its name can be kept."""
    return dense(jnp.tanh(q), k, v, bias, positions, segments)


@dataclass(frozen=True)
class Cap:
    """A function with a setting, on top of any attention."""

    cap: float
    inner: object = attend

    def __call__(self, q, *more):
        return self.inner(self.cap * jnp.tanh(q / self.cap), *more)


class Capped(nnx.Module):
    """A function with a weight."""

    def __init__(self, heads):
        self.cap = nnx.Param(jnp.full(heads, 5.0, jnp.float32))

    def __call__(self, q, *more):
        cap = self.cap[...][None, :, None, None].astype(q.dtype)
        return dense(cap * jnp.tanh(q / cap), *more)


RMS = partial(RmsNorm, SIZES, 1e-6)
PARTS = {
    "a scheme": lambda: {"position": Window([1, 2, 5])},
    "a scheme with weights": lambda: {"position": Slopes()},
    "a scheme of the package": lambda: {"position": T5Bias(3, rngs=nnx.Rngs(0), std=1.0)},
    "a feed-forward": lambda: {"feed_forward": Square},
    "a function": lambda: {"attention": soft_cap},
    "an object": lambda: {"attention": Cap(2.0)},
    "a module": lambda: {"attention": Capped(3)},
    "embeddings": lambda: {"embeddings": Negative},
    "a layer": lambda: {"layers": [partial(Halved, layers=2)] * 2},
    "components": lambda: {
        "components": components_of(CONFIG)._replace(norm=RMS, final_norm=RMS),
        "layers": [
            partial(PreNormLayer, attention=partial(LayerScheme, scheme=Window([width] * 3)))
            for width in (1, 4)
        ],
    },
}


def same(own, other):
    """Bit for bit the same weights and states."""
    assert own.config == other.config
    assert set(own.weights()) == set(other.weights())
    for name, weight in own.weights().items():
        again = other.weights()[name]
        assert weight.dtype == again.dtype, name
        assert np.asarray(weight).tobytes() == np.asarray(again).tobytes(), name
    ids, mask, types = arrays(0)
    np.testing.assert_array_equal(own(ids, mask, types), other(ids, mask, types))


def own(kind="a scheme", **more):
    return Encoder(CONFIG, rngs=nnx.Rngs(0), **PARTS[kind](), **more)


@pytest.fixture
def saved(tmp_path):
    own().save_pretrained(tmp_path, parts=PARTS["a scheme"]())
    return tmp_path


@pytest.mark.parametrize("kind", PARTS)
def test_an_encoder_with_parts_of_its_own_comes_back_bit_for_bit(tmp_path, kind):
    """Also where the parts are made anew for loading, as another program would."""
    mine = own(kind)
    assert off(mine(*arrays(0)), encoder("jinabert-geglu")(*arrays(0))) > VISIBLE
    mine.save_pretrained(tmp_path, parts=PARTS[kind]())
    same(mine, Encoder.from_pretrained(tmp_path, parts=PARTS[kind]()))
    with pytest.raises(CheckpointError, match="needs code that is never taken from a folder"):
        Encoder.from_pretrained(tmp_path)


def test_the_folder_says_whose_code_it_needs(saved):
    """And nothing of it is imported: a class that is not passed stays a name."""
    with pytest.raises(CheckpointError) as error:
        Encoder.from_pretrained(saved)
    assert (
        "(tests.checkpoint.test_own_parts:Window, tests.checkpoint.test_own_parts:WindowBias)"
        in (str(error.value))
    )
    assert 'pass parts={"position": ...} to from_pretrained' in str(error.value)
    with pytest.raises(CheckpointError, match="needs code that is never taken from a folder"):
        load_model(saved, revision=None, ignore_config=(), dtype="float32")
    record = (saved / "jaxbert.json").read_text()
    (saved / "jaxbert.json").write_text(record.replace(HERE, "this"))
    code = (
        "import sys\nfrom jaxbert import Encoder\n"
        "try: Encoder.from_pretrained(sys.argv[1])\n"
        "except ValueError as error: print(error, 'this' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, saved], capture_output=True, text=True)
    assert "(this:Window, this:WindowBias)" in done.stdout, done.stderr
    assert done.stdout.endswith("False\n")


def test_config_and_tensors_are_of_no_other_library(saved):
    raw = json.loads((saved / "config.json").read_text())
    assert raw["model_type"] == "jaxbert"
    assert raw["config"] == "EncoderConfig"
    assert set(load_file(saved / "model.safetensors")) == set(own().weights())
    assert sorted(file.name for file in saved.iterdir()) == [
        "config.json",
        "jaxbert.json",
        "model.safetensors",
    ]


WRONG = {
    "another class": (lambda: {"position": Wide([1, 2, 5])}, "position is .*Wide' in the parts"),
    "another bias": (
        lambda: {"position": patched(Window([1, 2, 5]), "bias", WideBias([1, 2, 5]))},
        "position.bias is .*WideBias' in the parts passed and .*WindowBias' in",
    ),
    "another field": (
        lambda: {"position": Window([1, 2, 5], low=-9.0)},
        r"position.bias.low is -9.0 in the parts passed and -1000000000.0 in",
    ),
    "more fields": (
        lambda: {"position": patched(Window([1, 2, 5]), "more", True)},
        "position.more is True in the parts passed and None in",
    ),
    "more arrays": (
        lambda: {"position": patched(Window([1, 2, 5]), "more", jnp.ones(3))},
        "lacks position.more, which the parts passed have",
    ),
    "another dtype": (
        lambda: {"position": floats(Window([1, 2, 5]))},
        "position.bias.widths is stored as I32, and the parts passed have float32",
    ),
    "another part": (lambda: {"attention": Capped(3)}, "needs code"),
    "one part more": (
        lambda: PARTS["a scheme"]() | {"feed_forward": Square},
        'was saved with parts={"position": ...} alone; leave out feed_forward',
    ),
}


def patched(part, name, value):
    setattr(part, name, value)
    return part


def floats(part):
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), part)


@pytest.mark.parametrize("case", WRONG)
def test_other_code_than_was_saved_is_refused(saved, case):
    parts, words = WRONG[case]
    with pytest.raises(CheckpointError, match=words):
        Encoder.from_pretrained(saved, parts=parts())


def test_a_scalar_of_numpy_is_a_setting(tmp_path):
    two, three = ({"feed_forward": partial(Scaled, factor=np.float32(x))} for x in (2, 3))
    mine = Encoder(CONFIG, rngs=nnx.Rngs(0), **two)
    mine.save_pretrained(tmp_path, parts=two)
    same(mine, Encoder.from_pretrained(tmp_path, parts=two))
    with pytest.raises(CheckpointError, match=r"feed_forward.factor is 3.0 in the parts .* 2.0 in"):
        Encoder.from_pretrained(tmp_path, parts=three)


def test_arrays_that_the_parts_passed_do_not_have_are_refused(saved):
    class Bare(Position):
        pass

    tensors = load_file(saved / "model.safetensors")
    save_file(tensors | {"more": np.ones(3, np.float32)}, saved / "model.safetensors")
    rewritten(saved, sha256=sha256(saved / "model.safetensors"))
    with pytest.raises(CheckpointError, match="has more, which the parts passed have no use for"):
        Encoder.from_pretrained(saved, parts=PARTS["a scheme"]())


def test_arguments_that_are_no_parts_are_refused(tmp_path, saved):
    folder = write_folder(tmp_path / "plain")
    with pytest.raises(CheckpointError, match="has no parts of code of its own"):
        Encoder.from_pretrained(folder, parts=PARTS["a scheme"]())
    with pytest.raises(InputTypeError, match=r"parts is a list; pass a dict such as"):
        check_names([Window])
    with pytest.raises(InputError, match="parts has 'scheme'; it may have position"):
        Encoder.from_pretrained(saved, parts={"scheme": Window})
    with pytest.raises(InputError, match="parts has None as position; leave it out"):
        own().save_pretrained(tmp_path / "new", parts={"position": None})
    own("a function").save_pretrained(tmp_path / "f", parts={"attention": soft_cap})
    with pytest.raises(InputError, match="attention is passed twice"):
        Encoder.from_pretrained(tmp_path / "f", parts={"attention": soft_cap}, attention=dense)


def rewritten(folder, file="jaxbert.json", drop=(), **changes):
    raw = json.loads((folder / file).read_text()) | changes
    (folder / file).write_text(json.dumps({k: v for k, v in raw.items() if k not in drop}))


DAMAGE = {
    "no record": (lambda at: (at / "jaxbert.json").unlink(), "lacks jaxbert.json"),
    "another format": (lambda at: rewritten(at, format=2), "format = 2; this version reads 1"),
    "no format": (lambda at: rewritten(at, drop=["format"]), "format = None"),
    "strange parts": (lambda at: rewritten(at, parts=["a"]), "does not name parts"),
    "no structure": (lambda at: rewritten(at, drop=["encoder"]), "does not name parts"),
    "no sum": (lambda at: rewritten(at, drop=["sha256"]), "is not the file"),
    "no config": (lambda at: (at / "config.json").unlink(), "has no config.json"),
    "a lost field": (
        lambda at: rewritten(at, "config.json", drop=["num_heads"]),
        "config.json lacks 'num_heads'",
    ),
    "a new field": (lambda at: rewritten(at, "config.json", heads=3), "config.json has 'heads'"),
    "a wrong field": (
        lambda at: rewritten(at, "config.json", num_heads="3"),
        "describes no encoder: num_heads is '3'",
    ),
    "another config": (
        lambda at: rewritten(at, "config.json", config="Mine"),
        "config = 'Mine'; understood are EncoderConfig",
    ),
    "model_type": (lambda at: rewritten(at, "config.json", model_type="bert"), "word_embeddings"),
    "no weights": (lambda at: (at / "model.safetensors").unlink(), "has no model.safetensors"),
    "other weights": (
        lambda at: other_weights(at, lambda x: x + 1),
        "is not the file that jaxbert.json has the SHA-256 of",
    ),
    "NaN": (
        lambda at: (
            other_weights(at, lambda x: x * np.nan if x.dtype == np.float32 else x),
            rewritten(at, sha256=sha256(at / "model.safetensors")),
        ),
        "holds NaN",
    ),
    "cut off": (lambda at: cut(at / "model.safetensors"), "is damaged"),
}


def other_weights(folder, change):
    tensors = load_file(folder / "model.safetensors")
    save_file({name: change(x) for name, x in tensors.items()}, folder / "model.safetensors")


def cut(file):
    file.write_bytes(file.read_bytes()[:-100])


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_folder_is_refused(saved, case):
    damage, words = DAMAGE[case]
    damage(saved)
    with pytest.raises(CheckpointError, match=words):
        Encoder.from_pretrained(saved, parts=PARTS["a scheme"]())


# --- what is saved -------------------------------------------------------------------------------


def test_constants_are_those_of_the_folder_and_keep_their_dtype(tmp_path):
    """Whatever the constructor is called with: the folder holds every array."""
    mine = make(CONFIG, position=Slopes())  # randomised, constants too
    mine.position.bias.power = jnp.float32([3.0, 2.0, 1.0])
    mine.save_pretrained(tmp_path, parts={"position": Slopes()})
    same(mine, Encoder.from_pretrained(tmp_path, parts={"position": Slopes()}))
    half = Encoder.from_pretrained(tmp_path, parts={"position": Slopes()}, dtype="bfloat16")
    assert half.position.bias.slopes[...].dtype == jnp.bfloat16
    assert half.position.bias.power.tolist() == [3.0, 2.0, 1.0]
    assert half.position.bias.power.dtype == jnp.float32
    half.save_pretrained(tmp_path, parts={"position": Slopes()})
    same(half, Encoder.from_pretrained(tmp_path, parts={"position": Slopes()}, dtype="bfloat16"))


def test_any_attention_of_the_package_stands_for_any_other(tmp_path):
    mine = own("an object")
    mine.save_pretrained(tmp_path, parts={"attention": Cap(2.0)})
    again = Encoder.from_pretrained(tmp_path, parts={"attention": Cap(2.0, inner=blockwise)})
    assert again.attention.inner is blockwise
    with pytest.raises(CheckpointError, match=r"attention.cap is 3.0 in the parts"):
        Encoder.from_pretrained(tmp_path, parts={"attention": Cap(3.0)})
    scheme = own()
    scheme.save_pretrained(tmp_path, parts=PARTS["a scheme"]())
    again = Encoder.from_pretrained(tmp_path, parts=PARTS["a scheme"](), attention=blockwise)
    assert again.attention is blockwise


def test_a_class_of_the_program_that_was_started_is_the_same_in_another(saved):
    """A script's classes are in __main__; whoever imports the script has them under its name."""
    record = (saved / "jaxbert.json").read_text()
    (saved / "jaxbert.json").write_text(record.replace(HERE, "__main__"))
    same(own(), Encoder.from_pretrained(saved, parts=PARTS["a scheme"]()))
    with pytest.raises(CheckpointError, match=r"position is .*Wide"):
        Encoder.from_pretrained(saved, parts={"position": Wide([1, 2, 5])})
    (saved / "jaxbert.json").write_text(record.replace(HERE, "elsewhere"))
    with pytest.raises(CheckpointError, match=r"position is .*:Window' in .* 'elsewhere:Window'"):
        Encoder.from_pretrained(saved, parts=PARTS["a scheme"]())


class Inside:
    """A place for a class that is not at the top of its module."""

    class Window(Window):
        pass


NAMELESS = {
    "a lambda": (lambda: {"attention": lambda q, *more: q}, "attention is <function <lambda>"),
    "a partial": (lambda: {"attention": partial(soft_cap)}, "attention is functools.partial"),
    "a local class": (lambda: {"position": local()}, "position is <class .*has no name to be"),
}


def local():
    class Local(Position):
        pass

    return Local()


@pytest.mark.parametrize("case", NAMELESS)
def test_code_without_a_name_is_not_saved(tmp_path, case):
    parts, words = NAMELESS[case]
    given = parts()
    mine = Encoder(CONFIG, rngs=nnx.Rngs(0), **given)
    with pytest.raises(CheckpointError, match=words):
        mine.save_pretrained(tmp_path / "new", parts=given)
    assert not (tmp_path / "new").exists()


def test_a_class_inside_another_has_a_name(tmp_path):
    parts = {"position": Inside.Window([1, 2, 5])}
    Encoder(CONFIG, rngs=nnx.Rngs(0), **parts).save_pretrained(tmp_path, parts=parts)
    assert "test_own_parts:Inside.Window" in (tmp_path / "jaxbert.json").read_text()


def test_what_the_parts_do_not_make_is_not_saved(tmp_path):
    """An exchanged module, another attention, and parts that were not those of the encoder."""
    mine = own()
    mine.layers = own("a feed-forward").layers
    with pytest.raises(CheckpointError, match="layers are not what its config makes"):
        mine.save_pretrained(tmp_path / "new", parts=PARTS["a scheme"]())
    with pytest.raises(CheckpointError, match="attention is <function soft_cap"):
        own("a function").save_pretrained(tmp_path / "new")
    with pytest.raises(CheckpointError, match=r"attention is Cap.cap=2"):
        own("an object").save_pretrained(tmp_path / "new", parts={"attention": Cap(3.0)})
    with pytest.raises(CheckpointError, match="attention is "):
        own("a module").save_pretrained(tmp_path / "new", parts={"attention": soft_cap})
    with pytest.raises(CheckpointError, match="position are not what"):
        own().save_pretrained(tmp_path / "new", parts={"position": Slopes()})
    assert not (tmp_path / "new").exists()


def test_an_array_that_no_file_holds_is_not_saved(tmp_path):
    class Keyed(Position):
        def __init__(self):
            self.key = jax.random.key(0)

    Keyed.__qualname__ = "Keyed"
    parts = {"position": Keyed()}
    with pytest.raises(CheckpointError, match=r"position.key is key<fry>, which a file of tensors"):
        Encoder(CONFIG, rngs=nnx.Rngs(0), **parts).save_pretrained(tmp_path, parts=parts)


def test_a_number_of_python_is_not_saved(tmp_path):
    parts = {"position": patched(Slopes(), "more", nnx.Param(0.5))}
    with pytest.raises(CheckpointError, match=r"position.more is 0.5 and no array; make it one"):
        Encoder(CONFIG, rngs=nnx.Rngs(0), **parts).save_pretrained(tmp_path, parts=parts)


# --- whole models --------------------------------------------------------------------------------


def test_an_embedder_with_parts_of_its_own(tmp_path):
    parts = PARTS["a scheme with weights"]()
    mine = Embedder(own("a scheme with weights"), Tokenizer(word_tokenizer(), "right"))
    with pytest.raises(CheckpointError, match=r'save with .*parts={"position": ...}'):
        mine.save_pretrained(tmp_path / "a")
    mine.save_pretrained(tmp_path / "a", parts=parts)
    again = Embedder.from_pretrained(tmp_path / "a", parts=parts)
    np.testing.assert_array_equal(again.encode(TEXTS), mine.encode(TEXTS))
    for kind in (Encoder, Embedder):
        with pytest.raises(CheckpointError, match="needs code that is never taken from a folder"):
            kind.from_pretrained(tmp_path / "a")
    for kind in (MaskedLM, CrossEncoder, MultiVectorEncoder):
        with pytest.raises(CheckpointError, match=r"an embedder .* does not open it"):
            kind.from_pretrained(tmp_path / "a")
    again.save_pretrained(tmp_path / "a", parts=parts)  # where it came from
    third = Embedder.from_pretrained(tmp_path / "a", parts=parts)
    travelled = pickle.loads(pickle.dumps(third))
    np.testing.assert_array_equal(travelled.encode(TEXTS), mine.encode(TEXTS))
    assert open_model(tmp_path / "a").task.kind.title == "embedder"


def test_a_folder_may_change_from_one_kind_to_the_other(tmp_path):
    folder = write_folder(tmp_path, "jinabert-geglu")
    plain = Embedder.from_pretrained(folder)
    before = plain.encode(TEXTS)
    parts = PARTS["a scheme"]()
    mine = Embedder(Encoder(CONFIG, rngs=nnx.Rngs(0), **parts), plain.tokenizer, plain.stack)
    mine.save_pretrained(folder, parts=parts)
    vectors = Embedder.from_pretrained(folder, parts=parts).encode(TEXTS)
    np.testing.assert_array_equal(vectors, mine.encode(TEXTS))
    assert not np.array_equal(vectors, before)
    plain.save_pretrained(folder)
    assert not (folder / "jaxbert.json").exists()
    np.testing.assert_array_equal(Embedder.from_pretrained(folder).encode(TEXTS), before)


def test_a_loaded_model_with_an_attention_of_its_own_is_saved_as_one(tmp_path):
    folder, parts = write_folder(tmp_path / "a", "jinabert-geglu"), {"attention": soft_cap}
    mine = Embedder.from_pretrained(folder, attention=soft_cap)
    expected = mine.encode(TEXTS)
    with pytest.raises(CheckpointError, match="would compute softmax when it is loaded"):
        mine.save_pretrained(tmp_path / "b")
    mine.save_pretrained(folder, parts=parts)
    again = Embedder.from_pretrained(folder, parts=parts)
    np.testing.assert_array_equal(again.encode(TEXTS), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(mine)).encode(TEXTS), expected)
