"""jaxbert.serve.ray in a local Ray: two replicas, one of which is killed under load."""

import contextlib
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


def asked(url):
    """The answer, or None for a request that must be tried again."""
    with contextlib.suppress(httpx.HTTPError):
        answer = ask(url)
        if answer.status_code == 200:
            return answer
    return None


def replicas():
    """The names of the replicas that live, with their namespace."""
    found = ray.util.list_named_actors(all_namespaces=True)
    return {(one["name"], one["namespace"]) for one in found if "REPLICA" in one["name"]}


def test_a_replica_that_is_killed_costs_what_it_was_computing_and_no_more(url):
    """Clients that ask again, as those of OpenAI do by themselves, all get their answers."""
    expected, wrong, stop = rows(ask(url)), [], threading.Event()

    def client():
        while not stop.is_set():
            for number in range(60):
                answer = asked(url)
                if answer is not None:
                    wrong.append(not np.array_equal(rows(answer), expected))
                    break
                time.sleep(0.1 * number)
            else:
                wrong.append(True)

    clients = [threading.Thread(target=client) for _ in range(8)]
    for one in clients:
        one.start()
    first = replicas()
    time.sleep(1)
    killed = min(first)
    ray.kill(ray.get_actor(*killed))  # its process ends at once, in the midst of its work
    end = time.monotonic() + SECONDS
    while len(replicas() - {killed}) < 2 and time.monotonic() < end:
        time.sleep(0.5)
    time.sleep(2)
    stop.set()
    for one in clients:
        one.join(SECONDS)
    assert not any(wrong)
    assert len(wrong) > 20
    assert len(first) == len(replicas() - {killed}) == 2, "Ray has started another"
    assert ask(url).status_code == 200
