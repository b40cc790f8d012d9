"""Processes that are killed at random moments: nothing lost, nothing doubled, the same bytes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.models import write_folder

pytestmark = pytest.mark.faults

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("JAXBERT_KILLS", "20"))
ROWS = 6000


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_folder(
        tmp_path_factory.mktemp("model"),
        "bert-gelu",
        sentence_bert_config={"max_seq_length": 17},
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    file = tmp_path_factory.mktemp("in") / "in.jsonl"
    written = ({"id": f"d{i}", "text": "a b " * (i % 7)} for i in range(ROWS))
    file.write_text("".join(json.dumps(row) + "\n" for row in written))
    return file


def begin(model, source, out, **more):
    """The command in a process of its own, with programs kept between processes."""
    command = [sys.executable, "-m", "jaxbert.cli", "embed", source, "-o", out, "--model", model]
    return subprocess.Popen(
        [*map(str, command), "--rows-per-part", "7", "--quiet"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAXBERT_CACHE": str(model / "cache")},
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def end(process):
    """Wait for a process; its exit status and what it said."""
    error = process.communicate(timeout=300)[1]
    return process.returncode, error


def done(out):
    """The finished parts, and which file on the disk each of them is."""
    folder = out.with_name(f"{out.name}.parts")
    records = folder.glob("part-*.json") if folder.is_dir() else ()
    return {record.name: record.with_suffix(out.suffix).stat().st_ino for record in records}


def wait_for(process, out, more):
    """Until there are more parts than so many, or the process has ended."""
    while process.poll() is None and len(done(out)) <= more:
        time.sleep(0.002)


@pytest.mark.parametrize("suffix", [".jsonl", ".npy"])
def test_killed_at_random_moments(model, source, tmp_path, suffix):
    chance = random.Random(suffix)
    whole, out = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    assert end(begin(model, source, whole))[0] == 0
    kills = before = 0
    while kills < KILLS // 2 and not out.exists():
        there, process = done(out), begin(model, source, out)
        wait_for(process, out, len(there))
        time.sleep(chance.random() * 0.15)
        process.kill()
        kills += end(process)[0] == -signal.SIGKILL
        now = done(out)
        assert out.exists() or there.items() <= now.items()  # nothing finished is made again
        before = len(now)
    assert kills == KILLS // 2, f"the run ended after {kills} kills, with {before} parts"
    status, error = end(begin(model, source, out))
    assert status == 0, error
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir() if ".parts" in p.name) == []


def test_interrupted_ends_cleanly_with_the_command_to_go_on(model, source, tmp_path):
    out = tmp_path / "out.npy"
    process = begin(model, source, out)
    wait_for(process, out, 3)
    process.send_signal(signal.SIGINT)
    status, error = end(process)
    assert status == 130
    assert "the same command goes on from there" in error
    assert f"embed {source} -o {out}" in error
    assert "Traceback" not in error
    assert not list(tmp_path.rglob("*.partial"))
    assert end(begin(model, source, out))[0] == 0


def test_interrupted_while_a_pipe_says_nothing(model, tmp_path):
    out = tmp_path / "out.jsonl"
    process = begin(model, "-", out, stdin=subprocess.PIPE)
    process.stdin.write("a b\n" * 9000)
    process.stdin.flush()
    wait_for(process, out, 2)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=60)
    assert process.returncode == 130
    error = process.stderr.read()
    assert "Traceback" not in error
    assert "Fatal" not in error
    process.stdin.close()
    process.stderr.close()


def test_two_writers_started_together_make_one_output(model, source, tmp_path):
    whole, out = tmp_path / "whole.npy", tmp_path / "out.npy"
    assert end(begin(model, source, whole))[0] == 0
    both = [begin(model, source, out), begin(model, source, out)]
    ends = [end(process) for process in both]
    assert sorted(status for status, _ in ends) in ([0, 1], [0, 0]), ends
    assert out.read_bytes() == whole.read_bytes()
