"""convert/from_torch.py: the same bits, the same vectors, and no code of a pickle."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import safetensors.torch

from jaxbert.embedder import Embedder
from jaxbert.encoder import Encoder
from tests.models import GOLDEN, arrays
from tests.parity.torch_models import SIZES, bert, hidden_states, save_tokenizer
from tests.tolerances import GOLDEN_ENCODER, close, norms

pytestmark = pytest.mark.torch

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "convert" / "from_torch.py"
PICKLE, SAFE = "pytorch_model.bin", "model.safetensors"


@pytest.fixture
def program(monkeypatch):
    """The program as a module."""
    monkeypatch.syspath_prepend(PROGRAM.parent)
    spec = importlib.util.spec_from_file_location("convert_from_torch", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def places(tmp_path):
    """Where the pickles are, and where the result goes."""
    (tmp_path / "pickled").mkdir()
    return tmp_path / "pickled", tmp_path / "out"


def write(folder, held, model=None, **options):
    """A folder with a config.json, and a pickle of what is held."""
    (model or bert()).config.save_pretrained(folder)
    torch.save(held, folder / PICKLE, **options)


def convert(program, places):
    return program.main([str(place) for place in places])


def assert_refused(program, places, capsys, *reasons):
    """Status 2, one sentence, and nothing where the result would be or beside it."""
    assert convert(program, places) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("from_torch.py: ")
    assert captured.err.count("\n") == 1
    for reason in reasons:
        assert reason in captured.err
    assert not places[1].exists()
    assert not places[1].with_name("out.partial").exists()


def bits(tensors):
    """Dtype, shape and bytes of each tensor; NaN differs from NaN otherwise."""
    return {
        name: (tensor.dtype, tuple(tensor.shape), flat(tensor).numpy().tobytes())
        for name, tensor in tensors.items()
    }


def flat(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def written(places, inner="."):
    return bits(safetensors.torch.load_file(places[1] / inner / SAFE))


# --- what is kept ------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_same_bits_and_the_same_states(program, places, capsys, dtype, zipped):
    model = bert().to(dtype)
    write(places[0], model.state_dict(), model, _use_new_zipfile_serialization=zipped)
    assert convert(program, places) == 0
    assert written(places) == bits(model.state_dict())
    text = capsys.readouterr().out
    count, size = len(model.state_dict()), (places[1] / SAFE).stat().st_size
    assert (
        f"{SAFE}: {count} tensors, {size:,} bytes, sha256 {program.sha256(places[1] / SAFE)}\n"
        in (text)
    )
    given = arrays(3, vocabulary=SIZES["vocab_size"])
    # Both compute in float32, with the numbers that dtype has rounded.
    ours = np.asarray(Encoder.from_pretrained(places[1])(*given))
    theirs = hidden_states(model.float(), *given)[-1]
    valid = given[1] != 0
    close(ours[valid], theirs[valid], GOLDEN_ENCODER)


def test_it_is_a_program(places):
    write(places[0], bert().state_dict())
    done = subprocess.run(
        [sys.executable, PROGRAM, *places],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "every tensor is bit for bit what torch loaded" in done.stdout
    assert written(places) == bits(bert().state_dict())


def test_a_whole_sentence_transformers_folder(program, places):
    """With Dense behind the mean: the vector is the one that torch computes from the pickles."""
    from tests.parity.torch_models import VOCABULARY

    folder, out = places
    model = bert(vocab_size=len(VOCABULARY))
    write(folder, model.state_dict(), model)
    save_tokenizer(folder, lowercase=True)
    kinds = ["Transformer", "Pooling", "Dense"]
    paths = ["", "1_Pooling", "2_Dense"]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(zip(paths, kinds, strict=True))
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    for path, config in {
        "1_Pooling": {"pooling_mode": "mean"},
        "2_Dense": {"in_features": 28, "out_features": 11, "bias": True},
    }.items():
        (folder / path).mkdir()
        (folder / path / "config.json").write_text(json.dumps(config))
    dense = torch.nn.Linear(28, 11)
    state = {f"linear.{name}": weight for name, weight in dense.state_dict().items()}
    torch.save(state, folder / "2_Dense" / PICKLE)
    (folder / "modeling_bert.py").write_text("raise SystemExit('code of a checkpoint ran')")
    (folder / "training_args.bin").write_bytes(b"a pickle of something else")
    (folder / "SOURCE.json").write_text('{"files": {}}')
    (folder / ".git").mkdir()
    (folder / ".git" / "own.json").write_text("{}")

    assert convert(program, places) == 0
    kept = {p.relative_to(folder).as_posix() for p in folder.rglob("*.*") if p.is_file()}
    kept -= {"modeling_bert.py", "training_args.bin", "SOURCE.json", ".git/own.json"}
    found = {p.relative_to(out).as_posix() for p in out.rglob("*.*") if p.is_file()}
    assert found == {name.replace(PICKLE, SAFE) for name in kept}
    for name in kept & found:
        assert (folder / name).read_bytes() == (out / name).read_bytes()
    assert written(places, "2_Dense") == bits(state)

    text = "the cat and the text"
    embedder = Embedder.from_pretrained(out)
    ids = torch.from_numpy(embedder.tokenizer([text])[0].astype(np.int64))[None]
    with torch.inference_mode():
        vector = torch.tanh(dense(model(ids).last_hidden_state.mean(1)))[0].numpy()
    close(embedder.encode(text), vector, GOLDEN_ENCODER, norms)


def test_a_folder_like_jina_embeddings_v1(program, places):
    """A T5 whose config.json names code that stands beside it, and no weights but a pickle."""
    folder, out = places
    golden = GOLDEN / "t5-relu-3heads"
    shutil.copytree(golden, folder, dirs_exist_ok=True)
    held = safetensors.torch.load_file(folder / SAFE)
    (folder / SAFE).unlink()
    torch.save(held, folder / PICKLE)
    raw = json.loads((folder / "config.json").read_text())
    assert raw["auto_map"] == {"AutoModel": "modeling_t5.T5EncoderModel"}
    (folder / "modeling_t5.py").write_text("raise SystemExit('code of a checkpoint ran')")
    kinds = {"": "Transformer", "1_Pooling": "Pooling"}
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": raw["d_model"], "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    length = {"max_seq_length": 13, "do_lower_case": False}
    (folder / "sentence_bert_config.json").write_text(json.dumps(length))

    assert convert(program, places) == 0
    assert written(places) == bits(held)
    assert not (out / "modeling_t5.py").exists()
    embedder = Embedder.from_pretrained(out)
    assert embedder.max_seq_length == 13
    model = transformers.T5EncoderModel.from_pretrained(golden, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(golden)
    for text in ("", "How many people live in Berlin?", "the city of Berlin " * 9):
        given = tokenizer(text, truncation=True, max_length=13, return_tensors="pt")
        with torch.inference_mode():
            expected = model(**given).last_hidden_state.mean(1)[0].numpy()
        close(embedder.encode(text), expected, GOLDEN_ENCODER, norms)


def shard(folder, held):
    """The tensors in two pickles and an index; the index."""
    names, where = sorted(held), {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"pytorch_model-0000{number}-of-00002.bin"
        torch.save({name: held[name] for name in part}, folder / file)
        where |= dict.fromkeys(part, file)
    index = folder / f"{PICKLE}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 0}, "weight_map": where}))
    return index


def test_shards_become_one_file(program, places):
    bert().config.save_pretrained(places[0])
    shard(places[0], bert().state_dict())
    assert convert(program, places) == 0
    assert {file.name for file in places[1].iterdir()} == {"config.json", SAFE}
    assert written(places) == bits(bert().state_dict())


@pytest.mark.filterwarnings("ignore::jaxbert.checkpoint.kinds.NotAnEmbedderWarning")
def test_names_heads_and_prefix_are_kept(program, places):
    """The spellings of the first BERT, the pooler and the head for pre-training."""
    model = bert(transformers.BertForPreTraining)
    held = OrderedDict(
        (name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"), tensor)
        for name, tensor in model.state_dict().items()
    )
    assert any(name.endswith("LayerNorm.gamma") for name in held)
    write(places[0], held, model)
    assert convert(program, places) == 0
    assert written(places) == bits(held)
    given = arrays(3, vocabulary=SIZES["vocab_size"])
    valid = given[1] != 0
    ours = np.asarray(Encoder.from_pretrained(places[1])(*given))[valid]
    theirs = hidden_states(model.bert, *given)[-1][valid]
    close(ours, theirs, GOLDEN_ENCODER)


@pytest.mark.filterwarnings("ignore::jaxbert.checkpoint.kinds.NotAnEmbedderWarning")
def test_tensors_that_share_memory_or_stride_through_it(program, places):
    model = bert(transformers.BertForPreTraining)
    held = model.state_dict()
    words, head = "bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"
    assert held[words].data_ptr() == held[head].data_ptr()  # tied
    query = "bert.encoder.layer.1.attention.self.query.weight"
    held[query] = held[query].T.contiguous().T
    part = "bert.encoder.layer.0.output.dense.bias"
    held[part] = torch.stack([held[part], held[part] + 1], -1)[:, 0]
    expected = bits(held)
    write(places[0], held, model)
    loaded = torch.load(places[0] / PICKLE, weights_only=True)
    assert not loaded[query].is_contiguous()
    assert not loaded[part].is_contiguous()
    assert convert(program, places) == 0
    assert written(places) == expected


def test_every_bit_of_what_no_rule_reads(program, places, capsys):
    """Refused by jaxbert for its names, but kept: integers, scalars, NaN, nothing at all."""
    held = bert().state_dict() | {
        "a.nan": torch.tensor([0x7FC12345, 0xFFC00001 - 2**32, -(2**31)], dtype=torch.int32).view(
            torch.float32
        ),
        "a.double": torch.tensor([1 / 3, -0.0], dtype=torch.float64),
        "a.bool": torch.tensor([True, False, True]),
        "a.scalar": torch.tensor(2**40),
        "a.nothing": torch.zeros(0, 5),
        "a.parameter": torch.nn.Parameter(torch.tensor([3.5])),
    }
    write(places[0], held)
    assert convert(program, places) == 1
    assert written(places) == bits({name: tensor.detach() for name, tensor in held.items()})
    captured = capsys.readouterr()
    assert f"{len(held)} tensors" in captured.out
    assert f"{places[1]} is kept, but refused" in captured.err
    assert captured.err.count("\n") == 1


def test_a_model_that_jaxbert_refuses_is_kept(program, places, capsys):
    write(places[0], bert().state_dict())
    config = places[0] / "config.json"
    config.write_text(config.read_text().replace('"bert"', '"roberta"'))
    assert convert(program, places) == 1
    captured = capsys.readouterr()
    assert "RoBERTa" in captured.err
    assert captured.err.count("\n") == 1
    assert written(places) == bits(bert().state_dict())


# --- what is refused ---------------------------------------------------------------------------


class Code:
    """A pickle of this runs code when it is opened carelessly."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("inner", [".", "2_Dense"])
def test_code_in_a_pickle_does_not_run(program, places, tmp_path, capsys, inner, zipped):
    write(places[0], bert().state_dict())
    marker = tmp_path / "ran"
    held = {"linear.weight": torch.ones(2, 3), "linear.bias": Code(marker)}
    (places[0] / inner).mkdir(exist_ok=True)
    file = places[0] / inner / PICKLE
    torch.save(held, file, _use_new_zipfile_serialization=zipped)
    # A wish of the environment does not open it either.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
        assert_refused(program, places, capsys, str(file), "mkdir", "it was not run")
    assert not marker.exists()
    torch.load(file, weights_only=False)  # the danger was real
    assert marker.exists()


CONTENTS = {
    "wrapped": (lambda held: {"state_dict": held}, "state_dict, which is no tensor"),
    "a number beside": (lambda held: held | {"epoch": 3}, "epoch, which is no tensor"),
    "a list": (lambda held: list(held.values()), "no tensors by name"),
    "names that are numbers": (lambda held: dict(enumerate(held.values())), "no tensors by name"),
    "nothing": (lambda held: {}, "no tensors by name"),
    "a tensor": (lambda held: torch.ones(3), "no tensors by name"),
    "a model": (lambda held: bert(), "BertModel, which is code"),
    "sparse": (lambda held: held | {"a.b": torch.eye(3).to_sparse()}, "a.b, which is no dense"),
    "complex": (lambda held: held | {"a.b": torch.ones(3) * 1j}, "torch.complex64"),
    "eight bits": (
        lambda held: held | {"a.b": torch.ones(3).to(torch.float8_e4m3fn)},
        "torch.float8_e4m3fn",
    ),
    "no contents": (lambda held: held | {"a.b": torch.empty(3, device="meta")}, "on meta"),
}


@pytest.mark.parametrize("case", CONTENTS)
def test_what_is_no_mapping_of_tensors(program, places, capsys, case):
    change, reason = CONTENTS[case]
    write(places[0], change(bert().state_dict()))
    assert_refused(program, places, capsys, PICKLE, reason)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.999])
def test_a_file_that_is_cut_off(program, places, capsys, kept, zipped):
    write(places[0], bert().state_dict(), _use_new_zipfile_serialization=zipped)
    file = places[0] / PICKLE
    data = file.read_bytes()
    file.write_bytes(data[: int(kept * len(data))])
    assert_refused(program, places, capsys, f"{file} is damaged")


def test_a_pointer_in_place_of_the_file(program, places, capsys):
    write(places[0], bert().state_dict())
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n"
    (places[0] / PICKLE).write_text(pointer)
    assert_refused(program, places, capsys, "is a Git LFS pointer; run `git lfs pull`")


def test_a_pointer_in_place_of_safetensors_beside_a_pickle(program, places):
    held = bert().state_dict()
    write(places[0], held)
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n"
    (places[0] / SAFE).write_text(pointer)
    assert convert(program, places) == 0
    assert written(places) == bits(held)


def test_missing_files(program, places, capsys):
    bert().config.save_pretrained(places[0])
    assert_refused(program, places, capsys, f"has no {PICKLE}")
    shutil.rmtree(places[0])
    assert_refused(program, places, capsys, "is no folder")


def test_weights_that_are_safetensors_already(program, places, capsys):
    bert().save_pretrained(places[0])
    write(places[0], {"state_dict": "never opened"})
    assert_refused(program, places, capsys, f"without a {SAFE} beside it")


def drop(index, name="weight_map"):
    """The index without its first tensor."""
    contents = json.loads(index.read_text())
    del contents[name][min(contents[name])]
    index.write_text(json.dumps(contents))


INDEXES = {
    "a shard is missing": (
        lambda index: (index.parent / "pytorch_model-00002-of-00002.bin").unlink(),
        "pytorch_model-00002-of-00002.bin, which is not there",
    ),
    "a tensor is not listed": (drop, "disagree about embeddings.LayerNorm.bias"),
    "a tensor is stored twice": (
        lambda index: shutil.copyfile(
            index.parent / "pytorch_model-00001-of-00002.bin",
            index.parent / "pytorch_model-00002-of-00002.bin",
        ),
        "is stored twice",
    ),
    "no list": (lambda index: index.write_text("{}"), "no weight_map"),
    "no JSON": (lambda index: index.write_text("{"), "cannot be read as JSON"),
    "outside": (
        lambda index: index.write_text(
            index.read_text().replace("pytorch_model-00002", "../pickled/pytorch_model-00002")
        ),
        "which is not there",
    ),
}


@pytest.mark.parametrize("case", INDEXES)
def test_an_index_that_does_not_fit(program, places, capsys, case):
    damage, reason = INDEXES[case]
    bert().config.save_pretrained(places[0])
    damage(shard(places[0], bert().state_dict()))
    assert_refused(program, places, capsys, reason)


def test_what_is_there_is_not_written_over(program, places, capsys):
    folder, out = places
    write(folder, bert().state_dict())
    assert program.main([str(folder), str(folder)]) == 2
    assert "is not empty" in capsys.readouterr().err
    partial = out.with_name("out.partial")
    partial.mkdir()
    assert convert(program, places) == 2
    assert "delete it" in capsys.readouterr().err
    partial.rmdir()
    out.mkdir()
    assert convert(program, places) == 0  # an empty folder may be filled


def test_a_wrong_bit_on_the_way_is_found(program, places, capsys, monkeypatch):
    write(places[0], bert().state_dict())
    right = program.save

    def wrong(held, file):
        held = dict(held)
        last = max(held)
        held[last] = held[last].clone()
        flat(held[last])[0] ^= 1
        right(held, file)

    monkeypatch.setattr(program, "save", wrong)
    assert_refused(program, places, capsys, "is not what torch loaded")


def test_without_torch_it_is_one_sentence(program, places, capsys, monkeypatch):
    write(places[0], bert().state_dict())
    monkeypatch.setitem(sys.modules, "torch", None)
    assert_refused(program, places, capsys, "extra named parity")


def test_help(program, capsys):
    with pytest.raises(SystemExit, match="0"):
        program.main(["--help"])
    text = capsys.readouterr().out
    assert "usage: from_torch.py" in text
    assert "FOLDER OUT" in text
