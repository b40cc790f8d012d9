"""Standard streams that are closed, broken, full, or of an encoding without most characters."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.models import write_folder

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("model"), "jinabert-geglu")


@pytest.fixture
def lines(tmp_path):
    file = tmp_path / "in.txt"
    file.write_text("a b\ncafé €\n", encoding="utf-8")
    return file


def shell(model, line, folder, **environment):
    """A line for a shell, in which jaxbert is the command."""
    command = f'jaxbert() {{ {sys.executable} -m jaxbert.cli "$@"; }}\n{line}'
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "MODEL": str(model)} | environment,
        capture_output=True,
        timeout=120,
    )


def test_without_stderr_the_work_is_done(model, lines, tmp_path):
    done = shell(model, "jaxbert embed in.txt -o o.npy --model $MODEL 2>&-", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert (tmp_path / "o.npy.json").exists()


def test_without_stderr_nothing_lands_among_the_data(model, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n{\n{"text": "b"}\n')
    options = "--with-text --on-bad-row skip --max-rejected 40% --model $MODEL"
    line = f"jaxbert embed in.jsonl -o - {options} 2>&-"
    done = shell(model, line, tmp_path)
    assert done.returncode == 0
    assert [json.loads(row)["text"] for row in done.stdout.splitlines()] == ["a", "b"]


@pytest.mark.parametrize(
    "command",
    [
        "embed in.txt -o - --model $MODEL",
        "similarity a b --model $MODEL",
        "info $MODEL",
        "verify $MODEL",
        "status o.npy",
    ],
)
@pytest.mark.parametrize("how", [">&-", "1</dev/null"])
def test_an_answer_that_nobody_can_read_is_refused_first(model, lines, tmp_path, command, how):
    done = shell(model, f"jaxbert {command} {how}", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(b"jaxbert: stdout is closed, so the answer would be lost")
    assert done.stderr.count(b"\n") == 1


def test_without_stdout_a_file_is_written(model, lines, tmp_path):
    done = shell(model, "jaxbert embed in.txt -o o.npy --model $MODEL --quiet >&-", tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("how", ["<&-", "0>/dev/null"])
@pytest.mark.parametrize("output", ["o.npy", "-"])
def test_stdin_that_cannot_be_read_is_one_sentence(model, tmp_path, how, output):
    done = shell(model, f"jaxbert embed -o {output} --model $MODEL {how}", tmp_path)
    assert done.returncode == 1
    assert done.stderr.decode().startswith("jaxbert: stdin is closed; name the files to read")
    assert done.stderr.count(b"\n") == 1
    assert os.listdir(tmp_path) == []


def test_all_streams_closed(model, lines, tmp_path):
    line = "jaxbert embed in.txt -o o.jsonl --with-text --model $MODEL <&- >&- 2>&-"
    assert shell(model, line, tmp_path).returncode == 0
    rows = (tmp_path / "o.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(row)["text"] for row in rows] == ["a b", "café €"]


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-16"])
def test_json_is_utf8_whatever_the_locale_says(model, lines, tmp_path, encoding):
    line = "jaxbert embed in.txt -o - --with-text --model $MODEL"
    done = shell(model, line, tmp_path, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(row) for row in done.stdout.decode("utf-8").splitlines()]
    assert [row["text"] for row in rows] == ["a b", "café €"]


def test_a_name_without_characters_in_the_locale_is_shown_escaped(tmp_path):
    done = shell("", "jaxbert status 'é€.npy'", tmp_path, PYTHONIOENCODING="latin-1")
    assert done.returncode == 1
    assert b"is not there" in done.stderr


def test_a_reader_that_goes_away_ends_the_command_quietly(model, tmp_path):
    (tmp_path / "in.txt").write_text("a b\n" * 2000)
    options = "--rows-per-part 50 --quiet --model $MODEL"
    line = f"jaxbert embed in.txt -o - {options} | head -1 | wc -l; echo ${{PIPESTATUS[0]}}"
    done = shell(model, line, tmp_path)
    assert (done.stdout, done.stderr) == (b"1\n141\n", b"")


def test_a_full_disk_behind_stdout_is_one_sentence(model, tmp_path):
    done = shell(model, "jaxbert similarity a b --model $MODEL > /dev/full", tmp_path)
    assert done.returncode == 1
    assert done.stderr == b"jaxbert: stdout could not be written (No space left on device)\n"


def test_messages_that_nobody_reads_do_not_end_the_work(model, lines, tmp_path):
    line = "jaxbert embed in.txt -o o.npy --model $MODEL 2> >(true); wait; ls o.npy.json"
    done = shell(model, line, tmp_path)
    assert done.stdout == b"o.npy.json\n"
