"""Compiled programs are kept between processes, and trouble with the folder stops nobody."""

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from zlib import compress

import pytest

ONE = """
import sys, logging, warnings
warnings.simplefilter("error")
logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stdout)
import jax
for option in {options!r}: jax.config.update(*option)
import numpy as np
from jaxbert.inference import compilation_cache as cache
from jaxbert.inference.programs import Program
loaded = []
real = cache.load
cache.load = lambda *arguments: loaded.append(real(*arguments)) or loaded[-1]
first = jax.devices()[0]
program = Program(
    lambda x, y: x @ x + y, np.eye(7, dtype=np.float32), placement=first, fixed_placement=first
)
total = sum(float(np.asarray(program(np.ones((n, 7), np.float32))).sum()) for n in (1, 7))
print(total, len(loaded), jax.config.jax_compilation_cache_dir)
{more}
"""


def start(cache, options=(), code="", **more):
    """The lines that a fresh process prints, with that cache folder."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("JAX_")},
        "JAX_PLATFORMS": "cpu",
        "JAXBERT_CACHE": str(cache),
        "PYTHONPATH": str(Path(__file__).parents[2]),
        **more,
    }
    done = subprocess.run(
        [sys.executable, "-c", ONE.format(options=list(options), more=code)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def files(folder):
    return sorted(folder.rglob("*.program"))


def test_the_second_process_compiles_nothing(tmp_path):
    first, second = start(tmp_path / "kept"), start(tmp_path / "kept")
    assert len(files(tmp_path / "kept")) == 2
    assert first == ["112.0 0 None"]
    assert second == ["112.0 2 None"]


def test_by_default_it_is_in_the_users_cache_folder(tmp_path):
    start("", XDG_CACHE_HOME=str(tmp_path))
    (file, _) = files(tmp_path)
    assert file.parent.parent == tmp_path / "jaxbert"


def test_a_tilde_is_the_home_folder_and_a_path_may_be_relative(tmp_path, monkeypatch):
    start("~/kept", HOME=str(tmp_path))
    assert len(files(tmp_path / "kept")) == 2
    monkeypatch.chdir(tmp_path)
    start("a/b")
    assert len(files(tmp_path / "a" / "b")) == 2
    assert {entry.name for entry in tmp_path.iterdir()} == {"kept", "a"}


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


def test_the_users_own_programs_are_not_kept_here_and_their_cache_is_theirs(tmp_path):
    code = f"""
import jax.numpy as jnp
jax.jit(lambda x: jnp.sin(x) + 1)(jnp.ones(3))
jax.config.update("jax_compilation_cache_dir", {str(tmp_path / "theirs")!r})
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
jax.jit(lambda x: jnp.sin(x) + 2)(jnp.ones(5))
"""
    start(tmp_path / "ours", code=code)
    assert len(list((tmp_path / "ours").iterdir())) == len(files(tmp_path / "ours")) == 2
    assert list((tmp_path / "theirs").glob("*-cache"))


def test_what_changes_a_program_is_another_program(tmp_path):
    start(tmp_path)
    for options, more in (
        ([("jax_enable_x64", True)], {}),
        ([("jax_default_matmul_precision", "bfloat16")], {}),
        ([], {"XLA_FLAGS": "--xla_cpu_max_isa=AVX2"}),
    ):
        assert start(tmp_path, options, **more) == ["112.0 0 None"]
    assert len(files(tmp_path)) == 8


DAMAGES = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "a bit": lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
    "no program": lambda data: sha256(packed := compress(b"no program")).digest() + packed,
    "not packed": lambda data: sha256(b"x").digest() + b"x",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_entry_is_said_and_made_anew_and_others_stay(tmp_path, damage):
    start(tmp_path)
    first, second = files(tmp_path)
    content, other = first.read_bytes(), second.stat()
    first.write_bytes(damage(content))
    warning, result = start(tmp_path)
    assert warning.startswith(f"WARNING a compiled program in {tmp_path} is made anew: ")
    assert result == "112.0 1 None"
    assert (second.stat().st_ino, second.stat().st_mtime_ns) == (other.st_ino, other.st_mtime_ns)
    assert start(tmp_path) == ["112.0 2 None"]


def test_a_link_or_a_pipe_in_place_of_an_entry_is_not_followed(tmp_path):
    start(tmp_path / "kept")
    first, second = files(tmp_path / "kept")
    first.rename(tmp_path / "elsewhere")
    first.symlink_to(tmp_path / "elsewhere")
    second.unlink()
    os.mkfifo(second)
    *warnings, result = start(tmp_path / "kept")
    assert len(warnings) == 2
    assert result == "112.0 0 None"
    assert start(tmp_path / "kept") == ["112.0 2 None"]
    assert not first.is_symlink()


def test_a_new_folder_is_closed_to_others(tmp_path):
    start(tmp_path / "a" / "kept")
    assert (tmp_path / "a" / "kept").stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in files(tmp_path)} == {0o600}


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o1777])
def test_a_folder_that_others_may_write_is_not_used(tmp_path, mode):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(mode)
    (tmp_path / "link").symlink_to(tmp_path / "open")
    for place in ("open", "link"):
        warning, result = start(tmp_path / place)
        assert warning.startswith(f"WARNING compiled programs are not kept: {tmp_path / place} is ")
        assert result == "112.0 0 None"
    assert not list((tmp_path / "open").iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_or_file_of_another_user_is_not_used(tmp_path):
    (tmp_path / "theirs").mkdir(mode=0o755)
    os.chown(tmp_path / "theirs", 65534, 65534)
    warning, _ = start(tmp_path / "theirs")
    assert "is another user's or others may write there" in warning
    assert not list((tmp_path / "theirs").iterdir())
    start(tmp_path / "mine")
    os.chown(files(tmp_path / "mine")[0], 65534, 65534)
    warning, result = start(tmp_path / "mine")
    assert "is made anew" in warning
    assert result == "112.0 1 None"


def test_a_folder_that_cannot_be_is_one_warning(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "cache", tmp_path / "file", "~nobody-here/x"):
        warning, result = start(place)
        assert warning.startswith("WARNING compiled programs are not kept: ")
        assert "JAXBERT_CACHE" in warning
        assert result == "112.0 0 None"


def test_a_folder_that_cannot_be_written_is_read(tmp_path, monkeypatch):
    start(tmp_path)
    files(tmp_path)[0].unlink()
    code = "import os, secrets; secrets.token_hex = lambda n: 'a/b'\n"  # in no folder that is there
    monkeypatch.setitem(globals(), "ONE", code + ONE)
    warning, result = start(tmp_path)
    assert warning.startswith(f"WARNING compiled programs in {tmp_path} are read, not kept: ")
    assert result == "112.0 1 None"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_program_that_calls_python_is_not_kept(tmp_path):
    code = """
import jax.numpy as jnp
def print_first(x):
    jax.debug.callback(lambda y: print("saw", float(y)), x[0])
    return x
program = Program(print_first, placement=first)
program(jnp.full(3, 5.0)).block_until_ready(); jax.effects_barrier()
"""
    for _ in range(2):
        assert start(tmp_path, code=code)[-1] == "saw 5.0"
    assert len(files(tmp_path)) == 2
