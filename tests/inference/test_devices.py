"""The devices that are asked for are those that compute; others are refused."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxbert import Embedder, Encoder
from jaxbert.errors import DeviceMemoryError, DeviceUnavailableError, InputError, InputTypeError
from jaxbert.inference import memory
from jaxbert.text.tokenizer import Tokenizer
from tests.models import encoder as made
from tests.models import word_tokenizer, write_folder

TEXTS = ["a b c", "d", "q a " * 7, ""]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("devices"), "bert-gelu")


def devices_of_arrays(arrays):
    return set().union(*(array.devices() for array in jax.tree.leaves(arrays)))


def test_one_device_that_is_not_the_first_has_the_weights_and_computes(folder):
    second = jax.local_devices()[1]
    first, embedder = (
        Embedder.from_pretrained(folder, deterministic=True, devices=devices)
        for devices in (None, [second])
    )
    assert embedder.encode(TEXTS).tobytes() == first.encode(TEXTS).tobytes()
    (whole,) = embedder.encode_chunks(TEXTS[:1], lambda text: [(0, len(text))])
    np.testing.assert_allclose(whole[0], first.encode(TEXTS[0]), atol=1e-5)
    assert devices_of_arrays(embedder.encoder) == {second}
    assert embedder.encoder([[3, 4, 5]]).devices() == {second}
    for program in embedder.engine.programs:
        assert devices_of_arrays(program.fixed) <= {second}
        assert program.compilations
        for compiled in program.compiled.values():
            assert {
                place
                for leaf in jax.tree.leaves(compiled.input_shardings)
                for place in leaf.device_set
            } == {second}


def test_two_devices_without_the_first_are_those_two(folder):
    code = """
import jax, sys
from jaxbert import Embedder
own = Embedder.from_pretrained(sys.argv[1], deterministic=True, devices=jax.local_devices()[:0:-1])
one = Embedder.from_pretrained(sys.argv[1], deterministic=True)
print(own.encode(["a b", "c"]).tobytes() == one.encode(["a b", "c"]).tobytes())
used = set().union(*(leaf.devices() for program in own.engine.programs for leaf in program.fixed))
print(jax.local_devices()[0] in used | own.encoder.embeddings.word[...].devices())
"""
    assert python(code, folder, JAX_NUM_CPU_DEVICES="3") == ["True", "False"]


def test_none_is_where_the_weights_are(folder):
    second = jax.local_devices()[1]
    encoder = jax.device_put(Encoder.from_pretrained(folder), second)
    embedder = Embedder(encoder, Embedder.from_pretrained(folder).tokenizer)
    embedder.encode(TEXTS)
    assert devices_of_arrays(embedder.engine.vectors.fixed) == {second}


def test_a_default_device_of_the_moment_moves_nothing(folder):
    first, second = jax.local_devices()[:2]
    embedder = Embedder.from_pretrained(folder)
    with jax.default_device(second):
        within = embedder.encode(TEXTS)
        other = Embedder.from_pretrained(folder)
    assert within.tobytes() == embedder.encode(TEXTS).tobytes() == other.encode(TEXTS).tobytes()
    assert devices_of_arrays(embedder.engine.vectors.fixed) == {first}
    assert devices_of_arrays(other.engine.vectors.fixed) == {second}


def test_memory_is_that_of_the_device(folder, monkeypatch):
    second = jax.local_devices()[1]
    monkeypatch.setattr(memory, "device_memory", lambda device: 3e4 if device == second else None)
    assert Embedder.from_pretrained(folder).encode(TEXTS).shape == (4, 15)
    embedder = Embedder.from_pretrained(folder, devices=[second])
    with pytest.raises(DeviceMemoryError):
        embedder.encode(TEXTS)
    with pytest.raises(DeviceMemoryError):
        embedder.encoder(np.ones((23, 19), np.int32))


@pytest.mark.parametrize(
    ("devices", "kind", "message"),
    [
        ([], InputError, "devices is empty"),
        (lambda: [jax.local_devices()[0]] * 2, InputError, "twice"),
        (lambda: jax.local_devices()[1], InputTypeError, "pass a list"),
        ("cpu", InputTypeError, "devices is a str; pass a list"),
        (["cpu:1"], InputTypeError, "devices holds a str"),
        ([0, 1], InputTypeError, "devices holds a int"),
        (3, InputTypeError, "devices is a int"),
    ],
)
def test_what_is_no_list_of_devices_of_this_process(folder, devices, kind, message):
    devices = devices() if callable(devices) else devices
    tokenizer = Tokenizer(word_tokenizer(), "right")
    with pytest.raises(kind, match=message):
        Embedder.from_pretrained(folder, devices=devices)
    with pytest.raises(kind, match=message):
        Embedder(made("bert-gelu"), tokenizer, devices=devices)


def test_devices_of_another_backend_are_refused(folder):
    """Those of a compiler without a machine are devices too; so are those of a dropped backend."""
    code = """
import jax, sys
old = jax.local_devices()
jax.clear_backends() if hasattr(jax, "clear_backends") else jax.extend.backend.clear_backends()
from jaxbert import Embedder
try: Embedder.from_pretrained(sys.argv[1], devices=old)
except Exception as error: print(type(error).__name__, error)
"""
    (line,) = python("import jax.extend\n" + code, folder)
    assert line.startswith("InputError devices holds cpu:0 of another backend or process; choose")


def python(code, *arguments, **environment):
    """The lines that a fresh process prints."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("platform", ["cuda", "gpu", "tpu", "nonsense"])
def test_a_platform_that_cannot_start_is_one_sentence(folder, platform):
    code = """
import sys, jaxbert
from jaxbert.verify import opened
for action in (
    lambda: jaxbert.Embedder.from_pretrained(sys.argv[1]),
    lambda: jaxbert.Encoder.from_pretrained(sys.argv[1]),
    lambda: opened.load_model(sys.argv[1], revision=None, ignore_config=(), dtype="float32"),
    lambda: jaxbert.mean_pool([[[1.0]]], [[1]]),
):
    try: action()
    except jaxbert.JaxbertError as error: print(type(error).__name__, error)
"""
    lines = python(code, folder, JAX_PLATFORMS=platform)
    assert len(lines) == 4
    for line in lines:
        name, message = line.split(" ", 1)
        assert name == DeviceUnavailableError.__name__
        assert message.startswith(f"JAX cannot start on JAX_PLATFORMS={platform} (")
        assert message.endswith("unset JAX_PLATFORMS")
        extra = {"cuda": "cuda", "gpu": "cuda", "tpu": "tpu"}.get(platform)
        assert extra is None or f'install "jaxbert[{extra}]", or' in message


def test_the_command_says_it_too(folder):
    for command in (["similarity", "a", "b", "--model", folder], ["info", folder]):
        done = subprocess.run(
            [sys.executable, "-m", "jaxbert.cli", *map(str, command)],
            env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cuda"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 1
        assert done.stderr.startswith("jaxbert: JAX cannot start on JAX_PLATFORMS=cuda (")


@pytest.mark.parametrize(
    ("device", "default", "expected"),
    [
        ("cpu", 1, 1),  # a platform alone leaves it to JAX
        ("cpu:0", 1, 0),
        ("cpu:0", None, 0),
        ("cpu:1", None, 1),
        ("cpu", None, 0),
    ],
)
def test_a_numbered_device_is_that_one_whatever_the_default(folder, device, default, expected):
    there = jax.local_devices()
    with jax.default_device(None if default is None else there[default]):
        embedder = Embedder.from_pretrained(folder, device=device)
        embedder.encode(TEXTS)
    assert devices_of_arrays(embedder.engine.vectors.fixed) == {there[expected]}
