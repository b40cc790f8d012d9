"""convert/from_hub.py: what is fetched, what is proved, and that a folder appears whole or not.

The hub is the small server of test_hub.py, with checksums in its listing.
"""

import hashlib
import http.server
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from huggingface_hub.utils.sha import git_hash
from safetensors.numpy import load_file, save_file

from jaxbert.embedder import Embedder
from tests.checkpoint.test_hub import COMMIT, NAME, Hub
from tests.models import sharded, write_folder

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / "convert" / "from_hub.py"
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1", "type": "sentence_transformers.models.Pooling"},
]
FETCHED = {"1/config.json", "config.json", "model.safetensors", "modules.json", "tokenizer.json"}


class Listing(Hub):
    """Test_hub's server; lists checksums, knows its revisions, and can fail in the middle."""

    def answer(self, body):
        path = self.path.split("?")[0]
        asked = re.search(rf"/api/models/{NAME}/(?:revision|tree)/([^/]+)", path)
        if asked and asked[1] not in self.server.revisions:
            return self.refuse(404, {"X-Error-Code": "RevisionNotFound"})
        if "/tree/" in path:
            listing = json.dumps([self.entry(file) for file in self.files()]).encode()
            return self.send(listing, {"Content-Type": "application/json"}, body)
        return super().answer(body)

    def files(self):
        return [file for file in self.server.folder.rglob("*") if file.is_file()]

    def entry(self, file):
        """A file as the hub lists it: large ones by SHA-256, the rest by their name in git."""
        data, path = file.read_bytes(), file.relative_to(self.server.folder).as_posix()
        entry = {"type": "file", "path": path, "size": len(data), "oid": git_hash(data)}
        if file.suffix == ".safetensors":
            sha256 = hashlib.sha256(data).hexdigest()
            pointer = git_hash(sha256.encode())
            entry |= {"oid": pointer, "lfs": {"oid": sha256, "size": len(data), "pointerSize": 133}}
        return entry

    def send(self, data, headers, body):
        name = self.path.split(f"/resolve/{COMMIT}/")[-1]
        if body and name == self.server.cut:
            return self.cut_off(data)
        if name in self.server.wrong:
            data = bytes([data[0] ^ 1]) + data[1:]
        return super().send(data, headers, body)

    def cut_off(self, data):
        """Half of a file; then nothing at all: the server fails, or it is waited for."""
        if self.server.halves:
            self.server.stuck.set()
            return self.server.patience.wait(60) if self.server.waits else self.refuse(503, {})
        self.server.halves += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2])
        self.close_connection = True
        return None

    def refuse(self, status, headers):
        self.send_response(status)
        for key, value in (headers | {"Content-Length": "0"}).items():
            self.send_header(key, value)
        self.end_headers()


@pytest.fixture
def server(tmp_path):
    folder = write_folder(
        tmp_path / "published", modules=MODULES, **{"1__config": {"pooling_mode": "max"}}
    )
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "modeling_bert.py").write_text("raise SystemExit('code of a checkpoint ran')")
    (folder / "README.md").write_text("a card")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listing) as running:
        running.folder, running.asked = folder, []
        running.revisions = {COMMIT, "main", "v2"}
        running.wrong, running.cut, running.halves, running.waits = set(), None, 0, False
        running.stuck, running.patience = threading.Event(), threading.Event()
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.patience.set()
        running.shutdown()


def settings(tmp_path, server):
    """The environment of the program; the client reads its settings when it is imported."""
    found = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    found |= {"HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": str(ROOT)}
    address = "http://{}:{}".format(*server.server_address)
    return found | {"HF_ENDPOINT": address, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


def fetch(tmp_path, server, *more, revision=COMMIT, folder=None):
    """The program in a process of its own."""
    words = [NAME, folder or tmp_path / "model", "--revision", revision, *more]
    return subprocess.run(
        [sys.executable, PROGRAM, *map(str, words)],
        env=settings(tmp_path, server),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def program(monkeypatch):
    """The program as a module."""
    monkeypatch.syspath_prepend(PROGRAM.parent)
    spec = importlib.util.spec_from_file_location("convert_from_hub", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def assert_one_sentence(text):
    assert "Traceback" not in text
    assert text.startswith("from_hub.py: ")
    assert text.count("\n") == 1


def held(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_a_tag_is_pinned_and_every_file_is_proved(server, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()  # empty, so it may be filled
    done = fetch(tmp_path, server, "--token", "hf_secret", revision="v2")
    assert done.returncode == 0, done.stderr
    assert held(folder) == FETCHED | {"SOURCE.json"}
    source = (folder / "SOURCE.json").read_text()
    assert json.loads(source) == {
        "repository": NAME,
        "commit": COMMIT,
        "files": {
            name: {
                "size": (server.folder / name).stat().st_size,
                "sha256": hashlib.sha256((server.folder / name).read_bytes()).hexdigest(),
            }
            for name in FETCHED
        },
    }
    for word in (str(tmp_path), "v2", "hf_secret"):
        assert word not in source
    assert f"{NAME} at {COMMIT}: 5 files" in done.stdout
    assert re.search(r"family +BERT\n", done.stdout)
    assert "hf_secret" not in done.stdout + done.stderr
    asked = {
        path.split("/resolve/")[1]: token for path, token in server.asked if "/resolve/" in path
    }
    assert asked == {f"{COMMIT}/{name}": "Bearer hf_secret" for name in FETCHED}
    assert Embedder.from_pretrained(folder).stack.pooling.modes == ("max",)


def test_two_fetches_are_the_same_files(server, tmp_path):
    for name in ("model", "again"):
        assert fetch(tmp_path, server, folder=tmp_path / name).returncode == 0
    first, second = tmp_path / "model", tmp_path / "again"
    assert (first / "SOURCE.json").read_bytes() == (second / "SOURCE.json").read_bytes()
    assert not list(tmp_path.glob("*.partial"))


def test_shards_count_as_weights_and_a_source_of_theirs_is_not_taken_for_ours(server, tmp_path):
    sharded(server.folder)
    (server.folder / "SOURCE.json").write_text('{"files": {}}')
    (server.folder / ".cache").mkdir()
    (server.folder / ".cache" / "note.json").write_text("{}")
    done = fetch(tmp_path, server)
    assert done.returncode == 0, done.stderr
    source = json.loads((tmp_path / "model" / "SOURCE.json").read_text())
    assert "model-00002-of-00002.safetensors" in source["files"]
    assert set(source["files"]) == held(tmp_path / "model") - {"SOURCE.json"}


def test_a_folder_that_is_not_understood_is_kept(server, tmp_path):
    weights = server.folder / "model.safetensors"
    tensors = load_file(weights)
    tensors["my.own.weight"] = tensors["embeddings.LayerNorm.bias"]
    save_file(tensors, weights)
    done = fetch(tmp_path, server)
    assert done.returncode == 1
    assert_one_sentence(done.stderr)
    assert "my.own.weight" in done.stderr
    assert held(tmp_path / "model") == FETCHED | {"SOURCE.json"}


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_bytes_that_are_not_the_published_ones_are_refused(server, tmp_path, name):
    server.wrong = {name}
    done = fetch(tmp_path, server)
    assert done.returncode == 2
    assert_one_sentence(done.stderr)
    assert f"{name} does not have the checksum" in done.stderr
    assert not (tmp_path / "model").exists()
    server.wrong = set()
    assert fetch(tmp_path, server).returncode == 0


def test_an_interrupted_download_leaves_no_folder_and_goes_on(server, tmp_path):
    server.cut = "model.safetensors"
    done = fetch(tmp_path, server)
    assert done.returncode == 2
    assert server.stuck.is_set()
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("from_hub.py: model.safetensors of someone/small could not be fetched")
    assert not (tmp_path / "model").exists()
    whole = held(tmp_path / "model.partial") & FETCHED
    assert whole
    assert "model.safetensors" not in whole
    server.cut = None
    server.asked.clear()
    assert fetch(tmp_path, server).returncode == 0
    assert held(tmp_path / "model") == FETCHED | {"SOURCE.json"}
    assert not any(path.endswith(f"/{COMMIT}/{name}") for path, _ in server.asked for name in whole)


def test_an_interrupt_from_the_keyboard_leaves_no_folder(server, tmp_path):
    server.cut, server.waits = "model.safetensors", True
    command = [sys.executable, PROGRAM, NAME, tmp_path / "model", "--revision", COMMIT]
    with subprocess.Popen(
        command, env=settings(tmp_path, server), stderr=subprocess.PIPE, text=True
    ) as running:
        assert server.stuck.wait(60)
        running.send_signal(signal.SIGINT)
        error = running.communicate(timeout=60)[1]
    assert running.returncode == 2
    assert "Traceback" not in error
    assert error.splitlines()[-1] == "from_hub.py: interrupted"
    assert not (tmp_path / "model").exists()


def test_what_is_there_is_not_written_over(server, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    done = fetch(tmp_path, server)
    assert done.returncode == 2
    assert_one_sentence(done.stderr)
    assert "is not empty" in done.stderr
    assert held(folder) == {"mine.txt"}
    assert server.asked == []
    done = fetch(tmp_path, server, folder=folder / "mine.txt")
    assert done.returncode == 2
    assert "is a file" in done.stderr
    partial = tmp_path / "new.partial"
    partial.mkdir()
    (partial / "mine.txt").write_text("mine")
    done = fetch(tmp_path, server, folder=tmp_path / "new")
    assert done.returncode == 2
    assert_one_sentence(done.stderr)
    assert "holds mine.txt" in done.stderr
    assert held(partial) == {"mine.txt"}


def test_weights_as_a_pickle_only(server, tmp_path):
    (server.folder / "model.safetensors").unlink()
    done = fetch(tmp_path, server)
    assert done.returncode == 2
    assert_one_sentence(done.stderr)
    assert "only as pytorch_model.bin, a pickle" in done.stderr
    assert "convert/from_torch.py" in done.stderr
    (server.folder / "pytorch_model.bin").unlink()
    done = fetch(tmp_path, server)
    assert done.returncode == 2
    assert "it has no weights" in done.stderr
    assert not any("/resolve/" in path for path, _ in server.asked)
    assert not list(tmp_path.glob("model*"))


@pytest.mark.parametrize("revision", ["no-such-branch", COMMIT[::-1]])
def test_an_unknown_revision(server, tmp_path, revision):
    done = fetch(tmp_path, server, revision=revision)
    assert done.returncode == 2
    assert_one_sentence(done.stderr)
    assert f"{NAME} has no revision {revision}" in done.stderr
    assert not list(tmp_path.glob("model*"))


def test_a_hub_that_answers_with_another_commit(server, tmp_path):
    other = COMMIT[::-1]
    server.revisions.add(other)
    done = fetch(tmp_path, server, revision=other)
    assert done.returncode == 2
    assert_one_sentence(done.stderr)
    assert f"the hub answers {COMMIT}" in done.stderr


# --- --check -----------------------------------------------------------------------------------


@pytest.fixture
def fetched(tmp_path):
    """A folder as the program leaves it."""
    folder = write_folder(
        tmp_path / "model", modules=MODULES, **{"1__config": {"pooling_mode": "max"}}
    )
    files = {}
    for name in sorted(held(folder)):
        data = (folder / name).read_bytes()
        files[name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    source = {"repository": NAME, "commit": COMMIT, "files": files}
    (folder / "SOURCE.json").write_text(json.dumps(source))
    return folder


def flip(file):
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(bytes(data))


DAMAGES = {
    "one bit": (lambda folder: flip(folder / "model.safetensors"), ["changed: model.safetensors"]),
    "missing": (lambda folder: (folder / "1" / "config.json").unlink(), ["missing: 1/config.json"]),
    "added": (lambda folder: (folder / "1" / "more.txt").write_text("x"), ["added: 1/more.txt"]),
    "hidden": (lambda folder: (folder / ".more").write_text("x"), ["added: .more"]),
    "renamed": (
        lambda folder: (folder / "config.json").rename(folder / "config.txt"),
        ["missing: config.json", "added: config.txt"],
    ),
}


def test_check_of_an_untouched_folder(program, fetched, capsys):
    assert program.main(["--check", str(fetched)]) == 0
    captured = capsys.readouterr()
    assert f"{NAME} at {COMMIT}: 5 files" in captured.out
    assert captured.err == ""


@pytest.mark.parametrize("case", DAMAGES)
def test_check_names_what_differs(program, fetched, capsys, case):
    damage, faults = DAMAGES[case]
    damage(fetched)
    assert program.main(["--check", str(fetched)]) == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [f"from_hub.py: {fault}" for fault in faults]
    assert captured.out == ""


@pytest.mark.parametrize("contents", [None, "no JSON", "[]", '{"commit": "x"}'])
def test_check_without_a_source_is_one_sentence(program, fetched, capsys, contents):
    (fetched / "SOURCE.json").unlink()
    if contents is not None:
        (fetched / "SOURCE.json").write_text(contents)
    assert program.main(["--check", str(fetched)]) == 2
    error = capsys.readouterr().err
    assert_one_sentence(error)
    assert "SOURCE.json" in error


@pytest.mark.parametrize(
    "words",
    [
        [],
        [NAME, "somewhere"],
        [NAME, "--revision", COMMIT],
        ["--check", "somewhere", NAME],
        ["--check", "somewhere", "--revision", COMMIT],
    ],
)
def test_arguments_that_do_not_go_together(program, capsys, words):
    with pytest.raises(SystemExit, match="2"):
        program.main(words)
    assert "usage: from_hub.py" in capsys.readouterr().err


def test_help_is_quick():
    """python -X importtime lists what a program imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", PROGRAM, "--help"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "OWNER/NAME" in done.stdout
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert "jaxbert.cli" in imported
    assert not imported & {"jax", "flax", "huggingface_hub", "torch"}
