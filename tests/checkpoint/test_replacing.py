"""A model saved over another one: at every moment the folder is the old model, the new, or none."""

import errno
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxbert import Embedder, Encoder
from jaxbert.checkpoint import replacing
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.errors import CheckpointError, InputError, InputTypeError, JaxbertError, WriteError
from jaxbert.model.head import Dense, Normalize, Pooling
from jaxbert.text.tokenizer import Tokenizer
from tests.models import WORDS, encoder, randomised, sharded, word_tokenizer, write_folder

KIND = "sentence_transformers.models"
STEPS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate")
watchers = []


def hook(event, arguments):
    if watchers and event in STEPS:
        watchers[-1](event, arguments)


sys.addaudithook(hook)  # it cannot be removed, so it does nothing without watchers


def modules(*paths):
    """modules.json for folders of these names."""
    kinds = ["Transformer", *(path.split("_")[1] for path in paths[1:])]
    return [
        {"idx": i, "name": str(i), "path": path, "type": f"{KIND}.{kind}"}
        for i, (path, kind) in enumerate(zip(paths, kinds, strict=True))
    ]


def plain(folder):
    """Model A in the usual layout."""
    return write_folder(
        folder,
        modules=modules("", "1_Pooling", "2_Normalize"),
        sentence_bert_config={"max_seq_length": 17},
        config_sentence_transformers={"similarity_fn_name": "dot"},
        special_tokens_map={"unk_token": "[UNK]"},
        **{"1_Pooling__config": {"word_embedding_dimension": 15, "pooling_mode_cls_token": True}},
    )


def nested(folder):
    """Model A with its transformer in a folder of its own, as sentence-transformers 0 wrote it."""
    write_folder(folder / "0_Transformer", sentence_bert_config={"max_seq_length": 17})
    pooling = {"word_embedding_dimension": 15, "pooling_mode_cls_token": True}
    for path, contents in {
        "modules.json": modules("0_Transformer", "1_Pooling"),
        "1_Pooling/config.json": pooling,
        "config_sentence_transformers.json": {"similarity_fn_name": "dot"},
    }.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(json.dumps(contents))
    return folder


def bare(folder):
    """Model A without modules, in shards."""
    sharded(write_folder(folder))
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_text("of another model")
    (folder / "merges.txt").write_text("of another tokenizer")
    return folder


LAYOUTS = {"plain": plain, "nested": nested, "bare": bare}


def model_b():
    """Another model of the same sizes, with another vocabulary."""
    words = {word: i for i, word in enumerate([*WORDS[:5], *WORDS[:4:-1]])}
    backend = word_tokenizer()
    backend.model = type(backend.model)(words, unk_token="[UNK]")
    weight = np.random.default_rng(5).normal(size=(7, 15)).astype(np.float32)
    stack = Stack(Pooling(("max",)), (Dense(weight, None, "Tanh"),), max_length=13)
    return Embedder(randomised(encoder("bert-gelu"), 9), Tokenizer(backend, "left"), stack)


def identity(own):
    """Everything that decides about a model's vectors."""
    stack = own.stack
    dense = [step.weight.tobytes() for step in stack.after if isinstance(step, Dense)]
    return (
        b"".join(np.asarray(weight).tobytes() for weight in own.encoder.weights().values()),
        sorted(own.tokenizer.backend.get_vocab().items()),
        own.tokenizer.side,
        (stack.pooling, len(stack.after), stack.max_length, stack.similarity, stack.truncate_dim),
        dense,
    )


def state(folder, known):
    """A or B, or why it is refused; a mixture is an error."""
    try:
        found = identity(Embedder.from_pretrained(folder))
    except JaxbertError:
        return "refused"
    names = [name for name, own in known.items() if own == found]
    assert names, f"{folder} loads as a mixture"
    return names[0]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_killed_at_any_step_the_folder_is_one_of_both_models_or_refused(tmp_path, layout):
    folder, b = LAYOUTS[layout](tmp_path / "model"), model_b()
    (folder / "README.md").write_text("mine")
    known = {"A": identity(Embedder.from_pretrained(folder)), "B": identity(b)}
    moments = []

    def copy(event, arguments):
        if str(folder) in str(arguments):
            watcher = watchers.pop()
            moment = tmp_path / str(len(moments))
            shutil.copytree(folder, moment, symlinks=True)
            moments.append(moment)
            watchers.append(watcher)

    watchers.append(copy)
    try:
        b.save_pretrained(folder)
    finally:
        watchers.pop()
    states = [state(moment, known) for moment in (*moments, folder)]
    order = [now for i, now in enumerate(states) if i == 0 or states[i - 1] != now]
    assert order == ["A", "refused", "B"]
    assert len(moments) > 20
    for moment in moments[:: len(moments) // 5]:  # what a kill left is saved over all the same
        b.save_pretrained(moment)
        assert state(moment, known) == "B"
        assert not list(moment.glob(replacing.PARTIAL))
    expected = {"README.md", *names_of(b, tmp_path / "new")}
    assert {file.relative_to(folder).as_posix() for file in folder.rglob("*")} == expected


def names_of(own, folder):
    own.save_pretrained(folder)
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*")}


def test_the_opposite_way_round_nothing_of_the_old_layout_is_left(tmp_path):
    model_b().save_pretrained(tmp_path / "model")
    own = Embedder.from_pretrained(nested(tmp_path / "a"))
    own.save_pretrained(tmp_path / "model")
    assert identity(Embedder.from_pretrained(tmp_path / "model")) == identity(own)
    assert not (tmp_path / "model" / "2_Dense").exists()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_model_is_saved_again_and_again_where_it_came_from(tmp_path, layout, monkeypatch):
    folder = LAYOUTS[layout](tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    own = Embedder.from_pretrained("model")
    before = identity(own)
    for target in (folder, tmp_path / "model", "model", tmp_path / "other", folder):
        own.save_pretrained(target)
        assert identity(Embedder.from_pretrained(target)) == before
    assert not (folder / "0_Transformer").exists()


def test_tensors_that_are_not_used_survive_saving_over_their_own_folder(tmp_path):
    own = write_folder(tmp_path / "model")
    tensors = replacing_tensors(own)
    loaded = Embedder.from_pretrained(own)
    for _ in range(2):
        loaded.save_pretrained(own)
        assert set(tensors) == set(replacing_tensors(own, add=False))


def replacing_tensors(folder, add=True):
    """The tensors of a folder, a pooler put among them."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    if add:
        tensors["pooler.dense.bias"] = np.ones(15, np.float32)
        save_file(tensors, folder / "model.safetensors")
    return tensors


# --- an encoder alone ----------------------------------------------------------------------------


def test_an_encoder_alone_replaces_an_encoder_alone(tmp_path):
    encoder("jinabert-geglu").save_pretrained(tmp_path)
    encoder("bert-gelu").save_pretrained(tmp_path)
    assert Encoder.from_pretrained(tmp_path).config == encoder("bert-gelu").config


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_encoder_alone_does_not_get_the_tokenizer_of_another_model(tmp_path, layout):
    folder = LAYOUTS[layout](tmp_path / "model")
    before = identity(Embedder.from_pretrained(folder))
    with pytest.raises(CheckpointError, match="of a whole model"):
        encoder("bert-gelu").save_pretrained(folder)
    assert identity(Embedder.from_pretrained(folder)) == before


# --- what cannot be written ----------------------------------------------------------------------


def failing(name, nth, error):
    """An operation of the system that fails the nth time."""
    real, count = getattr(os, name), [0]

    def call(*arguments, **more):
        count[0] += 1
        if count[0] == nth:
            raise error
        return real(*arguments, **more)

    return call


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS])
@pytest.mark.parametrize(("name", "nth"), [("fsync", 3), ("mkdir", 2), ("mkdir", 4)])
def test_a_full_disk_leaves_the_old_model(tmp_path, monkeypatch, name, nth, number):
    folder = plain(tmp_path / "model")
    before = identity(Embedder.from_pretrained(folder))
    names = {file for file in folder.rglob("*")}
    own = model_b()
    monkeypatch.setattr(os, name, failing(name, nth, OSError(number, os.strerror(number))))
    with pytest.raises(WriteError, match=os.strerror(number)) as caught:
        own.save_pretrained(folder)
    monkeypatch.undo()
    assert str(folder) in str(caught.value)
    assert identity(Embedder.from_pretrained(folder)) == before
    assert {file for file in folder.rglob("*")} == names


def test_a_folder_that_was_new_is_not_left_behind(tmp_path, monkeypatch):
    own = model_b()
    monkeypatch.setattr(os, "fsync", failing("fsync", 1, OSError(errno.ENOSPC, "No space")))
    with pytest.raises(WriteError):
        own.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_an_interrupted_swap_is_refused_and_said(tmp_path, monkeypatch):
    folder, own = plain(tmp_path / "model"), model_b()
    monkeypatch.setattr(os, "unlink", failing("unlink", 12, OSError(errno.EIO, "Input/output")))
    with pytest.raises(WriteError, match="save again"):
        own.save_pretrained(folder)
    monkeypatch.undo()
    with pytest.raises(JaxbertError):
        Embedder.from_pretrained(folder)
    own.save_pretrained(folder)
    assert identity(Embedder.from_pretrained(folder)) == identity(own)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    folder = plain(tmp_path / "model")
    folder.chmod(0o555)
    with pytest.raises(WriteError, match="Permission denied"):
        model_b().save_pretrained(folder)
    folder.chmod(0o755)


def test_what_is_no_folder_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    own = model_b()
    for target, kind, reason in (
        (tmp_path / "file", InputError, "is a file"),
        (tmp_path / "dangling", InputError, "link to nothing"),
        (tmp_path / "circle", InputError, "circle"),
        (tmp_path / "circle" / "new", JaxbertError, "new"),
        (tmp_path / "file" / "new", JaxbertError, "new"),
        ("", InputError, "cannot be"),
        ("a\0b", InputError, "cannot be"),
        (tmp_path / ("x" * 300), JaxbertError, "too long"),
        (None, InputTypeError, "NoneType"),
        (3, InputTypeError, "int"),
        (b"model", InputTypeError, "bytes"),
    ):
        # Of an encoder's arguments tests check the types themselves.
        for one in (own, own.encoder) if isinstance(target, str | Path) else (own,):
            with pytest.raises(kind, match=reason):
                one.save_pretrained(target)
    assert (tmp_path / "file").read_text() == "mine"
    assert not list(tmp_path.glob("nothing*"))


def test_a_link_to_a_folder_is_followed_and_stays(tmp_path):
    folder = plain(tmp_path / "model")
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    model_b().save_pretrained(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert identity(Embedder.from_pretrained(folder)) == identity(model_b())


def test_links_inside_are_replaced_and_not_written_through(tmp_path):
    elsewhere = plain(tmp_path / "elsewhere")
    before = identity(Embedder.from_pretrained(elsewhere))
    folder = tmp_path / "model"
    folder.mkdir()
    for file in elsewhere.iterdir():
        (folder / file.name).symlink_to(file)
    model_b().save_pretrained(folder)
    assert identity(Embedder.from_pretrained(folder)) == identity(model_b())
    assert identity(Embedder.from_pretrained(elsewhere)) == before


def test_the_users_own_folders_are_neither_deleted_nor_written_into(tmp_path):
    folder = plain(tmp_path / "model")
    (folder / "1_Pooling" / "notes.md").write_text("mine")
    (folder / "vocab.txt").mkdir()
    (folder / "vocab.txt" / "notes.md").write_text("mine")
    model_b().save_pretrained(folder)
    assert (folder / "1_Pooling" / "notes.md").read_text() == "mine"
    assert (folder / "vocab.txt" / "notes.md").read_text() == "mine"
    (folder / "SOURCE.json").write_text("{}")
    (folder / "2_Dense" / "config.json").unlink()
    (folder / "2_Dense" / "config.json").mkdir()
    with pytest.raises(CheckpointError, match="is a folder where a file belongs"):
        model_b().save_pretrained(folder)


def test_paths_of_a_modules_json_that_lead_outside_are_not_followed(tmp_path):
    outside = plain(tmp_path / "outside")
    before = identity(Embedder.from_pretrained(outside))
    folder = plain(tmp_path / "model")
    paths = ["../outside", str(outside), ".", "..", "\0", "a/../../outside"]
    (folder / "modules.json").write_text(json.dumps([{"path": path} for path in paths]))
    model_b().save_pretrained(folder)
    assert identity(Embedder.from_pretrained(outside)) == before
    for wrong in ("[1, null]", "3", "{", "[" * 5000):
        (folder / "modules.json").write_text(wrong)
        model_b().save_pretrained(folder)


def test_two_processes_do_not_save_into_one_folder_at_once(tmp_path):
    folder, own = plain(tmp_path / "model"), model_b()
    with (
        pytest.raises(WriteError, match="another program is saving"),
        replacing.replaced(folder),
    ):
        own.save_pretrained(folder)


def test_files_have_the_permissions_of_the_users_others(tmp_path):
    (tmp_path / "mine").write_text("")
    Embedder(*parts()).save_pretrained(tmp_path / "new")
    usual = (tmp_path / "mine").stat().st_mode
    assert {file.stat().st_mode for file in (tmp_path / "new").iterdir() if file.is_file()} == {
        usual
    }
    (tmp_path / "folder").mkdir()
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "folder").stat().st_mode


def parts():
    stack = Stack(after=(Normalize(),), max_length=19)
    return encoder("bert-gelu"), Tokenizer(word_tokenizer(), "right"), stack


def test_paths_are_absolute_and_without_links():
    assert replacing.destination("a/../b") == Path.cwd() / "b"
