"""Compiled programs are kept between processes, and trouble with the folder stops nobody."""

import os
import subprocess
import sys

import pytest

ONE = """
import sys, logging, warnings
warnings.simplefilter("error")
logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stdout)
import jax
for option in {options!r}: jax.config.update(*option)
import numpy as np
from jaxbert.runner import Program
hits = []
import jax.monitoring
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
program = Program(lambda x, y: x @ x + y, np.eye(7, dtype=np.float32))
total = sum(float(np.asarray(program(np.ones((n, 7), np.float32))).sum()) for n in (1, 7))
print(total, sum("cache_hits" in name for name in hits), jax.config.jax_compilation_cache_dir)
"""


def start(cache, options=(), **more):
    """The lines that a fresh process prints, with that cache folder."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("JAX_COMP")},
        "JAX_PLATFORMS": "cpu",
        "JAXBERT_CACHE": str(cache),
        **more,
    }
    done = subprocess.run(
        [sys.executable, "-c", ONE.format(options=list(options))],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def files(folder):
    return sorted(folder.rglob("*-cache"))


def test_the_second_process_compiles_nothing(tmp_path):
    first, second = start(tmp_path / "kept"), start(tmp_path / "kept")
    assert len(files(tmp_path / "kept")) == 2
    assert first == [f"112.0 0 {tmp_path / 'kept'}"]
    assert second == [f"112.0 2 {tmp_path / 'kept'}"]


def test_by_default_it_is_in_the_users_cache_folder(tmp_path):
    start("", XDG_CACHE_HOME=str(tmp_path))
    (file, _) = files(tmp_path)
    assert file.parent.parent == tmp_path / "jaxbert"


def test_it_can_be_turned_off_and_other_choices_stand(tmp_path):
    mine = str(tmp_path / "mine")
    assert start("off") == ["112.0 0 None"]
    options = [("jax_compilation_cache_dir", mine)]
    assert start(tmp_path / "ours", options) == [f"112.0 0 {mine}"]
    options = [("jax_enable_compilation_cache", False)]
    assert start(tmp_path / "ours", options) == ["112.0 0 None"]
    assert not (tmp_path / "ours").exists()
    options = [("jax_persistent_cache_min_compile_time_secs", 60)]
    start(tmp_path / "slow", options)
    assert not files(tmp_path / "slow")


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[: len(data) // 2]])
def test_a_damaged_cache_is_said_once_and_is_whole_again_in_the_end(tmp_path, damage):
    start(tmp_path)
    for file in files(tmp_path):
        file.write_bytes(damage(file.read_bytes()))
    (tmp_path / "notes-cache").write_text("")  # somebody else's
    warning, result = start(tmp_path)
    assert warning.startswith(f"WARNING compiled programs in {tmp_path}: Error reading")
    assert result == f"112.0 0 {tmp_path}"
    start(tmp_path)
    assert start(tmp_path) == [f"112.0 2 {tmp_path}"]
    assert (tmp_path / "notes-cache").exists()


def test_a_folder_that_cannot_be_is_one_warning(tmp_path):
    (tmp_path / "file").write_text("")
    warning, result = start(tmp_path / "file" / "cache")
    assert warning.startswith("WARNING compiled programs are not kept: ")
    assert "JAXBERT_CACHE" in warning
    assert result == "112.0 0 None"


def test_a_folder_that_cannot_be_written_is_read(tmp_path, monkeypatch):
    start(tmp_path)
    before = files(tmp_path)
    files(tmp_path)[0].unlink()
    code = "import os; real = os.access; os.access = lambda p, m: m != os.W_OK and real(p, m)\n"
    monkeypatch.setitem(globals(), "ONE", code + ONE)
    warning, result = start(tmp_path)
    assert warning == (
        f"WARNING {tmp_path} cannot be written: compiled programs are read there, not kept"
    )
    assert result == f"112.0 1 {tmp_path}"
    assert len(files(tmp_path)) == len(before) - 1
