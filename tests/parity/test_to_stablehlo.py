"""convert/to_stablehlo.py: the artefact against the live model, its description, every refusal."""

import functools
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax import export
from safetensors.numpy import load_file

pytest.importorskip("flatbuffers")

import jaxbert
from jaxbert import Embedder, Position
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.checkpoint.sums import sha256
from jaxbert.model.attention import ATTENTIONS
from jaxbert.model.head import Dense, Normalize, Pooling
from jaxbert.text.tokenizer import Tokenizer
from jaxbert.verify.opened import load_model
from tests.models import CONFIGS, GOLDEN, encoder, make, word_tokenizer, write_folder
from tests.tolerances import BFLOAT16, COMPANY, GOLDEN_ENCODER, MINILM, close, norms, off

pytestmark = pytest.mark.torch

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "convert" / "to_stablehlo.py"
JINA = GOLDEN / "jinabert-3heads"
TEXTS = [
    "What is Deep Learning?",
    "",
    "A bias is a function of positions, not of a length.",
    "Ça coûte 12,50 €.",
    "the end " * 40,
]


def load():
    spec = importlib.util.spec_from_file_location("convert_to_stablehlo", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def program():
    """The program as a module."""
    return load()


@pytest.fixture(scope="module")
def artefact(minilm, tmp_path_factory):
    """MiniLM for this machine, 32 tokens a row."""
    out = tmp_path_factory.mktemp("minilm") / "minilm.stablehlo"
    program = load()
    usual = program.samples
    program.samples = lambda *given: usual(*given)[:1]  # encode is the proof below; this saves 5 s
    arguments = ["sentence-transformers/all-MiniLM-L6-v2", str(out), "--length", "32"]
    assert program.main([*arguments, "--platform", "cpu"]) == 0
    return out


@pytest.fixture(scope="module")
def encoded(minilm):
    """The ids and the mask of TEXTS in rows of 32 tokens, and the vectors that encode gives."""
    embedder = Embedder.from_pretrained(minilm)
    return *padded(embedder.tokenizer, TEXTS, 32), embedder.encode(TEXTS, max_length=32)


def options(*more, length=29, platform="cpu"):
    return ["--length", str(length), "--platform", platform, *map(str, more)]


def description(out):
    return json.loads(Path(f"{out}.json").read_text())


@functools.cache
def reloaded(out):
    """The artefact, read once, so that a shape is compiled once."""
    return export.deserialize(bytearray(out.read_bytes()))


def call(out, *arrays):
    return np.asarray(reloaded(out).call(*arrays))


def padded(tokenizer, texts, length):
    """Ids and mask as a caller without jaxbert would make them."""
    ids = np.zeros((len(texts), length), np.int32)
    for row, own in zip(ids, tokenizer(texts, length), strict=True):
        row[: len(own)] = own
    lengths = [len(own) for own in tokenizer(texts, length)]
    return ids, (np.arange(length) < np.array(lengths)[:, None]).astype(np.int32)


def assert_one_sentence(text):
    """One line, and no traceback."""
    assert "Traceback" not in text
    assert text.startswith("to_stablehlo.py: ")
    assert text.count("\n") == 1


def refused(program, capsys, *arguments):
    """The sentence with which a call is refused."""
    assert program.main([str(argument) for argument in arguments]) == 2
    seen = capsys.readouterr()
    assert seen.out == ""
    assert_one_sentence(seen.err)
    return seen.err


# --- what it computes --------------------------------------------------------------------------


def test_one_artefact_embeds_any_number_of_texts_as_encode_does(artefact, encoded):
    ids, mask, expected = encoded
    assert mask.sum(axis=1).max() == 32  # the last text was cut
    for rows in (1, 2, 5):
        vectors = call(artefact, ids[:rows], mask[:rows])
        assert vectors.dtype == np.float32
        assert vectors.shape == (rows, 384)
        close(vectors, expected[:rows], MINILM, norms)


def test_what_stands_under_the_mask_s_zeros_does_not_matter(artefact):
    ids, mask = np.full((2, 32), 2000, np.int32), np.zeros((2, 32), np.int32)
    mask[:, :7] = [[1] * 7, [1, 2, 3, 4, 5, 6, 7]]  # any number but 0 is a token
    ids[1, 7:] = 3000
    first, second = call(artefact, ids, mask)
    np.testing.assert_array_equal(first, second)


def golden(length):
    """Ids and mask in rows of so many tokens, and the mean of the states that torch gave."""
    held = load_file(JINA / "golden.safetensors")
    assert (held["token_type_ids"] == 0).all()  # as an embedder leaves them
    wide = [(0, 0), (0, length - held["input_ids"].shape[1])]
    ids, mask = (np.pad(held[key], wide) for key in ("input_ids", "attention_mask"))
    return ids.astype(np.int32), mask.astype(np.int32), held["mean_pooled"]


@pytest.mark.parametrize(
    ("length", "asked", "attention"), [(29, "auto", "dense"), (521, "blockwise", "blockwise")]
)
def test_jinabert_agrees_with_torch(program, tmp_path, capsys, length, asked, attention):
    out = tmp_path / "jina"
    arguments = options("--attention", asked, length=length)
    assert program.main([str(JINA), str(out), *arguments]) == 0
    assert "agrees with the live model" in capsys.readouterr().out
    assert description(out)["attention"] == attention
    # dense has one loop, over the layers; blockwise has others in it.
    loops = reloaded(out).mlir_module().count("stablehlo.while")
    assert (loops > 1) == (attention == "blockwise")
    ids, mask, pooled = golden(length)
    close(call(out, ids, mask), pooled, GOLDEN_ENCODER, norms)


def test_bfloat16_computes_in_bfloat16(program, tmp_path):
    out = tmp_path / "half"
    arguments = options("--dtype", "bfloat16", "--batch", 3)
    assert program.main([str(JINA), str(out), *arguments]) == 0
    assert description(out)["dtype"] == "bfloat16"
    assert description(out)["output"]["dtype"] == "float32"
    ids, mask, pooled = golden(29)
    assert GOLDEN_ENCODER < off(call(out, ids, mask), pooled) < BFLOAT16


@pytest.fixture
def stacked(tmp_path):
    """A folder with a tokenizer and every module that an artefact takes in."""
    random = np.random.default_rng(3)
    dense = Dense(random.normal(size=(7, 30)).astype(np.float32), np.ones(7, np.float32), "Tanh")
    stack = Stack(
        Pooling(("cls", "max")), (dense, Normalize()), 17, prompts={"query": "q "}, truncate_dim=5
    )
    tokenizer = Tokenizer(word_tokenizer(), "right")
    Embedder(encoder("bert-gelu"), tokenizer, stack).save_pretrained(tmp_path / "stacked")
    return tmp_path / "stacked"


def test_dense_and_normalise_are_inside_and_truncate_dim_is_not(program, stacked, tmp_path):
    out = tmp_path / "out"
    assert program.main([str(stacked), str(out), *options(length=17)]) == 0
    embedder = Embedder.from_pretrained(stacked)
    texts = ["a b c", "d", "e f"]
    vectors = call(out, *padded(embedder.tokenizer, texts, 17))
    embedder.truncate_dim = None
    close(vectors, embedder.encode(texts), COMPANY, norms)
    about = description(out)
    assert about["output"] == {"name": "vectors", "dtype": "float32", "shape": ["b", 7]}
    assert about["not_inside"]["truncate_dim"] == 5
    assert about["not_inside"]["prompts"]["query"] == "q "
    assert about["not_inside"]["max_length"] == 17
    assert about["weights"] == {
        name: sha256(stacked / name) for name in ("model.safetensors", "2_Dense/model.safetensors")
    }


def test_a_process_without_jaxbert_gives_the_same_vectors(artefact, encoded, tmp_path):
    ids, mask, expected = encoded
    np.savez(tmp_path / "texts.npz", ids=ids, mask=mask)
    script = """
import sys
import jax.export
import numpy as np
given = np.load("texts.npz")
program = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
np.save("vectors.npy", program.call(given["ids"], given["mask"]))
assert not any(name.partition(".")[0] in ("jaxbert", "flax") for name in sys.modules)
"""
    alone = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", script, artefact], cwd=tmp_path, env=alone, check=True)
    close(np.load(tmp_path / "vectors.npy"), expected, MINILM, norms)


# --- the files ---------------------------------------------------------------------------------


def test_the_description(artefact, minilm):
    about = description(artefact)
    shape = {"dtype": "int32", "shape": ["b", 32]}
    assert about.pop("use") == load().USE
    assert about == {
        "model": "sentence-transformers/all-MiniLM-L6-v2",
        "revision": None,
        "weights": {"model.safetensors": sha256(minilm / "model.safetensors")},
        "platform": "cpu",
        "attention": "dense",
        "dtype": "float32",
        "length": 32,
        "inputs": [{"name": name} | shape for name in ("input_ids", "attention_mask")],
        "output": {"name": "vectors", "dtype": "float32", "shape": ["b", 384]},
        "not_inside": {
            "prompts": {"query": "", "document": ""},
            "default_prompt_name": None,
            "max_length": 256,
            "truncate_dim": None,
            "similarity": "cosine",
        },
        "versions": {
            "jax": jax.__version__,
            "jaxbert": jaxbert.__version__,
            "calling_convention": reloaded(artefact).calling_convention_version,
        },
        "sha256": hashlib.sha256(artefact.read_bytes()).hexdigest(),
    }
    assert sorted(file.name for file in artefact.parent.iterdir()) == [
        "minilm.stablehlo",
        "minilm.stablehlo.json",
    ]


def test_the_same_model_gives_the_same_bytes_in_any_process_and_place(program, tmp_path):
    arguments = options("--batch", 3, length=300, platform="tpu")
    given, read = tmp_path / "jinabert-3heads", ("config.json", "model.safetensors")
    given.mkdir()
    for name in read:
        (given / name).write_bytes((JINA / name).read_bytes())
    before = jax.config.jax_traceback_in_locations_limit
    assert before != 0
    assert program.main([str(JINA), str(tmp_path / "a"), *arguments]) == 0
    assert program.main([str(given), str(tmp_path / "b"), *arguments]) == 0
    assert jax.config.jax_traceback_in_locations_limit == before
    done = subprocess.run(
        [sys.executable, PROGRAM, "jinabert-3heads", "c", *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "exported for tpu and not run: this process has cpu" in done.stdout
    for suffix in ("", ".json"):
        contents = [(tmp_path / f"{name}{suffix}").read_bytes() for name in "abc"]
        assert contents[0] == contents[1] == contents[2]
        for place in (ROOT, tmp_path, Path(sys.prefix)):
            assert str(place).encode() not in contents[0]
        assert b".py" not in contents[0]


def test_nothing_is_left_of_a_write_that_fails(program, tmp_path, capsys, monkeypatch):
    out = tmp_path / "new" / "jina"
    out.parent.mkdir()
    (out.parent / "jina").write_text("the one before")
    write = Path.write_bytes

    def full(self, contents):
        write(self, contents[:1000])
        if len(contents) > 20_000:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    arguments = options(platform="tpu")
    assert "No space left" in refused(program, capsys, JINA, out, *arguments)
    assert [file.name for file in out.parent.iterdir()] == ["jina"]
    assert out.read_text() == "the one before"


@pytest.mark.parametrize("factor", [1.0 + 1e-5, float("nan")])
def test_an_artefact_that_differs_is_not_written(program, tmp_path, capsys, monkeypatch, factor):
    right = program.live
    monkeypatch.setattr(program, "live", lambda *given: right(*given) * factor)
    assert program.main([str(JINA), str(tmp_path / "jina"), *options("--batch", 1)]) == 1
    assert "DIFFERS" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


# --- platforms and attentions ------------------------------------------------------------------


@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
@pytest.mark.parametrize("attention", [name for name in ATTENTIONS if name != "auto"])
def test_what_is_refused_is_what_jax_cannot_export(program, attention, platform, batch):
    model = load_model(
        JINA,
        revision=None,
        ignore_config=(),
        dtype="float32",
        attention=ATTENTIONS[attention],
    )
    if program.obstacle(attention, platform, batch) is None:
        made, _ = program.exported(model, platform, 29, batch)
        assert made.platforms == (platform,)
        assert ("tpu_custom_call" in made.mlir_module()) == (attention == "tpu")
    else:
        with pytest.raises(program.NotExportedError, match="jax cannot export"):
            program.exported(model, platform, 29, batch)


@pytest.mark.parametrize(
    ("platform", "length", "batch", "name"),
    [
        ("cpu", 256, None, "dense"),
        ("cpu", 257, None, "blockwise"),
        ("cuda", 256, 3, "dense"),
        ("cuda", 257, 3, "blockwise"),
        ("tpu", 256, 3, "dense"),
        ("tpu", 257, None, "blockwise"),
        ("tpu", 257, 3, "tpu"),
    ],
)
def test_auto_goes_by_the_artefact_s_platform(program, monkeypatch, platform, length, batch, name):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert program.chosen("auto", platform, length, batch) == name


def test_a_fixed_batch(program, tmp_path, capsys):
    out = tmp_path / "five"
    assert program.main([str(JINA), str(out), *options("--batch", 5)]) == 0
    assert "in batches of 5" in capsys.readouterr().out
    assert description(out)["inputs"][0]["shape"] == [5, 29]
    ones = np.ones((4, 29), np.int32)
    with pytest.raises(ValueError, match="shape"):
        call(out, ones, ones)


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attention", "platform", "reason"),
    [
        ("tpu", "cpu", "a kernel for tpu"),
        ("tpu", "cuda", "a kernel for tpu"),
        ("tpu", "tpu", "pass --batch N"),
        ("gpu", "cpu", "a kernel for cuda"),
        ("gpu", "cuda", "Triton"),
        ("gpu", "tpu", "a kernel for cuda"),
    ],
)
def test_a_kernel_that_cannot_be_exported(program, tmp_path, capsys, attention, platform, reason):
    arguments = options("--attention", attention, platform=platform)
    error = refused(program, capsys, JINA, tmp_path / "jina", *arguments)
    assert reason in error
    assert "--attention blockwise" in error
    assert list(tmp_path.iterdir()) == []


def test_a_length_beyond_the_learned_positions(program, tmp_path, capsys):
    folder = write_folder(tmp_path / "model")
    out = tmp_path / "out"
    error = refused(program, capsys, folder, out, *options(length=20, platform="tpu"))
    assert "--length is 20" in error
    assert "positions for 19 only" in error
    assert not out.exists()
    assert program.main([str(folder), str(out), *options(length=19, platform="tpu")]) == 0


@pytest.mark.parametrize(
    ("out", "more", "reason"),
    [
        ("missing/jina", [], "missing; make it first"),
        ("folder", [], "is a folder"),
        ("described", [], "described.json is a folder"),
        ("jina", ["--length", 0], "--length is 0"),
        ("jina", ["--batch", 0], "--batch is 0"),
    ],
)
def test_wrong_arguments(program, tmp_path, capsys, out, more, reason):
    for name in ("folder", "described.json"):
        (tmp_path / name).mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert reason in refused(program, capsys, JINA, tmp_path / out, *options(*more))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_name_that_is_nothing(program, tmp_path, capsys):
    error = refused(program, capsys, "no folder of mine", tmp_path / "x", *options())
    assert "no folder of mine" in error


def test_a_broken_folder(program, tmp_path, capsys):
    folder = write_folder(tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"no tensors")
    assert "damaged" in refused(program, capsys, folder, tmp_path / "x", *options(length=17))


def test_missing_flatbuffers(program, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    assert "extra named export" in refused(program, capsys, JINA, tmp_path / "x", *options())


class LooksAtTheBatch(Position):
    def embed(self, x, pos):
        return 2.0 * x if x.shape[0] > 3 else x


class Counts(Position):
    def embed(self, x, pos):
        jax.debug.callback(lambda x: None, x)
        return x


@pytest.mark.parametrize(
    ("scheme", "batch", "reason"),
    [(LooksAtTheBatch, [], "try --batch N"), (Counts, ["--batch", 3], "cannot export")],
)
def test_a_scheme_that_cannot_be_exported(
    program, tmp_path, capsys, monkeypatch, scheme, batch, reason
):
    own = load_model(JINA, revision=None, ignore_config=(), dtype="float32")
    strange = own._replace(encoder=make(CONFIGS["bert-gelu"], position=scheme()))
    monkeypatch.setattr(program, "load_model", lambda *_, **__: strange)
    error = refused(program, capsys, JINA, tmp_path / "x", *options(*batch))
    assert reason in error
    assert len(error) < 400
    assert list(tmp_path.iterdir()) == []


def test_an_artefact_that_does_not_run(program, tmp_path, capsys, monkeypatch):
    def broken(*_):
        raise RuntimeError("RESOURCE_EXHAUSTED: out of memory\nwith a long story")

    monkeypatch.setattr(program, "live", broken)
    error = refused(program, capsys, JINA, tmp_path / "x", *options())
    assert "does not run: RESOURCE_EXHAUSTED" in error
    assert list(tmp_path.iterdir()) == []


def test_help(program, capsys):
    with pytest.raises(SystemExit) as stopped:
        program.main(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for option in ("MODEL", "OUT", "--length", "--platform", "--batch", "--attention", "--dtype"):
        assert option in text


def test_an_unknown_platform(program, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        program.main([str(JINA), str(tmp_path / "x"), *options(platform="abacus")])
    assert stopped.value.code == 2
    assert "abacus" in capsys.readouterr().err
