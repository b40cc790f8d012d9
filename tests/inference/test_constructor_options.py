"""sentence-transformers' keywords of a constructor, given to Embedder.from_pretrained."""

import enum
import logging
from types import SimpleNamespace

import pytest

from jaxbert import Embedder
from jaxbert.errors import InputError, InputTypeError, ModelNotFoundError
from jaxbert.text.prompts import PromptWarning
from tests.models import write_folder
from tests.tolerances import COMPANY, close, norms

TEXTS = ["a b c", "d e"]
KIND = "sentence_transformers.models"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(
        tmp_path_factory.mktemp("model"),
        sentence_bert_config={"max_seq_length": 17, "unpad_inputs": True},
        config_sentence_transformers={
            "prompts": {"query": "a b "},
            "similarity_fn_name": "dot",
            "requirements": {"transformers": ">=5"},
        },
    )


class Kind(enum.Enum):
    EUCLIDEAN = "euclidean"


def test_they_set_what_the_folder_says_otherwise(folder):
    embedder = Embedder.from_pretrained(
        folder,
        device="cpu",
        prompts={"passage": "x ", "query": None},
        default_prompt_name="passage",
        truncate_dim=7,
        similarity_fn_name=Kind.EUCLIDEAN,
    )
    assert embedder.prompts == {"query": "a b ", "document": "", "passage": "x "}
    assert embedder.similarity_fn_name == "euclidean"
    plain = Embedder.from_pretrained(folder)
    expected = plain.encode(TEXTS, prompt="x ", truncate_dim=7)
    close(embedder.encode(sentences=TEXTS, precision=None), expected, COMPANY, norms)
    assert plain.similarity_fn_name == "dot"


def test_what_changes_nothing_is_said_in_the_log(folder, caplog):
    with caplog.at_level(logging.INFO, "jaxbert"):
        Embedder.from_pretrained(
            folder,
            trust_remote_code=True,
            model_kwargs={"attn_implementation": "sdpa", "torch_dtype": "auto"},
            tokenizer_kwargs={"use_fast": True},
            config_kwargs={},
            backend="torch",
        )
    for words in ("trust_remote_code=True changes", "model_kwargs has attn_implementation"):
        assert words in caplog.text
    assert "tokenizer_kwargs has use_fast" in caplog.text


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"device": "cuda"}, InputError, "device is 'cuda', but this process computes on cpu"),
        ({"device": "cpu:7"}, InputError, "this process has 2 devices"),
        ({"device": "cpu:x"}, InputError, "device is 'cpu:x'"),
        ({"device": 3}, InputError, "device is 3"),
        ({"device": "cpu", "devices": "here"}, InputError, "pass devices alone"),
        ({"cache_folder": 3}, InputTypeError, "cache_folder is a int"),
        ({"local_files_only": "yes"}, InputTypeError, "local_files_only is 'yes'"),
        ({"prompts": "a"}, InputTypeError, "prompts is a str"),
        ({"prompts": {"a": 3}}, InputTypeError, "the prompt 'a' is a int"),
        ({"default_prompt_name": "b"}, InputError, "default_prompt_name is 'b', but the prompts"),
        ({"truncate_dim": 99}, InputError, "truncate_dim is 99; it must be from 1 to 15"),
        ({"similarity_fn_name": "maxsim"}, InputError, "similarity_fn_name is 'maxsim'"),
        ({"trust_remote_code": 3}, InputTypeError, "trust_remote_code is 3"),
        ({"model_kwargs": {"torch_dtype": "float16"}}, InputError, 'pass dtype="bfloat16"'),
        ({"tokenizer_kwargs": {"model_max_length": 5}}, InputError, "set max_seq_length"),
        ({"config_kwargs": 3}, InputTypeError, "config_kwargs is a int"),
        ({"backend": "openvino"}, InputError, "backend is 'openvino'"),
        ({"nonsense": 1}, InputTypeError, "has no argument 'nonsense'"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_the_others_are_refused_in_one_sentence(folder, given, error, words):
    import jax

    if "devices" in given:
        given = given | {"devices": jax.local_devices()}
    with pytest.raises(error, match=words) as caught:
        Embedder.from_pretrained(folder, **given)
    assert "\n" not in str(caught.value)


def test_a_device_has_the_form_of_torch_too(folder):
    import jax

    device = SimpleNamespace(type="cpu", index=1)
    embedder = Embedder.from_pretrained(folder, device=device)
    assert embedder.engine.given_devices == (jax.local_devices()[1],)
    assert embedder.to(device).eval() is embedder
    close(embedder.encode(TEXTS, device=device), embedder.encode(TEXTS), COMPANY, norms)


def test_a_cache_of_ones_own_without_the_hub(tmp_path):
    with pytest.raises(ModelNotFoundError, match="local_files_only=True leaves the hub out") as own:
        Embedder.from_pretrained("some/model", cache_folder=tmp_path, local_files_only=True)
    assert str(tmp_path) in str(own.value)
    commit = "0" * 40
    folder = tmp_path / "models--some--model" / "snapshots" / commit
    write_folder(
        folder,
        sentence_bert_config={},
        config_sentence_transformers={},
        tokenizer_config={},
        modules=[
            {"idx": 0, "name": "0", "path": "", "type": f"{KIND}.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{KIND}.Pooling"},
        ],
        **{"1_Pooling__config": {"word_embedding_dimension": 15, "pooling_mode_mean_tokens": True}},
    )
    (tmp_path / "models--some--model" / "refs").mkdir()
    (tmp_path / "models--some--model" / "refs" / "main").write_text(commit)
    embedder = Embedder.from_pretrained("some/model", cache_folder=tmp_path, local_files_only=True)
    assert embedder.encode("a").shape == (15,)


def test_small_things(folder, tmp_path):
    embedder = Embedder.from_pretrained(folder)
    assert embedder.get_max_seq_length() == 17
    embedder.save(tmp_path / "saved")
    assert (tmp_path / "saved" / "modules.json").is_file()
    a, b = embedder.encode(TEXTS)
    score = embedder.similarity(a, b)
    assert score.shape == (1, 1)
    assert float(score) == score[0, 0]
    with pytest.raises(TypeError):
        float(embedder.similarity(a, [b, b]))
    with pytest.raises(InputTypeError, match="inputs and sentences were both given"):
        embedder.encode(TEXTS, sentences=TEXTS)
    with pytest.warns(PromptWarning, match="prompt is used"):
        found = embedder.encode(TEXTS, prompt="x ", prompt_name="query")
    close(found, embedder.encode(TEXTS, prompt="x "), COMPANY, norms)
    with pytest.raises(InputError, match="computes on cpu"):
        embedder.to("cuda")
