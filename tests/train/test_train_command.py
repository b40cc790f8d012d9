"""`jaxbert train` as a person uses it, and how good a model is."""

import json
import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import spearmanr

from jaxbert import Embedder, MaskedLM, cli
from jaxbert.errors import InputError
from jaxbert.train.evaluate import Scored, correlation, ranks, read_scored, spearman
from tests.models import CONFIGS, masked, write_folder
from tests.tolerances import FLOAT64, close
from tests.train.runs import TEXTS

CONFIG = {
    **{"hidden_size": 12, "num_layers": 1, "num_heads": 3, "intermediate_size": 7},
    **{"position": "learned", "feed_forward": "mlp", "activation": "gelu", "max_positions": 17},
}
# Nine shapes would take long to compile.
SMALL = ("--batch", 4, "--length", 9, "--buckets", 1, "--steps", 6, "--quiet")


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A folder with a model, texts, pairs and scored pairs."""
    folder = tmp_path_factory.mktemp("given")
    write_folder(folder / "model", sentence_bert_config={"max_seq_length": 17})
    write_folder(folder / "masked", tensors=masked())
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    pairs = [{"anchor": own, "positive": own[::-1], "negative": ["z y"]} for own in TEXTS]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    scored = [
        {"sentence1": f"a b {word}", "sentence2": f"c {word}", "score": i / 5}
        for i, word in enumerate("defghij")
    ]
    (folder / "sts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scored))
    return folder


def train(*arguments):
    """The command's exit status, in this process."""
    return cli.main(["train", *map(str, arguments)])


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


# --- what comes out ------------------------------------------------------------------------------


def test_a_masked_model_from_nothing(given, tmp_path, capsys):
    out = tmp_path / "out"
    begin = ("--config", given / "config.json", "--tokenizer", given / "model")
    data = ("--texts", given / "texts.txt", "--share", 0.3, "--evaluate", given / "texts.txt")
    with_none_left = ("mlm", *begin, *data, *SMALL, "-o", out)
    assert train(*with_none_left) == 1
    assert "the data has 0 rows" in capsys.readouterr().err
    (tmp_path / "held.txt").write_text("z y x w\nw x z y\n")
    assert train(*with_none_left[:-2], "--evaluate", tmp_path / "held.txt", "-o", out) == 0
    told = capsys.readouterr().err
    assert "before training: " in told
    assert "after training: " in told
    assert f"{out} is written; metrics and checkpoints are in {out}.run" in told
    model = MaskedLM.from_pretrained(out)
    assert model.encoder.config.hidden_size == 12
    assert len(model.fill("a [MASK] c d")) == 5
    found = records(tmp_path / "out.run")
    assert [own["step"] for own in found] == list(range(1, 7))
    assert set(found[0]) == {
        *("step", "loss", "lr", "accuracy", "gradient_norm", "tokens", "seconds")
    }


def test_a_masked_model_goes_on_from_its_base(given, tmp_path):
    out = tmp_path / "out"
    data = ("--texts", given / "texts.txt", "--rate", 1e-9)
    assert train("mlm", "--base", given / "masked", *data, *SMALL, "-o", out) == 0
    before, after = (MaskedLM.from_pretrained(own) for own in (given / "masked", out))
    ids = np.array([[2, 7, 4, 9, 3]], np.int32)
    close(after.logits(ids), before.logits(ids), 1e-5)


def test_pairs(given, tmp_path):
    out = tmp_path / "out"
    data = ("--data", given / "pairs.jsonl", "--evaluate", given / "sts.jsonl")
    assert train("pairs", "--base", given / "model", *data, *SMALL, "-o", out) == 0
    before, after = (Embedder.from_pretrained(own) for own in (given / "model", out))
    assert after.max_seq_length == 17
    assert not np.array_equal(before.encode("a b"), after.encode("a b"))
    assert {"loss", "nearest"} < set(records(tmp_path / "out.run")[0])


def test_pairs_with_scores_and_matryoshka(given, tmp_path):
    names = ("--anchor-field", "sentence1", "--positive-field", "sentence2")
    data = ("--data", given / "sts.jsonl", *names, "--score-field", "score", "--loss", "cosent")
    more = ("--matryoshka", "15,7", "-o", tmp_path / "out")
    assert train("pairs", "--base", given / "model", *data, *SMALL, *more) == 0
    assert len(records(tmp_path / "out.run")) == 6


def test_a_jinabert_student_of_one_layer(given, tmp_path, capsys):
    out = tmp_path / "out"
    student = ("--base", given / "model", "--layers", "1", "--architecture", "jinabert")
    command = ("distil", *student, "--intermediate", 5, "--texts", given / "texts.txt", *SMALL)
    assert train(*command, "--rate", 0.01, "--evaluate", given / "sts.jsonl", "-o", out) == 0
    told = capsys.readouterr().err
    assert told.count("Spearman's correlation") == 2
    assert "on 7 pairs" in told
    embedder = Embedder.from_pretrained(out)
    config = embedder.encoder.config
    assert (config.num_layers, config.position, config.intermediate_size) == (1, "alibi", 5)
    assert embedder.max_seq_length == 8192
    assert np.isfinite(embedder.encode("a b c " * 50)).all()
    found = records(tmp_path / "out.run")
    assert found[-1]["loss"] < found[0]["loss"]
    teacher = np.load(tmp_path / "out.run" / "teacher.npy")
    assert teacher.shape == (len(TEXTS), CONFIGS["bert-gelu"].hidden_size)


def test_students_of_sentences_share_the_teachers_vectors(given, tmp_path):
    pages = [" ".join(TEXTS[i : i + 5]).replace(" ", "  ") + "." for i in range(len(TEXTS) - 5)]
    (tmp_path / "pages.txt").write_text("\n".join(pages) + "\na b c d\n")
    (tmp_path / "sts.jsonl").write_text(
        json.dumps({"sentence1": "a b c d", "sentence2": "c b", "score": 1})
        + "\n"
        + json.dumps({"sentence1": "a b c", "sentence2": "c d", "score": 0})
        + "\n"
    )
    data = ("--texts", tmp_path / "pages.txt", "--evaluate", tmp_path / "sts.jsonl")
    chosen = ("--sentences", 4, "--sample", 7, "--vectors", tmp_path / "vectors")
    command = ("distil", "--base", given / "model", *data, *chosen, *SMALL)
    assert train(*command, "-o", tmp_path / "one") == 0
    vectors = tmp_path / "vectors" / "teacher.npy"
    assert np.load(vectors).shape == (7, CONFIGS["bert-gelu"].hidden_size)
    first = vectors.stat().st_mtime_ns
    assert train(*command, "--seed", 1, "-o", tmp_path / "two") == 0
    assert vectors.stat().st_mtime_ns == first
    assert train(*command, "--sample", 8, "-o", tmp_path / "three") == 0
    assert vectors.stat().st_mtime_ns != first
    assert not (tmp_path / "one.run" / "teacher.npy").exists()


def test_the_same_command_goes_on_and_then_is_done(given, tmp_path, capsys):
    one, two = tmp_path / "one", tmp_path / "two"
    command = ("distil", "--base", given / "model", "--texts", given / "texts.txt", *SMALL)
    assert train(*command, "-o", one) == 0
    assert train(*command, "--minutes", 0, "-o", two) == 3
    assert "only 1 of 6 steps are done" in capsys.readouterr().err
    assert len(records(tmp_path / "two.run")) == 1
    assert train(*command, "--checkpoint-every", 2, "-o", two) == 0
    weights = [(own / "model.safetensors").read_bytes() for own in (one, two)]
    assert weights[0] == weights[1]
    capsys.readouterr()
    assert train(*command, "-o", two) == 0
    assert capsys.readouterr().err == f"jaxbert: {two} is complete already\n"
    assert train(*command, "--rate", 0.5, "-o", two) == 1
    assert "training.rate was 0.0005 and is 0.5" in capsys.readouterr().err


# --- what is refused -----------------------------------------------------------------------------

BASE, TEXT = ("--base", "model"), ("--texts", "texts.txt")
DRAWN = ("--config", "config.json", "--tokenizer", "model")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("mlm", *TEXT), "say what training begins with: --base MODEL, or --config bert-tiny"),
        (("mlm", *TEXT, *BASE, "--config", "bert-tiny"), "say what training begins with"),
        (("mlm", *TEXT, "--config", "bert-tiny"), "--config needs a vocabulary"),
        (("mlm", *TEXT, *BASE, "--tokenizer", "model"), "--base has a tokenizer of its own"),
        (("mlm", *TEXT, *BASE, "--layers", "a"), "--layers is 'a'; give numbers, such as 0,2,4"),
        (("mlm", *TEXT, *BASE, "--layers", "2"), "a layer is 2; it must be from 0 to 1"),
        (("mlm", *TEXT, *BASE, "--intermediate", 3), "--intermediate is for --architecture"),
        (("mlm", *TEXT, *BASE, "--batch", 0), "--batch is 0; it must be from 1"),
        (("mlm", *TEXT, *BASE, "--rate", "nan"), "--rate is nan; it must be from 0 to inf"),
        (("mlm", *TEXT, *BASE, "--length", 20), "--length is 20, and the model has 19 positions"),
        (("mlm", *TEXT, *BASE, "--batch", 50), "has 49 rows, which is less than a batch of 50"),
        (("mlm", "--texts", "none.txt", *BASE), "none.txt does not exist"),
        (("mlm", "--texts", "short.txt", *BASE), "short.txt, row 1 has 2 tokens, and masking"),
        (("mlm", *TEXT, *BASE, "--freeze", "word"), "frozen has 'word', but no parameter's path"),
        (("mlm", *TEXT, *BASE, "--warmup", 6), "warmup is 6 of 6 steps"),
        (("pairs", "--data", "pairs.jsonl", *BASE, "--loss", "cosent"), "belong together"),
        (("distil", *TEXT, *DRAWN), "say which model teaches: --teacher MODEL"),
        (
            ("distil", *TEXT, *DRAWN, "--teacher", "model"),
            "the student's vectors have 12 features and the teacher's 15; make them equal",
        ),
        (("distil", *TEXT, *BASE, "--sentences", "3"), "--sentences is 3; it must be"),
        (("distil", *TEXT, *BASE, "--sample", "0"), "--sample is 0; it must be"),
        (("distil", *TEXT, *BASE, "--matryoshka", "99"), "dims has 99, but the vectors have 15"),
    ],
)
def test_what_cannot_be_trained(given, tmp_path, monkeypatch, capsys, arguments, match):
    monkeypatch.chdir(given)
    (given / "short.txt").write_text("a b\n")
    task, *rest = arguments
    assert train(task, *SMALL, *rest, "-o", tmp_path / "out") == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith("jaxbert: ")
    assert match in sentence
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file(given, tmp_path, capsys):
    (tmp_path / "out").write_text("x")
    given_ = ("--base", given / "model", "--texts", given / "texts.txt", *SMALL)
    assert train("mlm", *given_, "-o", tmp_path / "out") == 1
    assert "out is a file; name a folder" in capsys.readouterr().err


def test_help_does_not_import_jax():
    code = (
        "import sys, jaxbert.cli as cli\n"
        "for task in ([], ['mlm'], ['pairs'], ['distil']):\n"
        "    try: cli.main(['train', *task, '--help'])\n"
        "    except SystemExit: pass\n"
        "print([m for m in ('jax', 'numpy', 'flax', 'optax', 'tokenizers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "--layers" in done.stdout
    assert done.stdout.endswith("[]\n"), done.stderr


# --- how good a model is -------------------------------------------------------------------------


def test_ranks_of_equal_values_are_their_mean():
    assert ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]


@pytest.mark.parametrize("seed", range(3))
def test_spearman_is_scipys(seed):
    random = np.random.default_rng(seed)
    a, b = random.integers(0, 7, 29), random.normal(size=29)
    close(spearman(a, b), spearmanr(a, b).statistic, 8 * FLOAT64)
    assert np.isnan(spearman(np.ones(3), np.arange(3)))


def test_the_correlation_is_that_of_cosines_with_scores():
    vectors = {"a": [2.0, 0.0], "b": [0.0, 3.0], "c": [1.0, 1.0], "d": [-1.0, 0.0]}
    pairs = [Scored("a", "b", 2.0), Scored("a", "c", 3.0), Scored("a", "d", 1.0)]
    assert correlation(lambda texts: np.array([vectors[t] for t in texts]), pairs) == 100.0
    worse = [pairs[0], pairs[1]._replace(score=0.0), pairs[2]]
    close(correlation(lambda texts: np.array([vectors[t] for t in texts]), worse), -50.0, FLOAT64)


def test_scored_pairs_are_read_and_a_bad_one_is_named(given, tmp_path):
    found = read_scored([str(given / "sts.jsonl")])
    assert found[1] == Scored("a b e", "c e", 0.2)
    (tmp_path / "in.jsonl").write_text('{"sentence1": "a", "sentence2": "b", "score": null}\n')
    with pytest.raises(InputError, match="row 1 holds no number in 'score'"):
        read_scored([str(tmp_path / "in.jsonl")])
    (tmp_path / "in.jsonl").write_text('{"sentence1": "a", "sentence2": "b", "score": 1}\n')
    with pytest.raises(InputError, match="has 1 pairs; a correlation needs two"):
        read_scored([str(tmp_path / "in.jsonl")])
