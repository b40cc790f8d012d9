"""The parts of a run: nothing lost, nothing doubled, whatever ends a process or fills a disk."""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jaxbert.corpus import locks
from jaxbert.corpus.files import (
    WriteError,
    atomic_write,
    write_record,
)
from jaxbert.corpus.folder import Folder, RunBusyError, SettingsChangedError
from jaxbert.corpus.locks import acquire
from jaxbert.corpus.run_parts import DamagedPartError, RunParts
from jaxbert.errors import InputError

SETTINGS = {
    "model": {"name": "é/model", "revision": None, "sha256": "ab"},
    "dtype": "float32",
    "inputs": [{"name": "a.txt", "bytes": 11}, {"name": "b.txt", "bytes": None}],
    "rows": 3,
}
TOTAL = 3
WHOLE = ["out.npy", "out.npy.json", "out.npy.rejects.jsonl"]
ROOT = Path(__file__).parents[2]


def content(k):
    """The bytes of part k."""
    return f"part {k}\n".encode() * (5 + k)


def finish(parts, *numbers):
    """Make these parts."""
    for k in numbers:
        rejects = [{"reason": "é", "row": k}] if k == 1 else []
        record = {"rows": 5 + k, "rejected": len(rejects), "input_sha256": "cd"}
        parts.finish(k, lambda file, k=k: file.write_bytes(content(k)), record, rejects)


def join(files, output):
    """The output of a run: the parts in order."""
    with atomic_write(output) as partial:
        partial.write_bytes(b"".join(file.read_bytes() for file in files))


def opened(tmp_path, worker=0, workers=1, settings=SETTINGS):
    parts = RunParts(tmp_path / "out.npy", worker, workers)
    parts.open(settings)
    return parts


def run(parts, settings=SETTINGS):
    """What a worker does; the numbers of the parts that it made."""
    with parts:
        parts.open(settings)
        done = parts.records()
        made = [k for k in range(TOTAL) if parts.mine(k) and k not in done]
        finish(parts, *made)
        if not parts.missing(TOTAL):
            parts.assemble(TOTAL, join)
    return made


def is_whole(tmp_path):
    """Whether the output is there as it must be, and nothing else."""
    expected = b"".join(map(content, range(TOTAL)))
    assert (tmp_path / "out.npy").read_bytes() == expected
    assert (tmp_path / "out.npy.rejects.jsonl").read_bytes() == b'{"reason": "\\u00e9", "row": 1}\n'
    assert sorted(os.listdir(tmp_path)) == WHOLE
    return True


def vouched(folder):
    """The parts with a record; each has its file, byte for byte."""
    found = []
    for file in folder.glob("part-*.json"):
        record, data = json.loads(file.read_bytes()), file.with_suffix(".npy").read_bytes()
        assert record["bytes"] == len(data)
        assert record["sha256"] == hashlib.sha256(data).hexdigest()
        rejects = file.with_suffix(".rejects.jsonl")
        assert rejects.exists() == ("rejects" in record) == (record["rejected"] > 0)
        found.append(int(file.stem.removeprefix("part-")))
    return sorted(found)


def program(code, *arguments, **options):
    """Code in a process of its own, which has this file's helpers; started."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    head = "import sys\nfrom pathlib import Path\nfrom tests.corpus.test_run_parts import *\n"
    command = [*options.pop("before", ()), sys.executable, "-c", head + code, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=environment, text=True, **pipes, **options)


# --- a run -------------------------------------------------------------------------------------


def test_a_run_from_beginning_to_end(tmp_path):
    with opened(tmp_path) as parts:
        assert parts.records() == {}
        finish(parts, 0, 1, 2)
        records = parts.records()
        assert list(records) == [0, 1, 2]
        assert {key: records[1][key] for key in ("rows", "rejected", "input_sha256", "bytes")} == {
            "rows": 6,
            "rejected": 1,
            "input_sha256": "cd",
            "bytes": len(content(1)),
        }
        assert vouched(tmp_path / "out.npy.parts") == [0, 1, 2]
        assert not parts.missing(TOTAL)
        assert parts.missing(TOTAL + 1)
        assert parts.assemble(TOTAL, join)
    assert is_whole(tmp_path)


def test_files_say_neither_when_nor_where(tmp_path):
    """The same run in two places and orders gives the same folder, byte for byte."""
    folders = []
    for name, order in (("first-place", (0, 1, 2)), ("second-place", (2, 1, 0))):
        (tmp_path / name).mkdir()
        settings = {key: SETTINGS[key] for key in sorted(SETTINGS, reverse=order[0] > 0)}
        with opened(tmp_path / name, settings=settings) as parts:
            finish(parts, *order)
            folder = parts.folder.path
            folders.append({file.name: file.read_bytes() for file in folder.iterdir()})
    assert folders[0] == folders[1]
    assert not [name for name, held in folders[0].items() if str(tmp_path).encode() in held]


def test_a_run_goes_on_where_it_stopped(tmp_path):
    with opened(tmp_path) as parts:
        finish(parts, 1)
    assert run(RunParts(tmp_path / "out.npy")) == [0, 2]
    assert is_whole(tmp_path)


def test_a_run_without_rows(tmp_path):
    with opened(tmp_path) as parts:
        assert not parts.missing(0)
        assert parts.assemble(0, join)
    assert sorted(os.listdir(tmp_path)) == ["out.npy", "out.npy.json"]
    assert (tmp_path / "out.npy").read_bytes() == b""


def test_a_run_that_fails_before_its_first_part_leaves_nothing(tmp_path):
    def fail():
        with opened(tmp_path):
            raise KeyError("model")

    with pytest.raises(KeyError):
        fail()
    assert os.listdir(tmp_path) == []


def test_old_rejects_do_not_outlive_their_output(tmp_path):
    run(RunParts(tmp_path / "out.npy"))
    with opened(tmp_path) as parts:
        finish(parts, 0)
        assert parts.assemble(1, join)
    assert sorted(os.listdir(tmp_path)) == ["out.npy", "out.npy.json"]


def test_rejects_of_an_unfinished_part_do_not_outlive_it(tmp_path):
    with opened(tmp_path) as parts:
        parts.rejects(0).write_text("{}\n")
        finish(parts, 0)
        assert not parts.rejects(0).exists()


@pytest.mark.parametrize(("worker", "workers"), [(1, 1), (-1, 2), (0, 0)])
def test_workers_are_counted_from_zero(tmp_path, worker, workers):
    with pytest.raises(InputError, match=f"worker is {worker} of {workers}"):
        RunParts(tmp_path / "out.npy", worker, workers)


@pytest.mark.parametrize("name", ["notes.txt", "part-000000.npy"])
def test_a_folder_of_something_else_is_not_touched(tmp_path, name):
    folder = tmp_path / "out.npy.parts"
    folder.mkdir()
    (folder / name).write_text("mine")
    with pytest.raises(InputError, match=f"it has {name} and no run.json"):
        opened(tmp_path)
    assert (folder / name).read_text() == "mine"


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out.npy.parts").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        opened(tmp_path)


# --- damage ------------------------------------------------------------------------------------


def test_torn_files_are_ignored_and_removed(tmp_path):
    with opened(tmp_path, 0, 2) as parts:
        finish(parts, 0)
        folder = parts.folder.path
        mine = ["part-000002.npy.partial", "part-000002.json.partial", "part-000000.npy.partial"]
        for name in (*mine, "part-000001.npy.partial"):
            (folder / name).write_bytes(b"torn")
        parts.recover()
        assert list(parts.records()) == [0]
        assert sorted(folder.glob("*.partial")) == [folder / "part-000001.npy.partial"]
        assert vouched(folder) == [0]


def test_a_part_without_record_is_made_again(tmp_path):
    with opened(tmp_path) as parts:
        finish(parts, 0, 1, 2)
        parts.record(1).unlink()
        parts.data(1).write_bytes(b"half")
        assert list(parts.records()) == [0, 2]
        assert parts.missing(TOTAL)
    assert run(RunParts(tmp_path / "out.npy")) == [1]
    assert is_whole(tmp_path)


def truncated(parts):
    with parts.data(1).open("r+b") as stream:
        stream.truncate(len(content(1)) - 1)


def torn_record(parts):
    parts.record(1).write_bytes(parts.record(1).read_bytes()[:-9])


def reword(file, old, new):
    held = file.read_bytes()
    assert old in held
    file.write_bytes(held.replace(old, new, 1))


DAMAGE = {
    "truncated": truncated,
    "longer": lambda parts: parts.data(1).write_bytes(content(1) + b"\n"),
    "no data": lambda parts: parts.data(1).unlink(),
    "no rejects": lambda parts: parts.rejects(1).unlink(),
    "torn record": torn_record,
    "empty record": lambda parts: parts.record(1).write_bytes(b""),
    "another record": lambda parts: parts.record(1).write_text("[1]"),
    "record without sum": lambda parts: parts.record(1).write_text('{"rows": 3}'),
    "record without size": lambda parts: write_record(parts.record(1), {"rows": 3}),
    "record of other words": lambda parts: reword(parts.record(1), b'"rejected"', b'"rejectee"'),
    "record of other numbers": lambda parts: reword(parts.record(1), b'"cd"', b'"ce"'),
    "record of other spaces": lambda parts: reword(parts.record(1), b'": ', b'":\t'),
    "a link": lambda parts: (parts.record(1).unlink(), parts.record(1).symlink_to("run.json")),
    "a pipe": lambda parts: (parts.data(1).unlink(), os.mkfifo(parts.data(1))),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_that_sizes_show_is_found_at_once(tmp_path, caplog, name):
    with opened(tmp_path) as parts:
        finish(parts, 0, 1, 2)
        DAMAGE[name](parts)
        assert list(parts.records()) == [0, 2]
        assert parts.record(1).exists() or os.path.lexists(parts.data(1))
        parts.recover()
        assert list(parts.records()) == [0, 2]
        assert [record.getMessage() for record in caplog.records] == [
            f"part 1 of {tmp_path}/out.npy is damaged and will be made again"
        ]
        assert not [file for file in parts.folder.path.iterdir() if "000001" in file.name]
    assert run(RunParts(tmp_path / "out.npy")) == [1]
    assert is_whole(tmp_path)


def test_the_damage_of_another_worker_is_left_to_it(tmp_path):
    with opened(tmp_path, 0, 2) as first, opened(tmp_path, 1, 2) as second:
        finish(second, 1)
        truncated(second)
        first.recover()
        assert first.records() == {}
        assert first.record(1).exists()
        second.recover()
        assert not first.record(1).exists()


@pytest.mark.parametrize("which", ["data", "rejects"])
def test_a_flipped_bit_is_found_before_assembling(tmp_path, which):
    with opened(tmp_path) as parts:
        finish(parts, 0, 1, 2)
        file = getattr(parts, which)(1)
        held = bytearray(file.read_bytes())
        held[3] ^= 1
        file.write_bytes(held)
        assert list(parts.records()) == [0, 1, 2]
        with pytest.raises(DamagedPartError, match=r"1 parts of .* the first of them 1, .* again"):
            parts.assemble(TOTAL, join)
        assert not (tmp_path / "out.npy").exists()
        assert vouched(parts.folder.path) == [0, 2]
        assert parts.is_intact(0)
        assert not parts.is_intact(1)
    assert run(RunParts(tmp_path / "out.npy")) == [1]
    assert is_whole(tmp_path)


# --- settings ----------------------------------------------------------------------------------


def changed(**changes):
    return json.loads(json.dumps(SETTINGS)) | changes


CHANGES = {
    "one": (changed(dtype="bfloat16"), ['dtype was "float32" and is "bfloat16"']),
    "two": (
        changed(dtype="bfloat16", rows=4),
        ['dtype was "float32" and is "bfloat16"', "rows was 3 and is 4"],
    ),
    "nested": (
        changed(model={"name": "é/model", "revision": "main", "sha256": "ab"}),
        ['model.revision was null and is "main"'],
    ),
    "in a list": (
        changed(inputs=[{"name": "a.txt", "bytes": 12}, {"name": "b.txt", "bytes": None}]),
        ["inputs[0].bytes was 11 and is 12"],
    ),
    "a file more": (
        changed(inputs=[*SETTINGS["inputs"], {"name": "é"}]),
        ['inputs[2] was absent and is {"name": "é"}'],
    ),
    "a file less": (
        changed(inputs=SETTINGS["inputs"][:1]),
        ['inputs[1] was {"bytes": null, "name": "b.txt"} and is absent'],
    ),
    "a new one": (changed(prompt=None), ["prompt was absent and is null"]),
    "another type": (changed(rows=True), ["rows was 3 and is true"]),
    "number": (changed(rows=3.0), ["rows was 3 and is 3.0"]),
    "another kind": (changed(model="m"), None),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changed_settings_are_refused_by_name(tmp_path, name):
    settings, expected = CHANGES[name]
    with opened(tmp_path) as parts:
        finish(parts, 0)
    with pytest.raises(SettingsChangedError) as refused:
        opened(tmp_path, settings=settings)
    message = str(refused.value)
    assert message.startswith(f"{tmp_path}/out.npy was begun with other settings: ")
    assert message.endswith(
        f"; run the same command as before, or remove {tmp_path}/out.npy.parts to begin anew"
    )
    named = message.split("settings: ")[1].split("; run the same")[0].split("; ")
    if expected is None:
        assert len(named) == 1
        assert named[0].startswith("model was {")
    else:
        assert named == expected
    assert run(RunParts(tmp_path / "out.npy")) == [1, 2]  # nothing was lost, no lock was kept


def test_many_changes_are_counted(tmp_path):
    many = {f"key{i:03}": i for i in range(101)}
    with opened(tmp_path, settings=many) as parts:
        finish(parts, 0)
    with pytest.raises(SettingsChangedError, match=r"key009 was 9 and is 10; and 91 more; run"):
        opened(tmp_path, settings={key: value + 1 for key, value in many.items()})


def test_the_same_settings_in_another_order_are_the_same(tmp_path):
    with opened(tmp_path) as parts:
        finish(parts, 0)
    again = dict(reversed(SETTINGS.items())) | {"inputs": tuple(SETTINGS["inputs"])}
    with opened(tmp_path, settings=again) as parts:
        assert list(parts.records()) == [0]


def test_damaged_settings_are_refused(tmp_path):
    with opened(tmp_path) as parts:
        finish(parts, 0)
        (parts.folder.path / "run.json").write_bytes(b"{")
    with pytest.raises(InputError, match=r"run\.json is damaged"):
        opened(tmp_path)


# --- several processes -------------------------------------------------------------------------

HOLDER = """
parts = opened(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
finish(parts, int(sys.argv[2]))
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Starts a process that is a worker and waits; killed in the end."""
    started = []

    def start(worker=0, workers=1):
        one = program(HOLDER, tmp_path, worker, workers, stdin=subprocess.PIPE)
        started.append(one)
        assert one.stdout.readline() == "open\n"
        return one

    yield start
    for one in started:
        one.kill()
        one.communicate(timeout=60)


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path, holder):
    first = holder()
    code = "try: opened(Path(sys.argv[1]))\nexcept RunBusyError as error: print(error)"
    second = program(code, tmp_path)
    out, err = second.communicate(timeout=60)
    assert out.count("\n") == 1, err
    assert out.startswith(f"another process is at work on {tmp_path}/out.npy (worker 0 of 1); ")
    first.send_signal(signal.SIGKILL)
    first.wait(timeout=60)
    assert run(RunParts(tmp_path / "out.npy")) == [1, 2]
    assert is_whole(tmp_path)


@pytest.mark.parametrize(("worker", "workers"), [(0, 1), (1, 3), (0, 3)])
def test_workers_of_another_number_are_refused(tmp_path, holder, worker, workers):
    """They would make the same parts."""
    first = holder(0, 2)
    with pytest.raises(RunBusyError, match=r"\(worker 0 of 2\)"):
        opened(tmp_path, worker, workers)
    first.kill()
    first.wait(timeout=60)
    with opened(tmp_path, worker, workers) as parts:
        assert list(parts.records()) == [0]


def test_workers_share_a_run_and_the_last_one_tidies_up(tmp_path, holder):
    first, output = holder(0, 2), tmp_path / "out.npy"
    with opened(tmp_path, 1, 2) as second:
        finish(second, 1)
        assert list(second.records()) == [0, 1]
        assert not second.missing(2)
        assert second.assemble(2, join)
    assert output.read_bytes() == content(0) + content(1)
    assert (tmp_path / "out.npy.parts").is_dir()  # the first one is still there
    first.kill()
    first.wait(timeout=60)
    with opened(tmp_path, 0, 2) as again:
        assert again.product.fault() is None
        assert again.records() == {}  # the run was over
    assert sorted(os.listdir(tmp_path)) == WHOLE


def test_two_workers_that_assemble_make_one_file(tmp_path):
    made = []

    def counted(files, output):
        made.append(len(files))
        assert not second.assemble(2, join)  # while the first one does
        join(files, output)

    first, second = opened(tmp_path, 0, 2), opened(tmp_path, 1, 2)
    finish(first, 0)
    finish(second, 1)
    assert first.assemble(2, counted)
    assert not second.missing(2)
    assert not second.assemble(2, counted)
    assert made == [2]
    for parts in (first, second):
        parts.close()
    assert not second.missing(2)
    assert not second.assemble(2, counted)
    assert sorted(os.listdir(tmp_path)) == WHOLE


def test_many_workers_at_once(tmp_path):
    code = "print(run(RunParts(Path(sys.argv[1]) / 'out.npy', int(sys.argv[2]), 3)))"
    workers = [program(code, tmp_path, i) for i in range(3)]
    for i, one in enumerate(workers):
        out, err = one.communicate(timeout=60)
        assert out == f"[{i}]\n", err
    # A worker that left before the last part was there has left the end to the others.
    assert is_whole(tmp_path)


def test_a_lock_on_a_folder_that_went_is_no_lock(tmp_path):
    folder, found = tmp_path / "folder", []
    folder.mkdir()
    lock = acquire(folder / "lock")

    def wait():
        try:
            found.append(acquire(folder / "lock", 60))
        except FileNotFoundError:
            found.append("gone")

    waiting = threading.Thread(target=wait)
    waiting.start()
    waiting.join(0.2)
    assert not found
    shutil.rmtree(folder)
    os.close(lock)
    waiting.join(60)
    assert found == ["gone"]


READER = """
import fcntl, os
lock = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(lock, fcntl.LOCK_SH)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def reader(tmp_path):
    """Starts a process that may only read, and holds a lock of a run that was begun."""
    started = []

    def start(name):
        with opened(tmp_path) as parts:
            finish(parts, 0)
        one = program(READER, tmp_path / "out.npy.parts" / name, stdin=subprocess.PIPE)
        started.append(one)
        assert one.stdout.readline() == "held\n"
        return one

    yield start
    for one in started:
        one.kill()
        one.communicate(timeout=60)


def test_a_lock_that_is_never_given_back_ends_in_a_sentence(tmp_path, reader, monkeypatch, caplog):
    monkeypatch.setattr(locks, "PATIENCE", 0.4)
    monkeypatch.setattr(locks, "SPEAK", 0.1)
    one = reader("open.lock")
    with pytest.raises(RunBusyError, match=f"open.lock is locked by process {one.pid} and was not"):
        opened(tmp_path)
    assert [record.getMessage() for record in caplog.records] == [
        f"waiting for {tmp_path}/out.npy.parts/open.lock, which process {one.pid} holds"
    ]
    one.kill()
    one.wait(timeout=60)
    assert run(RunParts(tmp_path / "out.npy")) == [1, 2]
    assert is_whole(tmp_path)


def test_who_leaves_does_not_wait_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", 0.2)
    with opened(tmp_path) as parts:
        finish(parts, 0, 1, 2)
        held = program(READER, tmp_path / "out.npy.parts" / "open.lock", stdin=subprocess.PIPE)
        assert held.stdout.readline() == "held\n"
        assert parts.assemble(TOTAL, join)
    held.kill()
    held.communicate(timeout=60)
    assert (tmp_path / "out.npy.parts").is_dir()
    with opened(tmp_path) as again:
        assert again.records() == {}
    assert is_whole(tmp_path)


def test_a_lock_that_changes_hands_is_waited_for(tmp_path, monkeypatch):
    """Longer than patience, as long as those before take it one after another."""
    file, found = tmp_path / "lock", []
    lock = acquire(file)
    waiting = threading.Thread(target=lambda: found.append(acquire(file, 0.5)))
    waiting.start()
    for _ in range(8):
        waiting.join(0.2)
        assert not found
        os.utime(file)
    os.close(lock)
    waiting.join(60)
    assert found[0] is not None
    os.close(found[0])


def test_looking_at_a_lock_writes_nothing(tmp_path):
    file = tmp_path / "lock"
    assert not locks.is_held(file)
    assert not file.exists()
    lock = acquire(file)
    file.chmod(0o400)
    assert locks.is_held(file)
    os.close(lock)
    assert not locks.is_held(file)


# --- failures at every step --------------------------------------------------------------------


class Trouble:
    """Calls of what touches the disk, counted; the one that is asked for fails, before or after."""

    WRITES = ((os, "replace"), (os, "fsync"), (Path, "write_bytes"))
    ALL = (*WRITES, (Path, "unlink"), (Path, "rmdir"))

    def __init__(self, patch, at, fail, after=False, names=WRITES):
        self.count = 0
        self.at, self.fail, self.after = at, fail, after
        for owner, name in names:
            patch(owner, name, self.wrapped(getattr(owner, name)))

    def wrapped(self, function):
        def call(*arguments, **named):
            self.count += 1
            now = self.count == self.at
            if now and not self.after:
                self.fail()
            try:
                return function(*arguments, **named)
            finally:
                if now:
                    self.fail()

        return call


def disk_full():
    raise OSError(errno.ENOSPC, "No space left on device")


STEPS = 3 * 4  # writing, fsync, rename, fsync of the folder: data, rejects, record


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, STEPS + 1))
def test_a_full_disk_at_any_step_of_finishing(tmp_path, at, after):
    with opened(tmp_path) as parts:
        finish(parts, 0)
        with pytest.MonkeyPatch.context() as patch:
            Trouble(patch.setattr, at, disk_full, after)
            with pytest.raises(WriteError, match="No space left on device") as refused:
                finish(parts, 1)
        assert "\n" not in str(refused.value)
        assert str(refused.value).startswith(f"{tmp_path}/out.npy.parts/part-000001.")
        renamed = at == STEPS or (at == STEPS - 1 and after)  # the record
        assert vouched(parts.folder.path) == ([0, 1] if renamed else [0])
        assert not list(parts.folder.path.glob("*.partial"))
        finish(parts, 1)
        assert vouched(parts.folder.path) == [0, 1]
    assert run(RunParts(tmp_path / "out.npy")) == [2]
    assert is_whole(tmp_path)


def test_finishing_has_so_many_steps(tmp_path):
    with opened(tmp_path) as parts, pytest.MonkeyPatch.context() as patch:
        trouble = Trouble(patch.setattr, None, disk_full)
        finish(parts, 1)
        assert trouble.count == STEPS


def test_a_part_that_is_made_anew_loses_its_old_record_first(tmp_path):
    with opened(tmp_path) as parts:
        finish(parts, 0)
        with pytest.raises(WriteError):
            parts.finish(0, lambda file: disk_full(), {"rows": 1})
        assert parts.records() == {}


def test_a_part_that_cannot_be_made_leaves_nothing(tmp_path):
    def write(file):
        file.write_bytes(b"half")
        raise InputError("a row that cannot be written")

    with opened(tmp_path) as parts:
        with pytest.raises(InputError, match="a row that cannot be written"):
            parts.finish(0, write, {"rows": 1})
        assert not list(parts.folder.path.glob("part-*"))


KILLED = """
place, after = Path(sys.argv[1]), sys.argv[2] == "after"
at, ended = 0, 1
while ended:
    at += 1
    (place / str(at)).mkdir()
    child = os.fork()
    if child == 0:
        Trouble(setattr, at, lambda: os.kill(os.getpid(), signal.SIGKILL), after, Trouble.ALL)
        run(RunParts(place / str(at) / "out.npy"))
        os._exit(0)
    ended = os.waitpid(child, 0)[1]
    assert ended in (0, signal.SIGKILL), ended
print(at - 1)
"""


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_killed_run_goes_on(tmp_path, after):
    """SIGKILL at every step of a run that touches the disk, from the first to the last."""
    out, err = program(KILLED, tmp_path, "after" if after else "before").communicate(timeout=120)
    assert out, err
    outcomes = set()
    for at in range(1, int(out) + 1):
        folder = tmp_path / str(at)
        parts = folder / "out.npy.parts"
        done = vouched(parts) if parts.exists() else []
        ended = RunParts(folder / "out.npy")
        if ended.product.fault() is None and (ended.folder.is_assembled() or not done):
            with opened(folder) as again:  # all is done but the removal of what was the folder
                assert again.records() == {}
            outcomes.add("removed")
        else:
            assert run(RunParts(folder / "out.npy")) == [k for k in range(TOTAL) if k not in done]
            outcomes.add(str(done))
        assert is_whole(folder)
    assert outcomes == {"[]", "[0]", "[0, 1]", "[0, 1, 2]", "removed"}


def test_assembling_can_be_repeated_if_it_stops_before_the_removal(tmp_path):
    made = []

    def counted(files, output):
        made.append(len(files))
        join(files, output)

    with opened(tmp_path) as parts, pytest.MonkeyPatch.context() as patch:
        finish(parts, 0, 1, 2)
        patch.setattr(Folder, "leave", interrupted)
        with pytest.raises(KeyboardInterrupt):
            parts.assemble(TOTAL, counted)
    (tmp_path / "out.npy").unlink()  # and somebody removed it
    with opened(tmp_path) as parts:
        assert list(parts.records()) == [0, 1, 2]
        assert parts.assemble(TOTAL, counted)
    assert made == [TOTAL, TOTAL]
    assert is_whole(tmp_path)


def interrupted(*_):
    raise KeyboardInterrupt


def test_an_assembled_output_is_not_made_again(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Folder, "leave", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(RunParts(tmp_path / "out.npy"))
    before = (tmp_path / "out.npy").stat().st_ino
    with opened(tmp_path, settings=changed(rows=4)) as parts:  # the old run is over
        assert parts.records() == {}
        assert parts.product.fault() is None
    assert (tmp_path / "out.npy").stat().st_ino == before
    assert is_whole(tmp_path)


def test_a_disk_without_locks_is_refused(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with pytest.raises(WriteError, match=r"out\.npy\.parts could not be written \(No locks avail"):
        opened(tmp_path)


# --- a disk that is really full ----------------------------------------------------------------

FULL = """
folder = Path(sys.argv[1])
parts = RunParts(folder / "out.npy")
parts.open({})
parts.finish(0, lambda file: file.write_bytes(b"a" * 50_000), {})
filler = folder / "filler"
try:
    filler.write_bytes(b"b" * 100_000)
    parts.finish(1, lambda file: file.write_bytes(b"c" * 150_000), {})
except WriteError as error:
    print(error)
print(sorted(file.name for file in parts.folder.path.glob("part-*")), list(parts.records()))
filler.unlink()
parts.finish(1, lambda file: file.write_bytes(b"c" * 60_000), {})
print(list(parts.records()), parts.is_intact(0), parts.is_intact(1))
"""


def assert_one_sentence(one, reason):
    out, err = one.communicate(timeout=60)
    lines = out.splitlines()
    assert len(lines) == 3, err
    assert lines[0].endswith(
        f"/out.npy.parts/part-000001.npy could not be written ({reason}); nothing is lost, so mend "
        "that and run the same command again"
    )
    assert lines[1] == "['part-000000.json', 'part-000000.npy'] [0]"
    assert lines[2] == "[0, 1] True True"


def test_a_small_disk_that_is_full(tmp_path):
    """A tmpfs of 200 kB in a mount namespace of its own, which ends with the process."""
    mount = 'mount -t tmpfs -o size=200k tmpfs "$0" && exec "$@"'
    alone = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "-r"]
    before = (*alone, "sh", "-c", mount, str(tmp_path))
    if subprocess.run([*before, "true"], capture_output=True, timeout=60).returncode != 0:
        pytest.skip("mounting is not allowed here")
    assert_one_sentence(program(FULL, tmp_path, before=before), "No space left on device")


def test_a_file_that_may_not_grow(tmp_path):
    """The same where mounting is not allowed."""
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, 120_000))"
    code = f"import os, resource, sys; {limit}; os.execv(sys.argv[1], sys.argv[1:])"
    before = (sys.executable, "-c", code)
    assert_one_sentence(program(FULL, tmp_path, before=before), "File too large")
