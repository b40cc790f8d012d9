"""jaxbert.serve.ray in a local Ray: two replicas, one of which is killed under load."""

import os
import signal
import socket
import tempfile
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

pytest.importorskip("ray.serve", reason="ray comes with the extra named ray")

import ray
from ray import serve

from jaxbert import Embedder
from jaxbert.serve.ray import deployment
from tests.models import write_folder
from tests.tolerances import COMPANY, close, norms

# Ray and what it stands on warn of each other.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

ROOT = Path(__file__).parents[2]
SECONDS = 120
TEXTS = ["a b", "", "c d e f"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    files = {"sentence_bert_config": {"max_seq_length": 13}}
    return str(write_folder(tmp_path_factory.mktemp("model") / "own", **files))


@pytest.fixture(scope="module")
def url(folder):
    """Where a local Ray serves two replicas."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="r") as own:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(ROOT))
        ray.init(
            num_cpus=4,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
            _temp_dir=own,
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        options = ["--warm", "13", "--deterministic", "--served-name", "own"]
        serve.run(deployment(folder, options=options, num_replicas=2, health_check_period_s=1))
        yield f"http://127.0.0.1:{port}"
        serve.shutdown()
        ray.shutdown()


def ask(url, texts=TEXTS):
    body = {"input": list(texts), "normalized": False}
    return httpx.post(f"{url}/v1/embeddings", json=body, timeout=SECONDS)


def rows(answer):
    return np.array([row["embedding"] for row in answer.json()["data"]], np.float32)


def test_a_replica_answers_as_the_command_does(url, folder):
    expected = Embedder.from_pretrained(folder, deterministic=True).encode(TEXTS)
    close(rows(ask(url)), expected, COMPANY, norms)
    assert httpx.get(f"{url}/ready").json()["model"] == "own"
    assert httpx.post(f"{url}/v1/embeddings", json={"input": []}).status_code == 400


def pids():
    """The processes of the replicas that live."""
    actors = ray.util.state.list_actors(filters=[("state", "=", "ALIVE")], detail=True)
    return [actor.pid for actor in actors if "Replica" in actor.class_name]


def test_a_replica_that_is_killed_costs_what_it_was_computing_and_no_more(url):
    """Clients that ask again, as those of OpenAI do by themselves, all get their answers."""
    expected, wrong, tries, stop = rows(ask(url)), [], [], threading.Event()

    def client():
        while not stop.is_set():
            for number in range(60):
                answer = ask(url)
                tries.append(answer.status_code)
                if answer.status_code == 200:
                    wrong.append(not np.array_equal(rows(answer), expected))
                    break
                time.sleep(0.1 * number)
            else:
                wrong.append(True)

    clients = [threading.Thread(target=client) for _ in range(8)]
    for one in clients:
        one.start()
    first = pids()
    assert len(first) == 2
    time.sleep(1)
    os.kill(first[0], signal.SIGKILL)
    end = time.monotonic() + SECONDS
    while len(set(pids()) - {first[0]}) < 2 and time.monotonic() < end:
        time.sleep(0.5)
    stop.set()
    for one in clients:
        one.join(SECONDS)
    assert not any(wrong)
    assert len(wrong) > 20
    assert len(set(pids()) - {first[0]}) == 2, "Ray has started another"
    assert ask(url).status_code == 200
