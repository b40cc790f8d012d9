"""Runs: records, checkpoints, going on in the same bits, and what is refused in which words."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxbert.corpus.folder import RunBusyError, SettingsChangedError
from jaxbert.errors import CheckpointError, InputError
from jaxbert.process import interrupts
from jaxbert.train.folder import RunFolder
from jaxbert.train.plot import draw, running_mean
from jaxbert.train.run import LossError
from tests.train.runs import OBJECTIVE, STEPS, batches, run

SETTINGS = {"training": {"rate": 0.01, "seed": 0}}
ROOT = Path(__file__).parents[2]


def bits(state):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]


def without_time(records):
    return [{name: own[name] for name in own if name != "seconds"} for own in records]


def take(folder, number, **options):
    """So many steps of the run in a folder, which then ends as if it were killed."""
    with RunFolder(folder) as opened:
        opened.compare(SETTINGS)
        own = run(opened, **options)
        for _, record in zip(range(number), own, strict=False):
            assert record["step"] == own.done
        return own


@pytest.fixture(scope="module")
def whole():
    """The records and the last state of a run without a folder."""
    own = run()
    return list(own), bits(own.state)


# --- going on ------------------------------------------------------------------------------------


def test_records_tell_of_each_step(whole):
    records, _ = whole
    assert [own["step"] for own in records] == list(range(1, STEPS + 1))
    assert list(records[0]) == ["step", "loss", "lr", "gradient_norm", "tokens", "seconds"]
    assert records[-1]["loss"] < records[0]["loss"]
    assert [own["tokens"] for own in records] == [batches().tokens(i) for i in range(STEPS)]
    assert records[0]["seconds"] < records[-1]["seconds"]


@pytest.mark.parametrize("stops", [(1,), (3,), (7, 4, 8)])
def test_a_run_goes_on_in_the_same_bits(tmp_path, whole, stops):
    for number in stops:
        take(tmp_path, number)
    end = take(tmp_path, STEPS)
    assert bits(end.state) == whole[1]
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert without_time(map(json.loads, lines)) == without_time(whole[0])
    again = take(tmp_path, STEPS)
    assert (again.finished, list(again)) == (True, [])
    assert bits(again.state) == whole[1]


def test_checkpoints_are_two_at_most(tmp_path):
    take(tmp_path, 10)
    found = sorted(own.name for own in (tmp_path / "checkpoints").iterdir())
    assert found == [f"step-0000000{n}.{kind}" for n in (6, 9) for kind in ("json", "safetensors")]


def program(folder):
    """A run of its own process, whose records it prints."""
    code = f"""
from tests.train.test_run import RunFolder, SETTINGS, run
with RunFolder({str(folder)!r}) as opened:
    opened.compare(SETTINGS)
    for record in run(opened):
        print(record["step"], flush=True)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True
    )


def test_a_killed_run_goes_on_in_the_same_bits(tmp_path, whole):
    """Killed at a step that is another one each time, within the step."""
    moment = np.random.default_rng(time.time_ns()).integers(1, STEPS)
    with program(tmp_path) as killed:
        for line in killed.stdout:
            if int(line) >= moment:
                break
        killed.send_signal(signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL
    end = take(tmp_path, STEPS)
    assert bits(end.state) == whole[1], f"killed after step {moment}"
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert without_time(map(json.loads, lines)) == without_time(whole[0])


def test_a_line_that_was_cut_off_is_written_again(tmp_path, whole):
    take(tmp_path, 5)
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(file.read_bytes()[:-9])
    take(tmp_path, STEPS)
    lines = file.read_text().splitlines()
    assert without_time(map(json.loads, lines)) == without_time(whole[0])


def test_time_is_up(tmp_path, whole):
    own = take(tmp_path, STEPS, seconds=0.0)
    assert (own.done, own.finished, own.saved) == (1, False, 1)
    assert bits(take(tmp_path, STEPS).state) == whole[1]


def test_a_signal_keeps_the_state(tmp_path, whole, monkeypatch):
    def interrupted(record):
        if record["step"] == 5:
            monkeypatch.setattr(interrupts.Note, "number", signal.SIGTERM)

    with RunFolder(tmp_path) as opened:
        opened.compare(SETTINGS)
        own = run(opened)
        with pytest.raises(interrupts.Interrupted):
            list(map(interrupted, own))
        monkeypatch.undo()
    assert (own.done, own.saved) == (5, 5)
    assert bits(take(tmp_path, STEPS).state) == whole[1]


# --- what is damaged -----------------------------------------------------------------------------


def spoilt(file, place=-20):
    held = bytearray(file.read_bytes())
    held[place] ^= 4
    file.write_bytes(held)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda file: spoilt(file), "is damaged, for its sum is another"),
        (lambda file: spoilt(file.with_suffix(".json")), "cannot be trusted ("),
        (lambda file: file.with_suffix(".json").unlink(), "was not finished"),
        (lambda file: file.write_bytes(b""), "is damaged, for its sum is another"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over(tmp_path, whole, spoil, told):
    take(tmp_path, 8)
    file = tmp_path / "checkpoints" / "step-00000006.safetensors"
    spoil(file)
    sentences = []
    with RunFolder(tmp_path, sentences.append) as opened:
        own = run(opened)
        assert own.done == 3
        (sentence,) = sentences
        assert sentence.startswith(f"{file} {told}")
        assert sentence.endswith("; the run goes on from the one before it")
        list(own)
    assert bits(own.state) == whole[1]


def test_with_all_checkpoints_damaged_a_run_begins_anew(tmp_path, whole):
    take(tmp_path, 8)
    for file in (tmp_path / "checkpoints").glob("*.safetensors"):
        spoilt(file)
    own = take(tmp_path, STEPS)
    assert bits(own.state) == whole[1]


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    take(tmp_path, 4)
    with RunFolder(tmp_path) as opened:
        state = run().state
        other = state._replace(optimizer=())
        with pytest.raises(CheckpointError, match="is the state of another model or optimiser"):
            opened.checkpoints.latest(other)


# --- what is refused -----------------------------------------------------------------------------


def test_a_run_of_another_setting_is_refused(tmp_path):
    take(tmp_path, 1)
    with RunFolder(tmp_path) as opened:
        match = "holds a run of other settings: training.rate was 0.01 and is 0.02; give the"
        with pytest.raises(SettingsChangedError, match=match):
            opened.compare({"training": {"rate": 0.02, "seed": 0}})
        opened.compare(SETTINGS)


def test_settings_can_be_corrected_before_the_first_step(tmp_path):
    with RunFolder(tmp_path) as opened:
        opened.compare({"training": {"rate": 0.02}})
        opened.compare(SETTINGS)
    take(tmp_path, 1)


def test_two_runs_in_one_folder_are_refused(tmp_path):
    match = r"^another run is at work in .*\(.*process.*\); wait until it ends, or name another"
    with RunFolder(tmp_path), pytest.raises(RunBusyError, match=match), RunFolder(tmp_path):
        pass
    with RunFolder(tmp_path):
        pass


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with (
        RunFolder(tmp_path) as opened,
        pytest.raises(InputError, match=r"no folder of a run \(it has thesis.tex and no settings"),
    ):
        opened.compare(SETTINGS)
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(InputError, match="is a file; name another folder"),
        RunFolder(tmp_path / "file"),
    ):
        pass


def test_damaged_settings_are_refused(tmp_path):
    take(tmp_path, 1)
    spoilt(tmp_path / "settings.json", 10)
    with RunFolder(tmp_path) as opened, pytest.raises(InputError, match="to begin anew"):
        opened.compare(SETTINGS)


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    """Step, rows and the place of the state before are named; the state is that."""

    def breaks(model, batch, key):
        loss, metrics = OBJECTIVE(model, batch, key)
        return jax.numpy.where(loss < 1.0, jax.numpy.nan, loss), metrics

    with RunFolder(tmp_path) as opened:
        opened.compare(SETTINGS)
        own = run(opened, objective=breaks)
        with pytest.raises(LossError) as error:
            list(own)
        assert own.saved == own.done == error.value.step - 1 > 1
        kept = opened.checkpoints.latest(own.state)
    assert bits(kept) == bits(own.state)
    rows = batches().rows_of(own.done)[0]
    assert error.value.rows.tolist() == rows.tolist()
    listed = ", ".join(map(str, rows))
    assert str(error.value) == (
        f"loss is nan at step {own.done + 1}, of the 4 rows {listed} (from 0); the state before it "
        f"is kept in {tmp_path}: lower the learning rate, or look at these rows"
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(own.state))


# --- the picture ---------------------------------------------------------------------------------


def test_the_mean_of_the_last_values():
    values = np.array([1.0, 2.0, 3.0, 7.0])
    assert running_mean(values, 1).tolist() == [1.0, 2.0, 3.0, 7.0]
    assert running_mean(values, 3).tolist() == [1.0, 1.5, 2.0, 4.0]


def test_the_loss_is_drawn_where_matplotlib_is(tmp_path, whole):
    pytest.importorskip("matplotlib")
    files = draw(whole[0], tmp_path)
    assert [own.name for own in files] == ["loss.svg", "loss.png"]
    assert b"<svg" in files[0].read_bytes()
    assert draw([], tmp_path) == []


def test_without_matplotlib_nothing_is_drawn(tmp_path, whole, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert draw(whole[0], tmp_path) == []
    assert list(tmp_path.iterdir()) == []
