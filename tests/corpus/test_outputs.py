"""The files that a run leaves: what vouches for them, what is replaced, and what is not touched."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jaxbert import cli
from jaxbert.corpus.files import SEAL, DamagedRecordError, atomic_write, read_record, write_record
from jaxbert.corpus.own import OwnFiles
from jaxbert.corpus.product import Product
from tests.models import write_folder

ROOT = Path(__file__).parents[2]
SUFFIXES = (".npy", ".jsonl", ".parquet")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_folder(
        tmp_path_factory.mktemp("model"), "bert-gelu", sentence_bert_config={"max_seq_length": 17}
    )


@pytest.fixture
def lines(tmp_path):
    file = tmp_path / "in.txt"
    file.write_text("".join(f"{'a b c '[: 2 * (i % 4)]}\n" for i in range(23)))
    return file


def embed(model, *arguments):
    """The command's exit status."""
    given = ["embed", *arguments, "--model", model, "--quiet", "--rows-per-part", 5]
    return cli.main([str(argument) for argument in given])


def status(output):
    return cli.main(["status", str(output)])


def need(suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")


# --- records -----------------------------------------------------------------------------------


def test_a_record_is_what_was_written_to_the_bit(tmp_path):
    file, contents = tmp_path / "record.json", {"b": [1, None, 2.5], "a": "é"}
    write_record(file, contents)
    assert read_record(file) == contents
    held = file.read_bytes()
    for i in range(len(held)):
        for bit in range(8):
            spoiled = bytearray(held)
            spoiled[i] ^= 1 << bit
            file.write_bytes(spoiled)
            with pytest.raises(DamagedRecordError):
                read_record(file)
    for end in range(len(held)):
        file.write_bytes(held[:end])
        with pytest.raises(DamagedRecordError):
            read_record(file)


@pytest.mark.parametrize("text", ["[1]", '"a"', "null", '{"record_sha256": 3}', "{}"])
def test_json_of_somebody_else_is_no_record(tmp_path, text):
    file = tmp_path / "record.json"
    file.write_text(text)
    with pytest.raises(DamagedRecordError, match="is damaged"):
        read_record(file)


def test_a_record_may_hold_a_name_that_is_no_utf8(tmp_path):
    file, contents = tmp_path / "record.json", {"input": ["\udce9.txt", "é"]}
    write_record(file, contents)
    assert read_record(file) == contents


@pytest.mark.parametrize("name", ["", "."])
def test_an_output_without_a_name_is_one_sentence(model, lines, name, capsys):
    assert embed(model, lines, "-o", name) == 1
    assert status(name) == 1
    assert capsys.readouterr().err.count("is no name of a file") == 2


# --- a finished output -------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_record_holds_size_and_sum_of_every_file(model, tmp_path, suffix):
    need(suffix)
    source, out = tmp_path / "in.jsonl", tmp_path / f"out{suffix}"
    rows = [json.dumps({"id": f"d{i}", "text": "a"}) for i in range(19)]
    source.write_text("\n".join([*rows, "{"]) + "\n")
    assert embed(model, source, "-o", out, "--on-bad-row", "skip") == 0
    about = read_record(tmp_path / f"out{suffix}.json")
    kinds = {"vectors", "rejects"} | ({"ids"} if suffix == ".npy" else set())
    assert set(about["files"]) == kinds
    assert about["files"]["vectors"]["bytes"] == out.stat().st_size
    assert Product(out).fault() is None
    assert status(out) == 0


def cut(file):
    file.write_bytes(file.read_bytes()[:-3])


def flip(file):
    held = bytearray(file.read_bytes())
    held[len(held) // 2] ^= 1
    file.write_bytes(held)


DAMAGE = {
    "cut": cut,
    "empty": lambda file: file.write_bytes(b""),
    "flipped": flip,
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"\n"),
    "gone": lambda file: file.unlink(),
    "other": lambda file: file.write_bytes(b"of another program"),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_output_is_said_and_made_anew(model, lines, tmp_path, capsys, suffix, name):
    need(suffix)
    out = tmp_path / f"out{suffix}"
    assert embed(model, lines, "-o", out) == 0
    held = out.read_bytes()
    DAMAGE[name](out)
    capsys.readouterr()
    assert status(out) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert str(out) in said.err
    assert "the same command makes it anew" in said.err
    assert embed(model, lines, "-o", out) == 0
    assert "it is made anew" in capsys.readouterr().err
    assert out.read_bytes() == held
    assert status(out) == 0


@pytest.mark.parametrize("name", ["cut", "flipped", "gone"])
def test_damaged_ids_are_found_too(model, tmp_path, capsys, name):
    source, out = tmp_path / "in.jsonl", tmp_path / "out.npy"
    source.write_text("".join(json.dumps({"id": f"d{i}", "text": "a"}) + "\n" for i in range(7)))
    assert embed(model, source, "-o", out) == 0
    ids = tmp_path / "out.npy.ids.jsonl"
    held = ids.read_bytes()
    DAMAGE[name](ids)
    assert status(out) == 1
    assert "out.npy.ids.jsonl" in capsys.readouterr().err
    assert embed(model, source, "-o", out) == 0
    assert ids.read_bytes() == held


def test_rejected_rows_may_be_read_and_removed(model, tmp_path, capsys):
    source, out = tmp_path / "in.jsonl", tmp_path / "out.npy"
    rows = [json.dumps({"text": "a"})] * 29
    source.write_text("\n".join([*rows, "{"]) + "\n")
    assert embed(model, source, "-o", out, "--on-bad-row", "skip") == 0
    (tmp_path / "out.npy.rejects.jsonl").unlink()
    assert status(out) == 0
    assert embed(model, source, "-o", out, "--on-bad-row", "skip") == 0
    assert "complete already" in capsys.readouterr().err


@pytest.mark.parametrize("how", [cut, flip])
def test_a_damaged_record_is_made_anew_with_its_output(model, lines, tmp_path, how, capsys):
    out, record = tmp_path / "out.npy", tmp_path / "out.npy.json"
    assert embed(model, lines, "-o", out) == 0
    held = record.read_bytes()
    how(record)
    assert status(out) == 1
    assert "no record" in capsys.readouterr().err
    assert embed(model, lines, "-o", out) == 0
    assert record.read_bytes() == held


# --- what jaxbert did not write ----------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["out.npy", "out.npy.json", "out.npy.ids.jsonl", "out.npy.rejects.jsonl"]
)
def test_files_of_somebody_else_are_replaced_only_on_demand(model, lines, tmp_path, name, capsys):
    mine, out = tmp_path / name, tmp_path / "out.npy"
    mine.write_text("mine")
    assert embed(model, lines, "-o", out) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{mine} is there, and no record says that jaxbert wrote it" in error
    assert "--overwrite" in error
    assert sorted(os.listdir(tmp_path)) == ["in.txt", name]
    assert mine.read_text() == "mine"
    assert embed(model, lines, "-o", out, "--overwrite") == 0
    assert sorted(os.listdir(tmp_path)) == ["in.txt", "out.npy", "out.npy.json"]
    assert status(out) == 0


def test_rejects_beside_an_output_of_ours_that_has_none_are_somebody_elses(
    model, lines, tmp_path, capsys
):
    out, mine = tmp_path / "out.npy", tmp_path / "out.npy.rejects.jsonl"
    assert embed(model, lines, "-o", out) == 0
    mine.write_text("mine")
    assert embed(model, lines, "-o", out, "--normalize") == 1
    assert "rejects.jsonl is there" in capsys.readouterr().err
    assert mine.read_text() == "mine"


def test_a_file_that_comes_during_the_run_is_not_replaced(model, lines, tmp_path, capsys):
    from jaxbert.corpus.run import Run

    out, work = tmp_path / "out.npy", Run.work

    def meanwhile(self):
        summary = work(self)
        out.write_text("mine")
        return summary

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "work", meanwhile)
        assert embed(model, lines, "-o", out) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert out.read_text() == "mine"
    out.unlink()
    assert embed(model, lines, "-o", out) == 0


def test_an_empty_file_has_nothing_to_lose(model, lines, tmp_path):
    (tmp_path / "out.npy").touch()  # as mktemp makes it
    assert embed(model, lines, "-o", tmp_path / "out.npy") == 0
    assert status(tmp_path / "out.npy") == 0


@pytest.mark.parametrize("name", ["out.npy", "out.npy.json", "out.npy.rejects.jsonl"])
@pytest.mark.parametrize("kind", ["link", "dangling", "pipe"])
def test_links_and_pipes_are_refused(model, lines, tmp_path, name, kind, capsys):
    victim, file = tmp_path / "victim", tmp_path / name
    victim.write_text("precious")
    if kind == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to(victim if kind == "link" else tmp_path / "nowhere")
    assert embed(model, lines, "-o", tmp_path / "out.npy", "--overwrite") == 1
    assert "is no plain file" in capsys.readouterr().err
    assert victim.read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()


def test_names_beside_the_output_are_the_users(model, lines, tmp_path):
    """None of them is written through, removed or in the way."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "out.npy.partial").symlink_to(victim)
    (tmp_path / "out.npy.json.partial").symlink_to(victim)
    (tmp_path / "out.npy.parts.removed").mkdir()
    (tmp_path / "out.npy.parts.removed" / "mine.txt").write_text("mine")
    (tmp_path / "b.npy.parts.removed").write_text("mine")
    before = sorted(os.listdir(tmp_path))
    for name in ("out.npy", "b.npy"):
        for _ in range(2):
            assert embed(model, lines, "-o", tmp_path / name) == 0
    assert victim.read_text() == "precious"
    assert (tmp_path / "out.npy.parts.removed" / "mine.txt").read_text() == "mine"
    assert (tmp_path / "b.npy.parts.removed").read_text() == "mine"
    made = ["b.npy", "b.npy.json", "out.npy", "out.npy.json"]
    assert sorted(os.listdir(tmp_path)) == sorted([*before, *made])


def test_a_link_in_the_place_of_the_folder_of_parts_is_refused(model, lines, tmp_path, capsys):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out.npy.parts").symlink_to(tmp_path / "elsewhere")
    assert embed(model, lines, "-o", tmp_path / "out.npy") == 1
    assert "is a link" in capsys.readouterr().err
    assert os.listdir(tmp_path / "elsewhere") == []


def test_a_file_is_made_and_never_written_through_a_link(tmp_path):
    victim, file = tmp_path / "victim", tmp_path / "file"
    victim.write_text("precious")
    (tmp_path / "file.partial").symlink_to(victim)
    with atomic_write(file) as partial:
        partial.write_text("new")
    assert victim.read_text() == "precious"
    assert not file.is_symlink()
    assert file.read_text() == "new"


def test_what_another_program_puts_in_the_place_of_a_new_file_is_noticed(tmp_path):
    def swapped():
        with atomic_write(tmp_path / "file") as partial:
            partial.unlink()
            partial.symlink_to(tmp_path / "victim")

    (tmp_path / "victim").write_text("precious")
    with pytest.raises(OSError, match="something else"):
        swapped()
    assert os.listdir(tmp_path) == ["victim"]


def test_what_a_user_puts_into_the_folder_of_parts_is_kept(model, lines, tmp_path, monkeypatch):
    from jaxbert.corpus.run import Run

    out, work = tmp_path / "out.npy", Run.work

    def meanwhile(self):
        summary = work(self)
        (self.parts.folder.path / "notes.txt").write_text("mine")
        return summary

    monkeypatch.setattr(Run, "work", meanwhile)
    assert embed(model, lines, "-o", out) == 0
    assert os.listdir(tmp_path / "out.npy.parts") == ["notes.txt"]


# --- the swap ----------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
at, after = int(sys.argv[1]), sys.argv[2] == "after"
count, swap, remove = 0, os.replace, os.unlink

def counted(call):
    def wrapped(*arguments, **named):
        global count
        if os.path.basename(os.fspath(arguments[-1])).startswith("out.jsonl"):
            count += 1
            if count == at and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            call(*arguments, **named)
            if count == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return
        call(*arguments, **named)
    return wrapped

os.replace, os.unlink = counted(swap), counted(remove)
from jaxbert.cli import main
status = main(sys.argv[3:])
print(count)
sys.exit(status)
"""


def killed(at, after, *arguments):
    command = [sys.executable, "-c", KILLED, at, "after" if after else "before", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    given = [str(argument) for argument in command]
    return subprocess.run(given, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.faults
@pytest.mark.parametrize("parts_are_removed", [False, True], ids=["kept", "removed"])
def test_old_vectors_never_stand_for_new_ones(model, lines, tmp_path, parts_are_removed, capsys):
    """Killed before and after each rename at the output's names, with an older output there."""
    out = tmp_path / "out.jsonl"
    options = ("embed", lines, "-o", out, "--model", model, "--quiet", "--rows-per-part", 50)
    old_text, new_text = lines.read_text(), "c d e\n" * 7
    assert cli.main([str(option) for option in options]) == 0
    old = out.read_bytes()
    lines.write_text(new_text)
    done = killed(0, False, *options)
    assert done.returncode == 0, done.stderr
    new, steps = out.read_bytes(), int(done.stdout)
    assert steps == 3  # unfinished, the output, its record
    for at in range(1, steps + 1):
        for after in (False, True):
            lines.write_text(old_text)
            assert cli.main([str(option) for option in options]) == 0
            assert out.read_bytes() == old
            lines.write_text(new_text)
            assert killed(at, after, *options).returncode == -signal.SIGKILL
            if parts_are_removed:
                shutil.rmtree(tmp_path / "out.jsonl.parts")
                assert status(out) == (0 if (at, after) in ((3, True), (1, False)) else 1)
            capsys.readouterr()
            assert cli.main([str(option) for option in options]) == 0
            assert out.read_bytes() == new
            assert status(out) == 0


# --- inputs ------------------------------------------------------------------------------------


def test_a_pattern_does_not_find_what_the_run_writes(model, tmp_path, monkeypatch, capsys):
    """Broken off and begun again, with links to it: the inputs are the same every time."""
    from tests.corpus.test_run import broken_after

    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text('{"text": "a b"}\n' * 23)
    (tmp_path / "in" / "parts").symlink_to(tmp_path / "out.jsonl.parts")
    (tmp_path / "in" / "link.jsonl").symlink_to(tmp_path / "out.jsonl")
    monkeypatch.chdir(tmp_path)
    options = ("**/*.jsonl*", "in/*/*.jsonl", "in/a.jsonl", "-o", "out.jsonl")
    (tmp_path / "in" / "deep").mkdir()
    (tmp_path / "in" / "deep" / "b.jsonl").write_text('{"text": "c"}\n')
    with monkeypatch.context() as patch:
        broken_after(patch, 2)
        (tmp_path / "in" / "link.jsonl").unlink()
        assert embed(model, *options) == 1
    (tmp_path / "in" / "link.jsonl").symlink_to(tmp_path / "out.jsonl")
    capsys.readouterr()
    settings = read_record(tmp_path / "out.jsonl.parts" / "run.json")
    assert settings["input"] == ["a.jsonl", "b.jsonl", "b.jsonl", "a.jsonl"]
    assert embed(model, *options) == 0, capsys.readouterr().err
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 48
    assert embed(model, *options) == 0
    assert "complete already" in capsys.readouterr().err


def test_a_pattern_does_not_find_the_parts_of_other_runs(model, tmp_path, monkeypatch, capsys):
    from tests.corpus.test_run import broken_after

    source = tmp_path / "a.jsonl"
    source.write_text('{"text": "a b"}\n' * 23)
    with monkeypatch.context() as patch:
        broken_after(patch, 2)
        assert embed(model, source, "-o", tmp_path / "other.jsonl", "--with-text") == 1
    folder = tmp_path / "mine.parts"  # the user's own
    folder.mkdir()
    (folder / "b.jsonl").write_text('{"text": "c"}\n' * 3)
    assert embed(model, tmp_path / "**" / "*.jsonl", "-o", tmp_path / "out.npy") == 0
    assert "26 vectors" in capsys.readouterr().err
    only = tmp_path / "other.jsonl.parts" / "*.jsonl"
    assert embed(model, only, "-o", tmp_path / "b.npy") == 1
    assert "no file matches" in capsys.readouterr().err


def test_a_part_that_is_named_is_refused(model, tmp_path, capsys):
    folder = tmp_path / "out.jsonl.parts"
    folder.mkdir()
    (folder / "part-000000.jsonl").write_text('{"text": "a"}\n')
    assert embed(model, folder / "part-000000.jsonl", "-o", tmp_path / "out.jsonl") == 1
    assert "is what this run writes" in capsys.readouterr().err


def test_links_in_a_circle_are_no_error(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert str(tmp_path / "a") not in OwnFiles(tmp_path / "out.npy")
    assert SEAL not in str(OwnFiles(tmp_path / "out.npy").files)
