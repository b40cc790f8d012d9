"""Signals: none is lost, none ends in a traceback, and the words say what is kept."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxbert.process import interrupts
from tests.models import write_folder

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("model"), "bert-gelu")


def begin(*arguments, code=None, **more):
    """The command in a process of its own; with code before it."""
    start = ["-m", "jaxbert.cli"] if code is None else ["-c", code]
    return subprocess.Popen(
        [sys.executable, *start, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


# Says when the handlers are there, then when each of these modules is imported, and waits a moment.
MOMENTS = """
import sys, time
from jaxbert.process import interrupts
from jaxbert.process import streams
from jaxbert.cli import main
before, moment = streams.occupy, float(sys.argv.pop(1))
def occupy():
    before()
    print("ready", flush=True)
    time.sleep(moment)
streams.occupy = occupy
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("delay", [0.0, 0.1, 0.5, 1.1])
def test_a_signal_while_the_command_starts_is_one_sentence(model, number, delay):
    process = begin(0.05, "similarity", "a", "b", "--model", model, code=MOMENTS)
    assert process.stdout.readline() == "ready\n"
    time.sleep(delay)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (
        128 + number,
        "jaxbert: interrupted; nothing was written\n",
    ), out


def test_a_second_signal_ends_the_process_at_once():
    code = """
import time
from jaxbert.process import interrupts
with interrupts.handled():
    print("ready", flush=True)
    while True:
        time.sleep(60)
"""
    process = begin(code=code)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == -signal.SIGINT
    process.communicate()


def test_a_signal_in_a_callback_of_the_collector_is_not_lost():
    code = """
import gc, os, signal, sys
from jaxbert.process import interrupts
with interrupts.handled():
    gc.callbacks.append(lambda phase, _: phase == "stop" or os.kill(os.getpid(), signal.SIGINT))
    gc.collect()
    gc.callbacks.clear()
    try:
        interrupts.check()
    except KeyboardInterrupt as error:
        print(error.status, error.words)
"""
    out, err = begin(code=code).communicate(timeout=60)
    assert (out, err) == ("130 interrupted; nothing was written\n", "")


def test_handlers_are_those_of_before_behind_a_command():
    before = signal.getsignal(signal.SIGINT)
    with interrupts.handled():
        assert signal.getsignal(signal.SIGINT) is interrupts.handler
    assert signal.getsignal(signal.SIGINT) is before
    interrupts.check()


def test_ignored_signals_stay_ignored():
    """As those of a job in the background of a script."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with interrupts.handled():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_words_tell_of_parts_of_an_earlier_run(model, tmp_path):
    (tmp_path / "in.txt").write_text("a b\n" * 4000)
    out = tmp_path / "out.npy"
    options = ("embed", tmp_path / "in.txt", "-o", out, "--model", model, "--quiet")
    first = begin(*options, "--rows-per-part", 7)
    while not (tmp_path / "out.npy.parts" / "part-000001.json").exists():
        assert first.poll() is None
        time.sleep(0.01)
    first.send_signal(signal.SIGTERM)
    err = first.communicate(timeout=120)[1]
    assert first.returncode == 143
    assert "what is finished is kept" in err
    again = begin(0.0, *options, "--rows-per-part", 7, code=MOMENTS)  # before JAX is imported
    assert again.stdout.readline() == "ready\n"
    again.send_signal(signal.SIGINT)
    err = again.communicate(timeout=120)[1]
    assert again.returncode == 130
    assert "what is finished is kept, and the same command goes on from there" in err
    assert f"embed {tmp_path}/in.txt -o {out}" in err


def test_a_signal_while_stdin_says_nothing(model):
    process = begin("embed", "-o", "-", "--model", model, stdin=subprocess.PIPE)
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=60)
    assert process.returncode == 130
    assert process.stderr.read() == "jaxbert: interrupted; nothing was written\n"
    process.communicate()
