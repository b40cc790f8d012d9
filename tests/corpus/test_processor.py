"""What decides about a CPU's bits is a setting of a run: instructions, threads and flags of XLA."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxbert import cli
from jaxbert.corpus import processor
from tests.corpus.test_run import broken_after
from tests.models import write_folder

ROOT = Path(__file__).parents[2]
FLAGS = {
    "sse2": "fpu sse sse2",
    "sse4.2": "sse sse2 sse4_1 sse4_2",
    "avx": "sse sse2 sse4_2 avx",
    "avx2": "sse sse2 sse4_2 avx f16c fma avx2 avx512f amx_tile",
}


def cpuinfo(monkeypatch, flags):
    """A machine with these."""
    read = Path.read_text
    text = f"processor\t: 0\nflags\t\t: {flags}\n\nprocessor\t: 1\nflags\t\t: {flags}\n"
    fake = lambda self, *a, **k: text if str(self) == "/proc/cpuinfo" else read(self, *a, **k)  # noqa: E731
    monkeypatch.setattr(Path, "read_text", fake)
    monkeypatch.setattr(processor.platform, "machine", lambda: "x86_64")


@pytest.mark.parametrize("name", FLAGS)
def test_the_instruction_set_by_the_flags_of_the_kernel(monkeypatch, name):
    cpuinfo(monkeypatch, FLAGS[name])
    assert processor.instructions() == name


def test_avx2_without_fma_is_avx(monkeypatch):
    cpuinfo(monkeypatch, "sse2 sse4_2 avx avx2")
    assert processor.instructions() == "avx"


@pytest.mark.parametrize(
    ("bound", "name"),
    [("SSE4_2", "sse4.2"), ("avx", "avx"), ("AVX2", "avx2"), ("AVX512", "avx2"), ("AMX", "avx2")],
)
def test_the_instruction_set_is_bounded_as_xla_bounds_it(monkeypatch, bound, name):
    cpuinfo(monkeypatch, FLAGS["avx2"])
    assert processor.instructions(bound) == name


def test_another_kind_of_processor_is_called_by_its_name(monkeypatch):
    monkeypatch.setattr(processor.platform, "machine", lambda: "aarch64")
    assert processor.instructions() == "aarch64"


def test_flags_of_xla_are_told_without_order_and_without_harmless_ones(monkeypatch, tmp_path):
    text = "--xla_b=2  --xla_dump_to=/tmp/x --xla_a=0 --xla_cpu_max_isa=AVX2 --xla_a=1"
    monkeypatch.setenv("XLA_FLAGS", text)
    assert processor.processor()["xla_flags"] == {"--xla_a": "1", "--xla_b": "2"}
    (tmp_path / "flags").write_text("--xla_b=2\n--xla_a=1\n")
    monkeypatch.setenv("XLA_FLAGS", str(tmp_path / "flags"))
    assert processor.processor()["xla_flags"] == {"--xla_a": "1", "--xla_b": "2"}
    monkeypatch.setenv("XLA_FLAGS", str(tmp_path / "none"))
    assert processor.processor()["xla_flags"] == {"XLA_FLAGS": str(tmp_path / "none")}


def test_threads_are_those_of_xla(monkeypatch):
    monkeypatch.setenv("NPROC", "7")
    assert processor.threads() == 7
    monkeypatch.delenv("NPROC")
    assert processor.threads() == max(len(os.sched_getaffinity(0)), 2)  # of two devices in tests


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2"}, "software.instructions was "),
        ({"NPROC": "61"}, "software.threads was "),
        ({"XLA_FLAGS": "--xla_cpu_enable_fast_math=true"}, "software.xla_flags.--xla_cpu_enable_f"),
    ],
)
def test_a_run_that_would_mix_bits_is_refused_by_name(
    tmp_path, monkeypatch, capsys, environment, told
):
    model, source = write_folder(tmp_path / "m"), tmp_path / "in.txt"
    source.write_text("a b\n" * 23)
    options = ["embed", source, "-o", tmp_path / "out.npy", "--model", model, "--quiet"]
    given = [str(option) for option in [*options, "--rows-per-part", 5]]
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    with monkeypatch.context() as patch:
        broken_after(patch, 2)
        assert cli.main(given) == 1
    capsys.readouterr()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cli.main(given) == 1
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    for name in environment:
        monkeypatch.delenv(name)
    assert cli.main(given) == 0


BITS = """
import hashlib
from jaxbert import Embedder
from jaxbert.checkpoint import hub
embedder = Embedder.from_pretrained(hub.installed_package(), deterministic=True)
vectors = embedder.encode([" ".join(["the stone light"] * n) for n in (1, 5, 17, 41)])
print(hashlib.sha256(vectors.tobytes()).hexdigest())
"""


def bits(isa):
    """The sum of some vectors of the real model, with at most these instructions."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": f"--xla_cpu_max_isa={isa}"}
    done = subprocess.run(
        [sys.executable, "-c", BITS], env=environment, capture_output=True, text=True, timeout=300
    )
    assert len(done.stdout) == 2 * hashlib.sha256().digest_size + 1, done.stderr
    return done.stdout


def test_instruction_sets_of_one_name_give_the_same_bits(minilm):
    """What this processor lacks is left out by XLA, so that the claim is weaker on an old one."""
    assert bits("AVX2") == bits("AVX512")
