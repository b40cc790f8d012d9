"""Every public entry point with right arguments, one of them spoiled in many ways.

A program of its own, for conftest.py checks the types of all calls before the package does:
`python -m tests.entry_points NAME...` prints what was not refused with an error of the package.
"""

import asyncio
import contextlib
import copy
import functools
import io
import os
import sys
import tempfile
import warnings
from decimal import Decimal
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxbert
from jaxbert import (
    AsyncCrossEncoder,
    AsyncEmbedder,
    CrossEncoder,
    Embedder,
    Encoder,
    EncoderConfig,
    JaxbertError,
    MaskedLM,
    MultiVectorEncoder,
)
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.inference.planning import ByText
from jaxbert.text.tokenizer import Tokenizer
from tests.models import (
    CONFIGS,
    SIZES,
    encoder,
    masked,
    scored,
    word_tokenizer,
    write_folder,
    write_late,
)


class Odd:
    """An object that answers nothing that it is asked."""

    def __repr__(self):
        raise RuntimeError("no repr")


class OddArray:
    """What says that it is an array, and is none."""

    shape, dtype, ndim = (3,), "float32", 1

    def __array__(self, *arguments, **more):
        raise RuntimeError("no array")


def looped():
    """A list that holds itself."""
    one = []
    one.append(one)
    return one


# The most tokens of a text: a warm-up without a length compiles what such texts need. The planner
# of the queues has one shape for all of these, where the usual one has dozens.
LENGTH = 7
ONE_SHAPE = ByText()

# Values of every kind that might be passed by mistake; none is a right value of anything that the
# calls below take, unless the call is one that takes it.
BROKEN = {
    "None": None,
    "True": True,
    "0": 0,
    "-1": -1,
    "3": 3,
    "huge": 10**400,
    "2**63": 2**63,
    "0.5": 0.5,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "complex": 1j,
    "decimal": Decimal("NaN"),
    "fraction": Fraction(1, 3),
    "empty text": "",
    "text": "some text",
    "surrogate": "\ud800",
    "NUL": "a\0b",
    "long": "x" * 5000,
    "bytes": b"a",
    "bytearray": bytearray(b"a"),
    "memoryview": memoryview(b"abc"),
    "empty list": [],
    "numbers": [1, 2, 3],
    "floats": [[0.5, 0.25]],
    "ragged": [[1, 2], [3]],
    "nested": [[[[1]]]],
    "Nones": [None, None],
    "mixed": ["a", 3],
    "surrogates": ["a", "\udfff"],
    "numbers as text": [["1", "2"]],
    "looped": looped(),
    "dict": {},
    "items": {"a": 1},
    "keys": {1: "a", None: "b"},
    "set": {1, 2},
    "object": object(),
    "odd": Odd(),
    "odd array": OddArray(),
    "class": int,
    "function": len,
    "lambda": lambda *more: None,
    "range": range(3),
    "scalar": np.float32(3),
    "no axes": np.array(3),
    "int8": np.zeros((2, 3), np.int8),
    "empty array": np.zeros((0, 0)),
    "no rows": np.zeros((0, 3), np.float32),
    "no tokens": np.zeros((2, 0), np.int32),
    "NaNs": np.full((2, 3), np.nan, np.float32),
    "infinities": np.full((2, 3), np.inf),
    "float16": np.full((2, 3), 6e4, np.float16),
    "float64": np.full((2, 3), 1e300),
    "complexes": np.ones((2, 3), np.complex64),
    "objects": np.array([[None, "a"], [object(), 3]], object),
    "texts": np.array([["a", "b"]]),
    "raw": np.array([b"a"]),
    "void": np.zeros(3, [("a", np.int32)]),
    "dates": np.array(["2020-01-01"], "datetime64[D]"),
    "large": np.full((2, 3), 2**40),
    "negative": np.full((2, 3), -7),
    "unsigned": np.full((2, 3), 2**63, np.uint64),
    "cube": np.ones((2, 3, 5), np.float32),
    "deep": np.ones((1,) * 7, np.int32),
    "masked": np.ma.array([[1, 2]], mask=[[0, 1]]),
    "bfloat16": jnp.ones((2, 3), jnp.bfloat16),
    "jax": jnp.ones((2, 3, 5)),
    "jax integers": jnp.full((2, 3), 10**6),
    "key": jax.random.key(0),
    "shape": jax.ShapeDtypeStruct((2, 3), jnp.float32),
    "rngs": nnx.Rngs(0),
    "config": CONFIGS["bert-gelu"],
    "path": os.sep + "nothing" + os.sep + "here",
}


def ids():
    return np.array([[2, 5, 3]], np.int32)


def vectors(n=3):
    return np.ones((n, 15), np.float32)


@functools.cache
def one():
    model = Embedder(encoder("jinabert-geglu"), Tokenizer(word_tokenizer(), "right"))
    model.max_seq_length = LENGTH
    return model


def embedder():
    """With settings of its own and the programs of all others."""
    return copy.copy(one())


@functools.cache
def filler():
    """A masked language model, of the folder that walk() writes."""
    return MaskedLM.from_pretrained("filler")


@functools.cache
def scorer():
    """A cross-encoder, of the folder that walk() writes."""
    return CrossEncoder.from_pretrained("scorer")


@functools.cache
def multi():
    """A late-interaction model, of the folder that walk() writes."""
    return MultiVectorEncoder.from_pretrained("late")


@functools.cache
def queue():
    """A queue of an embedder, whose threads end with the process."""
    model = Embedder(one().encoder, one().tokenizer, planner=ONE_SHAPE)
    model.max_seq_length = LENGTH
    return AsyncEmbedder(model)


@functools.cache
def pair_queue():
    """The same of a cross-encoder."""
    own = scorer()
    model = CrossEncoder(own.encoder, own.head, own.tokenizer, own.settings, ONE_SHAPE)
    model.max_seq_length = LENGTH
    return AsyncCrossEncoder(model)


def awaited(method):
    """A method that is awaited, as a function."""
    return lambda **given: asyncio.run(method(**given))


def opened(kind):
    """A class of queues, as a function that makes one and closes it."""
    return lambda **given: asyncio.run(kind(**given).close())


def token_arrays():
    return [np.ones((3, 7), np.float32)]


def attention():
    q = jnp.ones((1, 3, 5, 7))
    place = jnp.arange(5, dtype=jnp.int32)[None]
    return {"q": q, "k": q, "v": q, "bias": None, "positions": place, "segments": 0 * place + 1}


# By name: how to get the callable, and arguments that are right. One at a time is spoiled.
GIVEN = {"inputs": ["a b"]}
CALLS = {
    "EncoderConfig": (lambda: EncoderConfig, lambda: vars(CONFIGS["bert-gelu"])),
    "EncoderConfig.bert": (lambda: EncoderConfig.bert, lambda: dict(SIZES)),
    "EncoderConfig.jinabert": (lambda: EncoderConfig.jinabert, lambda: dict(SIZES)),
    "mean_pool": (
        lambda: jaxbert.mean_pool,
        lambda: {"hidden": np.ones((1, 3, 5), np.float32), "attention_mask": ids()},
    ),
    "attend": (lambda: jaxbert.attend, attention),
    "quantize_embeddings": (
        lambda: jaxbert.quantize_embeddings,
        lambda: {
            "embeddings": vectors(),
            "precision": "int8",
            "ranges": np.stack([-vectors(1)[0], vectors(1)[0]]),
            "calibration_embeddings": vectors(),
        },
    ),
    "Apart": (lambda: jaxbert.Apart, lambda: {"nice": 3}),
    "Ranges": (
        lambda: jaxbert.Ranges,
        lambda: {"low": np.zeros(3, np.float32), "high": np.ones(3, np.float32)},
    ),
    "Ranges.of": (lambda: jaxbert.Ranges.of, lambda: {"vectors": vectors()}),
    "Ranges.given": (lambda: jaxbert.Ranges.given, lambda: {"value": [[0.0], [1.0]]}),
    "Ranges.load": (lambda: jaxbert.Ranges.load, lambda: {"file": "nothing"}),
    "Ranges.save": (
        lambda: jaxbert.Ranges(np.zeros(3, np.float32), np.ones(3, np.float32)).save,
        lambda: {"file": "ranges"},
    ),
    "Encoder": (
        lambda: Encoder,
        lambda: {
            "config": CONFIGS["bert-gelu"],
            "rngs": nnx.Rngs(0),
            "position": None,
            "feed_forward": None,
            "attention": None,
            "components": None,
            "layers": None,
        },
    ),
    "Encoder.from_pretrained": (
        lambda: Encoder.from_pretrained,
        lambda: {
            "name": "model",
            "dtype": "float32",
            "revision": None,
            "ignore_config": (),
            "parts": None,
        },
    ),
    "Encoder.save_pretrained": (
        lambda: encoder("bert-gelu").save_pretrained,
        lambda: {"folder": "saved", "parts": None},
    ),
    "Encoder.__call__": (
        lambda: encoder("bert-gelu"),
        lambda: {
            "input_ids": ids(),
            "attention_mask": None,
            "token_type_ids": None,
            "segment_ids": None,
            "positions": None,
        },
    ),
    "Encoder.layer": (lambda: encoder("bert-gelu").layer, lambda: {"i": 0}),
    "Embedder": (
        lambda: Embedder,
        lambda: {
            "encoder": encoder("bert-gelu"),
            "tokenizer": Tokenizer(word_tokenizer(), "right"),
            "stack": Stack(),
            "engine": "jax",
        },
    ),
    "Embedder.from_pretrained": (
        lambda: Embedder.from_pretrained,
        lambda: {
            "name": "model",
            "deterministic": False,
            "dtype": "float32",
            "attention": None,
            "revision": None,
            "token": None,
            "ignore_config": (),
            "parts": None,
            "engine": "jax",
            "device": "cpu",
            "cache_folder": None,
            "local_files_only": True,
            "prompts": None,
            "default_prompt_name": None,
            "truncate_dim": None,
            "similarity_fn_name": None,
            "trust_remote_code": False,
            "model_kwargs": None,
            "tokenizer_kwargs": None,
            "processor_kwargs": None,
            "config_kwargs": None,
            "backend": "torch",
        },
    ),
    "Embedder.to": (lambda: embedder().to, lambda: {"device": "cpu"}),
    "Embedder.save": (lambda: embedder().save, lambda: {"folder": "saved"}),
    "Embedder.encode": (
        lambda: embedder().encode,
        lambda: {
            **GIVEN,
            "prompt_name": None,
            "prompt": None,
            "batch_size": None,
            "show_progress_bar": None,
            "output_value": "sentence_embedding",
            "precision": "float32",
            "convert_to_numpy": True,
            "convert_to_tensor": False,
            "device": None,
            "normalize_embeddings": False,
            "truncate_dim": None,
            "pool": None,
            "chunk_size": None,
            "max_length": None,
            "on_long": "truncate",
            "ranges": None,
            "sentences": None,
        },
    ),
    "Embedder.encode_query": (lambda: embedder().encode_query, lambda: {**GIVEN, "prompt": None}),
    "Embedder.encode_document": (
        lambda: embedder().encode_document,
        lambda: {**GIVEN, "prompt": None},
    ),
    "Embedder.encode_tokens": (
        lambda: embedder().encode_tokens,
        lambda: {**GIVEN, "prompt": None, "max_length": None, "on_long": "truncate"},
    ),
    "Embedder.encode_chunks": (
        lambda: embedder().encode_chunks,
        lambda: {
            **GIVEN,
            "chunks": [[(0, 1)]],
            "prompt": None,
            "overlap": 3,
            "max_length": None,
            "normalize_embeddings": False,
            "truncate_dim": None,
            "precision": "float32",
            "ranges": None,
        },
    ),
    "Embedder.warmup": (lambda: embedder().warmup, lambda: {"max_length": 3}),
    "Embedder.save_pretrained": (
        lambda: embedder().save_pretrained,
        lambda: {"folder": "saved", "parts": None},
    ),
    "Embedder.similarity": (
        lambda: embedder().similarity,
        lambda: {"a": vectors(), "b": vectors()},
    ),
    "Embedder.similarity_pairwise": (
        lambda: embedder().similarity_pairwise,
        lambda: {"a": vectors(), "b": vectors()},
    ),
    "Embedder.chunker": (lambda: embedder().chunker, lambda: {"tokens": 3}),
    "Embedder.chunker()": (lambda: embedder().chunker(3), lambda: {"text": "a b"}),
    "Embedder.count_tokens": (
        lambda: embedder().count_tokens,
        lambda: {**GIVEN, "prompt_name": None, "prompt": None},
    ),
    "Embedder.prompt": (lambda: embedder().prompt, lambda: {"name": None, "text": None}),
    "Embedder.set_pooling_include_prompt": (
        lambda: embedder().set_pooling_include_prompt,
        lambda: {"include_prompt": True},
    ),
}
PREDICT = {
    "prompt_name": None,
    "prompt": None,
    "batch_size": None,
    "show_progress_bar": None,
    "activation_fn": None,
    "max_length": None,
}
CALLS |= {
    "CrossEncoder": (
        lambda: CrossEncoder,
        lambda: {
            "encoder": scorer().encoder,
            "head": scorer().head,
            "tokenizer": scorer().tokenizer,
            "settings": scorer().settings,
            "left_aside": (),
        },
    ),
    "CrossEncoder.save_pretrained": (
        lambda: scorer().save_pretrained,
        lambda: {"folder": "saved scorer"},
    ),
    "CrossEncoder.save": (lambda: scorer().save, lambda: {"folder": "saved scorer"}),
    "CrossEncoder.from_pretrained": (
        lambda: CrossEncoder.from_pretrained,
        lambda: {
            "name": "scorer",
            "deterministic": False,
            "dtype": "float32",
            "attention": None,
            "revision": None,
            "token": None,
            "ignore_config": (),
            "devices": None,
            "engine": "jax",
        },
    ),
    "CrossEncoder.logits": (
        lambda: scorer().logits,
        lambda: {"input_ids": ids(), "attention_mask": None, "token_type_ids": None},
    ),
    "CrossEncoder.predict": (
        lambda: scorer().predict,
        lambda: (
            {
                "inputs": [("a", "b")],
                "apply_softmax": False,
                "convert_to_numpy": True,
                "convert_to_tensor": False,
                "device": None,
                "pool": None,
                "chunk_size": None,
            }
            | PREDICT
        ),
    ),
    "CrossEncoder.rank": (
        lambda: scorer().rank,
        lambda: (
            {"query": "a", "documents": ["b"], "top_k": None, "return_documents": False} | PREDICT
        ),
    ),
}
CALLS |= {
    "MaskedLM": (
        lambda: MaskedLM,
        lambda: {
            "encoder": filler().encoder,
            "head": filler().head,
            "tokenizer": filler().tokenizer,
            "mask_token": "[MASK]",
            "max_length": None,
            "left_aside": (),
        },
    ),
    "MaskedLM.save_pretrained": (
        lambda: filler().save_pretrained,
        lambda: {"folder": "saved filler"},
    ),
    "MaskedLM.save": (lambda: filler().save, lambda: {"folder": "saved filler"}),
    "MaskedLM.from_pretrained": (
        lambda: MaskedLM.from_pretrained,
        lambda: {
            "name": "filler",
            "dtype": "float32",
            "attention": None,
            "revision": None,
            "token": None,
            "ignore_config": (),
        },
    ),
    "MaskedLM.logits": (
        lambda: filler().logits,
        lambda: {"input_ids": ids(), "attention_mask": None, "token_type_ids": None},
    ),
    "MaskedLM.fill": (lambda: filler().fill, lambda: {"texts": "a [MASK] b", "top_k": 3}),
}
SERVED = {"max_wait": 3.0, "timeout": 3.0, "long": 3, "listener": None, "apart": None}
ASKED = {"prompt_name": None, "prompt": None, "max_length": None}
CALLS |= {
    "AsyncEmbedder": (lambda: opened(AsyncEmbedder), lambda: {"embedder": embedder()} | SERVED),
    "AsyncEmbedder.encode": (
        lambda: awaited(queue().encode),
        lambda: {"texts": ["a b"], **ASKED, "on_long": "truncate", "side": "end"},
    ),
    "AsyncEmbedder.encode_tokens": (
        lambda: awaited(queue().encode_tokens),
        lambda: {"texts": ["a b"], **ASKED, "on_long": "truncate", "side": "end"},
    ),
    "AsyncEmbedder.encode_ids": (
        lambda: awaited(queue().encode_ids),
        lambda: {"ids": [[2, 5, 3]]},
    ),
    "AsyncEmbedder.encode_chunks": (
        lambda: awaited(queue().encode_chunks),
        lambda: {"parts": ["a ", "b"], **ASKED},
    ),
    "AsyncEmbedder.warmup": (
        lambda: awaited(queue().warmup),
        lambda: {"max_length": 3, "states": False},
    ),
    "AsyncCrossEncoder": (
        lambda: opened(AsyncCrossEncoder),
        lambda: {"cross_encoder": scorer()} | SERVED,
    ),
    "AsyncCrossEncoder.rerank": (
        lambda: awaited(pair_queue().rerank),
        lambda: {
            "query": "a",
            "documents": ["b"],
            **ASKED,
            "on_long": "truncate",
            "activation_fn": None,
        },
    ),
    "AsyncCrossEncoder.warmup": (
        lambda: awaited(pair_queue().warmup),
        lambda: {"max_length": 3},
    ),
}
TOKENS = {
    **GIVEN,
    "prompt_name": None,
    "prompt": None,
    "batch_size": None,
    "show_progress_bar": None,
    "output_value": "token_embeddings",
    "convert_to_numpy": True,
    "device": None,
    "normalize_embeddings": True,
    "pool": None,
    "chunk_size": None,
    "token_pooling": None,
    "truncate_dim": None,
    "precision": "float32",
}
CALLS |= {
    "MultiVectorEncoder": (
        lambda: MultiVectorEncoder,
        lambda: {
            "encoder": multi().encoder,
            "head": multi().head,
            "tokenizer": multi().tokenizer,
            "settings": multi().settings,
        },
    ),
    "MultiVectorEncoder.from_pretrained": (
        lambda: MultiVectorEncoder.from_pretrained,
        lambda: {
            "name": "late",
            "deterministic": False,
            "dtype": "float32",
            "attention": None,
            "revision": None,
            "token": None,
            "ignore_config": (),
            "devices": None,
            "engine": "jax",
        },
    ),
    "MultiVectorEncoder.encode": (lambda: multi().encode, lambda: TOKENS | {"task": "query"}),
    "MultiVectorEncoder.encode_query": (lambda: multi().encode_query, lambda: TOKENS),
    "MultiVectorEncoder.encode_document": (lambda: multi().encode_document, lambda: TOKENS),
    "MultiVectorEncoder.similarity": (
        lambda: multi().similarity,
        lambda: {"queries": token_arrays(), "documents": token_arrays()},
    ),
    "MultiVectorEncoder.similarity_pairwise": (
        lambda: multi().similarity_pairwise,
        lambda: {"queries": token_arrays(), "documents": token_arrays()},
    ),
    "MultiVectorEncoder.rank": (
        lambda: multi().rank,
        lambda: {
            "query": "a",
            "documents": ["b"],
            "top_k": None,
            "return_documents": False,
            "batch_size": None,
            "show_progress_bar": None,
        },
    ),
}
CALLS |= {
    f"MultiVectorEncoder.{name} =": (
        lambda name=name: functools.partial(assign, multi(), name),
        lambda value=value: {"value": value},
    )
    for name, value in {
        "query_length": 11,
        "document_length": 13,
        "similarity_fn_name": "maxsim",
    }.items()
}
CALLS |= {
    f"Encoder.{name}": (
        lambda name=name: getattr(encoder("bert-gelu"), name),
        lambda: {"input_ids": ids(), "attention_mask": None, "token_type_ids": None},
    )
    for name in ("hidden_states", "attentions")
}
SETTINGS = {
    "max_seq_length": 11,
    "truncate_dim": 7,
    "similarity_fn_name": "dot",
    "prompts": {"query": "a "},
    "default_prompt_name": None,
}
CALLS |= {
    f"Embedder.{name} =": (
        lambda name=name: functools.partial(assign, embedder(), name),
        lambda value=value: {"value": value},
    )
    for name, value in SETTINGS.items()
}
CALLS["CrossEncoder.max_seq_length ="] = (
    lambda: functools.partial(assign, scorer(), "max_seq_length"),
    lambda: {"value": 11},
)
MODEL = ["--model", "model"]
COMMANDS = {
    "embed": ["embed", "texts.txt", "-o", "out.npy", *MODEL, "--batch-size", "3", "--quiet"],
    "similarity": ["similarity", "a", "b", *MODEL, "--ignore-config", "key", "--dtype", "float32"],
    "rank": ["rank", "a", "texts.txt", "--top-k", "3", "--model", "scorer"],
    "fill": ["fill", "a [MASK] b", "--top-k", "3", "--model", "filler"],
    "info": ["info", "model", "--revision", "main"],
    "verify": ["verify", "model", "--attention", "dense", "--engine", "jax"],
    "status": ["status", "out.npy"],
    "bench": [
        *("bench", "model", "--seconds", "0.01", "--texts", "texts.txt", "--picture", "x.png"),
        *("--json", "x.json"),
    ],
    "search": ["search", "a", "out.npy", "--model", "model", "--top-k", "3"],
    "lab extrapolate": ["lab", "extrapolate", "--scheme", "none", "--texts", "a.txt", "-o", "x"],
    "lab check": ["lab", "check", "mine.py:Scheme", "--heads", "2", "--width", "8"],
    # The one text is too short to be masked, so that nothing is trained.
    "train": [
        *("train", "mlm", "--base", "filler", "--texts", "texts.txt", "-o", "trained"),
        *("--steps", "3", "--batch", "1", "--length", "9", "--layers", "0,1", "--rate", "0.1"),
    ],
}
CALLS |= {
    f"jaxbert {name}": (
        lambda: command,
        lambda arguments=arguments: dict(enumerate(arguments)),
    )
    for name, arguments in COMMANDS.items()
}
FILES = {
    "texts.txt": "a b\n",
    "mine.py": "from jaxbert import Position\nclass Scheme(Position):\n    pass\n",
}
# A function of the user's own raises what it likes, and these are functions to our calls.
OWN = {("Embedder.encode_chunks", "chunks"), ("Encoder", "feed_forward")}


def assign(thing, name, value):
    """Set a property."""
    setattr(thing, name, value)


def command(arguments):
    """The command with these arguments; to end with a status is as good as to return it."""
    from jaxbert.cli import main

    with contextlib.suppress(SystemExit):
        main([arguments[i] for i in sorted(arguments)])


def spoiled(name):
    """(what is wrong, a call with it) of an entry point, one argument at a time."""
    get, right = CALLS[name]
    for argument, (title, value) in (
        (argument, broken) for argument in right() for broken in BROKEN.items()
    ):
        arguments = {**right(), argument: value}
        if name.startswith("jaxbert "):
            if isinstance(value, str):
                yield f"argument {argument}: {title}", functools.partial(command, arguments)
        elif not (callable(value) and (name, argument) in OWN):
            yield f"{argument}: {title}", lambda get=get, given=arguments: get()(**given)


def faults(name):
    """What came back that is no error of the package, and no answer."""
    for wrong, call in spoiled(name):
        heard = io.StringIO()
        try:
            with contextlib.redirect_stdout(heard), contextlib.redirect_stderr(heard):
                call()
        except JaxbertError:
            pass
        except BaseException as error:
            yield f"{name}, {wrong}: {type(error).__name__}"
        if "Traceback" in heard.getvalue():
            yield f"{name}, {wrong}: a traceback"


def walk(names):
    """Print the faults of some entry points."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_folder("model")
        write_folder("filler", tensors=masked())
        write_folder("scorer", tensors=scored())
        write_late("late")
        for name, text in FILES.items():
            with open(name, "w") as file:
                file.write(text)
        for name in names:
            for fault in faults(name):
                sys.stdout.write(f"{fault}\n")
            sys.stdout.write(f"done {name}\n")
            sys.stdout.flush()
        os.chdir("/")


if __name__ == "__main__":
    walk(sys.argv[1:] or CALLS)
