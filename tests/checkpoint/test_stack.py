"""Sentence-transformers folders, old and new: what is read, and what is refused."""

import json
import math
import re

import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxbert.checkpoint.sentence_transformers.pooling import MODES
from jaxbert.checkpoint.sentence_transformers.requirements import READ_AS, RequirementError
from jaxbert.checkpoint.sentence_transformers.stack import Stack, read_stack
from jaxbert.embedder import Embedder
from jaxbert.errors import CheckpointError
from jaxbert.model.head import Dense, Normalize, Pooling
from tests.models import CONFIGS, write_folder
from tests.tolerances import COMPANY, FUNCTION, close, norms

CONFIG = CONFIGS["bert-gelu"]

OLD = "sentence_transformers.models."
NEW = {
    "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
    "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "Dense": "sentence_transformers.base.modules.dense.Dense",
    "Normalize": "sentence_transformers.base.modules.normalize.Normalize",
}


def listed(*kinds, names=None):
    """A modules.json."""
    return [
        {
            "idx": i,
            "name": str(i),
            "path": "" if i == 0 else f"{i}_{kind}",
            "type": names[kind] if names else OLD + kind,
        }
        for i, kind in enumerate(kinds)
    ]


def old_pooling(*modes):
    """Flags as they were written before version 6."""
    flags = {
        "pooling_mode_cls_token": "cls",
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_max_tokens": "max",
        "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
        "pooling_mode_weightedmean_tokens": "weightedmean",
        "pooling_mode_lasttoken": "lasttoken",
    }
    return {"word_embedding_dimension": 15} | {key: mode in modes for key, mode in flags.items()}


def read(tmp_path, **files):
    return read_stack(write_folder(tmp_path, **files), CONFIG)


def test_without_modules_json_it_is_the_plain_mean(tmp_path):
    stack = read(tmp_path)
    assert stack == Stack(max_length=19)
    assert stack.pooling == Pooling(("mean",), include_prompt=True)
    assert stack.after == ()


@pytest.mark.parametrize("names", [None, NEW], ids=["old names", "new names"])
def test_class_names(names, tmp_path):
    modules = listed("Transformer", "Pooling", "Normalize", names=names)
    pooling = {"1_Pooling__config": {"pooling_mode": "mean"}}
    stack = read(tmp_path, modules=modules, **pooling)  # the folder 2_Normalize is absent
    assert stack.after == (Normalize(),)


@pytest.mark.parametrize("mode", MODES)
def test_each_pooling_mode_old_and_new(mode, tmp_path):
    modules = listed("Transformer", "Pooling")
    old = read(tmp_path / "old", modules=modules, **{"1_Pooling__config": old_pooling(mode)})
    new = read(
        tmp_path / "new",
        modules=modules,
        **{"1_Pooling__config": {"embedding_dimension": 15, "pooling_mode": mode}},
    )
    assert old.pooling.modes == new.pooling.modes == (mode,)


CONCATENATED = {
    "old flags in their own order": (
        old_pooling("weightedmean", "mean", "cls"),
        ("cls", "mean", "weightedmean"),
    ),
    "a list keeps its order": ({"pooling_mode": ["mean", "cls"]}, ("mean", "cls")),
    "new wins over old": (old_pooling("cls") | {"pooling_mode": "max"}, ("max",)),
    "no flag at all": (old_pooling(), ("mean",)),
}


@pytest.mark.parametrize("case", CONCATENATED)
def test_several_modes(case, tmp_path):
    raw, modes = CONCATENATED[case]
    modules = listed("Transformer", "Pooling")
    folder = write_folder(tmp_path, modules=modules, **{"1_Pooling__config": raw})
    assert read_stack(folder, CONFIG).pooling.modes == modes
    embedder = Embedder.from_pretrained(folder)
    assert embedder.encode("a b").shape == (15 * len(modes),)
    assert embedder.get_embedding_dimension() == 15 * len(modes)


def dense_folder(tmp_path, bias=True, activation="torch.nn.modules.activation.Tanh", **raw):
    """A folder with a Dense module 15 -> 7, and the weights of the module."""
    config = {"in_features": 15, "out_features": 7, "bias": bias} | raw
    folder = write_folder(
        tmp_path,
        modules=listed("Transformer", "Pooling", "Dense", "Normalize"),
        **{
            "1_Pooling__config": {"pooling_mode": "mean"},
            "2_Dense__config": config | {"activation_function": activation},
        },
    )
    random = np.random.default_rng(0)
    tensors = {"linear.weight": random.normal(size=(7, 15)).astype(np.float32)}
    if bias:
        tensors["linear.bias"] = random.normal(size=7).astype(np.float32)
    save_file(tensors, folder / "2_Dense" / "model.safetensors")
    return folder, tensors


@pytest.mark.parametrize("bias", [True, False])
def test_dense(bias, tmp_path):
    folder, tensors = dense_folder(tmp_path, bias)
    dense, normalize = read_stack(folder, CONFIG).after
    assert isinstance(dense, Dense)
    assert isinstance(normalize, Normalize)
    np.testing.assert_array_equal(dense.weight, tensors["linear.weight"])
    assert (dense.bias is None) == (not bias)
    vector = Embedder.from_pretrained(folder).encode("a b c")
    assert vector.shape == (7,)
    close(norms(vector), 1.0, FUNCTION)


LENGTHS = {
    "max_seq_length": ({"sentence_bert_config": {"max_seq_length": 13}}, 13),
    "as many as positions": ({"sentence_bert_config": {"max_seq_length": 19}}, 19),
    "null: the tokenizer's": (
        {
            "sentence_bert_config": {"max_seq_length": None},
            "tokenizer_config": {"model_max_length": 11},
        },
        11,
    ),
    "the config's": ({"tokenizer_config": {"model_max_length": 10**30}}, 19),
    "an old name": ({"sentence_roberta_config": {"max_seq_length": 7}}, 7),
    "version 6 has it in the tokenizer": (
        {
            "sentence_bert_config": {
                "transformer_task": "feature-extraction",
                "modality_config": {
                    "text": {"method": "forward", "method_output_name": "last_hidden_state"}
                },
                "module_output_name": "token_embeddings",
            },
            "tokenizer_config": {"model_max_length": 17},
        },
        17,
    ),
}


@pytest.mark.parametrize("case", LENGTHS)
def test_maximum_length(case, tmp_path):
    files, expected = LENGTHS[case]
    assert read(tmp_path, **files).max_length == expected


def test_settings(tmp_path):
    stack = read(
        tmp_path,
        config_sentence_transformers={
            "__version__": {"sentence_transformers": "5.0.0"},
            "prompts": {"query": "q: ", "code": "c: "},
            "default_prompt_name": "code",
            "similarity_fn_name": "dot",
            "truncate_dim": 5,
            "model_type": "SentenceTransformer",
        },
        sentence_bert_config={"max_seq_length": 9, "do_lower_case": True},
    )
    assert stack.prompts == {"query": "q: ", "document": "", "code": "c: "}
    assert (stack.default_prompt_name, stack.similarity) == ("code", "dot")
    assert (stack.truncate_dim, stack.lower_case) == (5, True)


MODULES = listed("Transformer", "Pooling")
REFUSED = {
    "code of its own": (
        {"modules": [MODULES[0], MODULES[1] | {"type": "my.own.Pooling"}]},
        "'my.own.Pooling', which is code of its own",
    ),
    "a transformer of its own": (
        {"modules": [MODULES[0] | {"type": "custom_st.Transformer"}, MODULES[1]]},
        "custom_st.Transformer",
    ),
    "type is a number": ({"modules": [MODULES[0] | {"type": 3}, MODULES[1]]}, "type = 3"),
    "mode is a number": (
        {"modules": MODULES, "1_Pooling__config": {"pooling_mode": 3}},
        "pooling_mode = 3",
    ),
    "mode is an object": (
        {"modules": MODULES, "1_Pooling__config": {"pooling_mode": {"cls": 1}}},
        "pooling_mode = ",
    ),
    "flag is a text": (
        {"modules": MODULES, "1_Pooling__config": {"pooling_mode_cls_token": "false"}},
        "pooling_mode_cls_token = 'false'",
    ),
    "include_prompt is a text": (
        {"modules": MODULES, "1_Pooling__config": {"include_prompt": "false"}},
        "include_prompt = 'false'",
    ),
    "zero is not false": ({"sentence_bert_config": {"frobnicate": 0}}, "frobnicate = 0"),
    "prompts are a list": ({"config_sentence_transformers": {"prompts": ["a"]}}, "prompts = "),
    "prompt is a number": (
        {"config_sentence_transformers": {"prompts": {"query": 3}}},
        "query = 3",
    ),
    "truncate_dim is a text": (
        {"config_sentence_transformers": {"truncate_dim": "5"}},
        "truncate_dim = '5'",
    ),
    "lower case is a text": (
        {"sentence_bert_config": {"do_lower_case": "false"}},
        "do_lower_case = 'false'",
    ),
    "modality is a text": ({"sentence_bert_config": {"modality_config": "x"}}, "modality_config"),
    "unknown module": (
        {"modules": listed("Transformer", "Pooling", "CNN"), "1_Pooling__config": {}},
        "type CNN",
    ),
    "no pooling": ({"modules": listed("Transformer", "Dense")}, "lists Transformer, Dense"),
    "pooling twice": (
        {"modules": listed("Transformer", "Pooling", "Pooling")},
        "lists Transformer, Pooling, Pooling",
    ),
    "empty": ({"modules": []}, "lists nothing"),
    "no list": ({"modules": {"a": 1}}, "no list of modules"),
    "kwargs": ({"modules": [MODULES[0] | {"kwargs": ["task"]}, MODULES[1]]}, "kwargs"),
    "outside": ({"modules": [MODULES[0], MODULES[1] | {"path": "../x"}]}, "outside the folder"),
    "no pooling file": ({"modules": MODULES}, "1_Pooling/config.json is missing"),
    "null": (
        {"modules": MODULES, "1_Pooling__config": {"pooling_mode": None}},
        "mode = None",
    ),
    "mode": ({"modules": MODULES, "1_Pooling__config": {"pooling_mode": "median"}}, "'median'"),
    "pooling key": ({"modules": MODULES, "1_Pooling__config": {"weights": 3}}, "weights = 3"),
    "similarity": ({"config_sentence_transformers": {"similarity_fn_name": "maxsim"}}, "maxsim"),
    "model type": ({"config_sentence_transformers": {"model_type": "CrossEncoder"}}, "CrossEnc"),
    "prompt": ({"config_sentence_transformers": {"default_prompt_name": "x"}}, "no such prompt"),
    "transformer key": ({"sentence_bert_config": {"scale": 2}}, "scale = 2"),
    "more than the positions": (
        {"sentence_bert_config": {"max_seq_length": 20}},
        r'max_seq_length = 20, but the model has 19 positions.*ignore_config=\("max_seq_length",\)',
    ),
    "length is no number": ({"sentence_bert_config": {"max_seq_length": math.nan}}, "= nan"),
    "length is infinite": ({"sentence_bert_config": {"max_seq_length": math.inf}}, "= inf"),
    "length is a truth": ({"sentence_bert_config": {"max_seq_length": True}}, "= True"),
    "length is a part": ({"sentence_bert_config": {"max_seq_length": 7.5}}, "length 7.5"),
    "length is huge": ({"sentence_bert_config": {"max_seq_length": 10**30}}, "maximum length 1000"),
    "length of 64 bits": ({"sentence_bert_config": {"max_seq_length": 2**64}}, "maximum length 18"),
    "the tokenizer's is none": ({"tokenizer_config": {"model_max_length": math.nan}}, "= nan"),
    "truncate_dim 0": ({"config_sentence_transformers": {"truncate_dim": 0}}, "it must be 1 to 15"),
    "truncate_dim -3": ({"config_sentence_transformers": {"truncate_dim": -3}}, "must be 1 to 15"),
    "truncate_dim 16": ({"config_sentence_transformers": {"truncate_dim": 16}}, "have 15 features"),
    "length": ({"sentence_bert_config": {"max_seq_length": 0}}, "maximum length 0"),
    "task": ({"sentence_bert_config": {"transformer_task": "fill-mask"}}, "fill-mask"),
    "arguments": ({"sentence_bert_config": {"model_args": {"x": 1}}}, "model_args"),
    "normalize": (
        {
            "modules": listed("Transformer", "Pooling", "Normalize"),
            "1_Pooling__config": {},
            "2_Normalize__config": {"module_input_name": "token_embeddings"},
        },
        "module_input_name",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses(case, tmp_path):
    files, sentence = REFUSED[case]
    with pytest.raises(CheckpointError, match=sentence):
        read(tmp_path, **files)


def test_the_file_of_the_published_jina_models(tmp_path):
    """99 bytes: permission to run remote code is no reason to refuse, and none to run any."""
    folder = write_folder(tmp_path)
    text = (
        '{\n  "max_seq_length": 8192,\n  "do_lower_case": false,\n'
        '  "model_args": {"trust_remote_code": true}\n}'
    )
    (folder / "sentence_bert_config.json").write_text(text)
    assert read_stack(folder, CONFIGS["jinabert-geglu"]).max_length == 8192


def test_keys_may_be_passed_over_by_name(tmp_path):
    folder = write_folder(tmp_path, sentence_bert_config={"scale": 2})
    assert read_stack(folder, CONFIG, ("scale",)) == Stack(max_length=19)


def test_a_length_beyond_the_positions_may_be_passed_over(tmp_path):
    folder = write_folder(tmp_path, sentence_bert_config={"max_seq_length": 20})
    assert read_stack(folder, CONFIG, ("max_seq_length",)).max_length == 19


def test_keys_that_sentence_transformers_passes_over_are_taken_and_named(tmp_path):
    settings = {"scale": 2, "prompts": {"query": "q: "}, "nothing": [], "requirements": {"x": "1"}}
    stack = read(tmp_path, config_sentence_transformers=settings)
    assert stack.prompts["query"] == "q: "
    assert stack.not_used == ("scale = 2", "requirements = {'x': '1'}")


@pytest.mark.parametrize(
    "package", ["Transformers", "sentence_transformers", "sentence.transformers"]
)
@pytest.mark.parametrize("reason", [None, "words"])
def test_a_folder_for_later_versions_is_refused(package, reason, tmp_path):
    version = READ_AS[re.sub("[_.]", "-", package.lower())]

    def settings(wanted):
        value = wanted if reason is None else {"specifier": wanted, "reason": reason}
        return {"requirements": {"x": ">=999", package: value}}

    excluded = (f"!={version}", f">=2,!={version[0]}.*", "===one")
    for later in (">=999", f">{version}", ">=2,~=99.1", "==99.*", ">=7.0rc1", *excluded):
        folder = write_folder(tmp_path, config_sentence_transformers=settings(later))
        with pytest.raises(RequirementError, match=f"requires {package}{re.escape(later)}, but"):
            read_stack(folder, CONFIG)
        assert read_stack(folder, CONFIG, ("requirements",)) == Stack(max_length=19)
    assert issubclass(RequirementError, CheckpointError)
    assert issubclass(RequirementError, ImportError)  # as sentence-transformers raises it
    no_specifiers = ("newest", 3, None, [">=999"])
    for known in (">=2,<3", f"=={version}", "!=1.7,<=3", "~=4.1", "===4.1", "", *no_specifiers):
        assert read(tmp_path, config_sentence_transformers=settings(known)) == Stack(
            max_length=19, not_used=(f"requirements = {settings(known)['requirements']}",)
        )


def test_refuses_dense_modules_it_cannot_compute(tmp_path):
    folder, _ = dense_folder(tmp_path / "a", activation="my.own.Thing")
    with pytest.raises(CheckpointError, match=r"'my\.own\.Thing'"):
        read_stack(folder, CONFIG)
    folder, _ = dense_folder(tmp_path / "b", use_residual=True)
    with pytest.raises(CheckpointError, match="use_residual"):
        read_stack(folder, CONFIG)
    folder, tensors = dense_folder(tmp_path / "c")
    file = folder / "2_Dense" / "model.safetensors"
    save_file(tensors | {"linear.bias": np.full(7, np.nan, np.float32)}, file)
    with pytest.raises(CheckpointError, match="NaN"):
        read_stack(folder, CONFIG)
    save_file({"linear.weight": tensors["linear.weight"]}, file)
    with pytest.raises(CheckpointError, match="does not hold"):
        read_stack(folder, CONFIG)
    save_file(tensors | {"linear.bias": np.ones(7, np.int8)}, file)
    with pytest.raises(CheckpointError, match="as I8"):
        read_stack(folder, CONFIG)
    file.unlink()
    with pytest.raises(CheckpointError, match=r"no model\.safetensors"):
        read_stack(folder, CONFIG)


def test_refuses_a_dense_module_of_another_width(tmp_path):
    folder, _ = dense_folder(tmp_path)
    wide = {"pooling_mode": ["mean", "cls"]}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(wide))
    with pytest.raises(CheckpointError, match=r"takes 15 features, but the vectors .* 30"):
        read_stack(folder, CONFIG)


def test_a_transformer_in_a_folder_of_its_own(tmp_path):
    inner = write_folder(tmp_path / "0_Transformer")
    modules = listed("Transformer", "Pooling")
    modules[0]["path"] = "0_Transformer"
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(old_pooling("cls")))
    embedder = Embedder.from_pretrained(tmp_path)
    assert embedder.stack.pooling.modes == ("cls",)
    first = np.asarray(Embedder.from_pretrained(inner).encoder([[2, 5, 3]]))[0, 0]
    close(embedder.encode("a"), first, COMPANY, norms)
