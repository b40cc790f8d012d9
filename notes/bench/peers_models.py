"""The engines of peers.py, each in a process of its own, and the ONNX graph that two of them run.

Heavy imports stand inside the classes: a process loads the libraries of its own engine only.
"""

import functools
import itertools
import os
import time
import traceback
from importlib import metadata
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
WIDTH, LAYERS = 384, 6
SHAPES = ((4096, 384, 1536), (512, 384, 1536))  # the products of the roof
BUDGETS = (1024, 2048, 4096, 8192)  # tokens of a batch, padding included
PACKAGES = (
    "jax jaxlib flax jaxbert torch transformers sentence-transformers onnx onnxruntime openvino"
    " tokenizers numpy"
).split()
HINTS = ("LATENCY", "THROUGHPUT")
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def cores():
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def machine():
    """The processor as the kernel names it."""
    lines = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
    known = {key.strip(): value.strip() for key, _, value in lines}
    named = {key: known.get(key) for key in ("model name", "cpu family", "model")}
    return named | {"cores": cores()}


def versions():
    """What the engines and the libraries below them are."""
    return {name: metadata.version(name) for name in PACKAGES}


# --- the graph -----------------------------------------------------------------------------------


def graphs(folder):
    """Two files: the encoder with pooling and unit length as ONNX, and its fused form.

    They are made once for each pair of versions, in build/bench.
    """
    into = ROOT / "build" / "bench"
    into.mkdir(parents=True, exist_ok=True)
    name = f"torch-{metadata.version('torch')}-onnxruntime-{metadata.version('onnxruntime')}"
    plain, fused = into / f"{name}.onnx", into / f"{name}-fused.onnx"
    if not plain.is_file():
        complete(plain, lambda path: export(folder, path))
    if not fused.is_file():
        complete(fused, lambda path: fuse(plain, path))
    return plain, fused


def complete(path, write):
    """Write beside the path first, so that an interrupted run leaves no half of a file."""
    part = path.with_suffix(".part")
    write(part)
    part.replace(path)


def export(folder, path):
    """What sentence-transformers computes for the folder, as one graph with dynamic shapes."""
    import torch
    import transformers

    class Pooled(torch.nn.Module):
        def __init__(self, encoder):
            super().__init__()
            self.encoder = encoder

        def forward(self, ids, mask, types):
            hidden = self.encoder(ids, attention_mask=mask, token_type_ids=types).last_hidden_state
            weight = mask.unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * weight).sum(1) / weight.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(mean, dim=-1)

    # The fusion below knows attention written out, not the operator of torch.
    encoder = transformers.BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    ids = torch.ones((2, 16), dtype=torch.int64)
    with torch.no_grad():
        torch.onnx.export(
            Pooled(encoder),
            (ids, ids, torch.zeros_like(ids)),
            str(path),
            input_names=list(INPUTS),
            output_names=["vectors"],
            dynamic_axes={name: {0: "rows", 1: "tokens"} for name in INPUTS}
            | {"vectors": {0: "rows"}},
            opset_version=17,
            dynamo=False,
        )


def fuse(plain, path):
    """The graph with ONNX Runtime's operators for a transformer; refused where one is missing."""
    from onnxruntime.transformers import optimizer

    model = optimizer.optimize_model(
        str(plain), model_type="bert", num_heads=12, hidden_size=WIDTH, opt_level=1
    )
    found = model.get_fused_operator_statistics()
    wanted = {"EmbedLayerNormalization": 1, "Attention": LAYERS, "BiasGelu": LAYERS}
    wanted["SkipLayerNormalization"] = 2 * LAYERS
    missing = {name: n for name, n in wanted.items() if found.get(name, 0) != n}
    if missing:
        raise SystemExit(f"the graph is not fused as expected: {missing} of {found}")
    model.save_model_to_file(str(path))


# --- the engines ---------------------------------------------------------------------------------


class Engine:
    """texts -> float32 vectors of unit length [n, d], with one of its options."""

    def options(self, single):
        """The batches to choose from, for many texts or for one sentence."""
        return ["defaults"]

    def encode(self, texts, max_length, option):
        raise NotImplementedError

    def compilations(self):
        """How many shapes have been compiled so far; None where that is not counted."""
        return None


class SentenceTransformers(Engine):
    """sentence-transformers as it comes, float32; tuned by its batch size."""

    def __init__(self, folder):
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(cores())
        self.model = SentenceTransformer(str(folder), device="cpu")

    def options(self, single):
        return [32] if single else [16, 32, 64]

    def encode(self, texts, max_length, option):
        self.model.max_seq_length = max_length
        return self.model.encode(texts, batch_size=option, convert_to_numpy=True)


class Jaxbert(Engine):
    """jaxbert with its defaults; nothing is tuned."""

    def __init__(self, folder, **settings):
        os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # its compilations are reported
        from jaxbert import Embedder
        from jaxbert.inference.coarse_first import finest

        self.embedder = Embedder.from_pretrained(folder, **settings)
        # As it runs once it has seen many texts; before, it compiles less (first_use.py).
        self.embedder.engine.planner = finest(self.embedder.planner)

    def encode(self, texts, max_length, option):
        return self.embedder.encode(texts, max_length=max_length)

    def compilations(self):
        return self.embedder.compilations


def by_budget(counts, budget):
    """Members of each batch: the longest first, rows times the longest within the budget."""
    order = np.argsort(-np.asarray(counts), kind="stable")
    start = 0
    while start < len(order):
        rows = max(1, budget // counts[order[start]])
        yield order[start : start + rows]
        start += rows


def padded(tokens):
    """The inputs of a graph, padded to the longest text and no further."""
    ids = np.zeros((len(tokens), max(map(len, tokens))), np.int64)
    mask = np.zeros_like(ids)
    for row, own in enumerate(tokens):
        ids[row, : len(own)] = own
        mask[row, : len(own)] = 1
    return dict(zip(INPUTS, (ids, mask, np.zeros_like(ids)), strict=True))


class Graph(Engine):
    """What the engines that run a graph have in common: the tokenizer and the batches."""

    def __init__(self, folder):
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()

    def tokens(self, texts, max_length):
        self.tokenizer.enable_truncation(max_length)
        return [one.ids for one in self.tokenizer.encode_batch_fast(texts)]

    def batches(self, tokens, budget):
        return by_budget([len(own) for own in tokens], budget)

    def encode(self, texts, max_length, option):
        tokens = self.tokens(texts, max_length)
        found = np.empty((len(texts), WIDTH), np.float32)
        for members in self.batches(tokens, option):
            found[members] = self.call(padded([tokens[i] for i in members]))
        return found


class OnnxRuntime(Graph):
    """ONNX Runtime on the fused graph, float32; tuned by the tokens of a batch."""

    def __init__(self, folder):
        import onnxruntime

        super().__init__(folder)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = cores()
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        providers = ["CPUExecutionProvider"]
        path = str(graphs(folder)[1])
        self.session = onnxruntime.InferenceSession(path, settings, providers=providers)

    def options(self, single):
        return BUDGETS[:1] if single else BUDGETS

    def call(self, inputs):
        return self.session.run(None, inputs)[0]


class InputOrder(OnnxRuntime):
    """The same session fed as fastembed does: 256 texts in the order they come."""

    def options(self, single):
        return [256]

    def batches(self, tokens, rows):
        return (np.arange(len(tokens))[i : i + rows] for i in range(0, len(tokens), rows))


class OpenVino(Graph):
    """OpenVINO on the plain graph, which it fuses itself; tuned by hint and tokens of a batch.

    With the hint THROUGHPUT as many requests run at once as the compiled model asks for.
    """

    def __init__(self, folder, precision):
        import openvino

        super().__init__(folder)
        core = openvino.Core()
        model = core.read_model(str(graphs(folder)[0]))
        settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": cores()}
        alone, many = (
            core.compile_model(model, "CPU", settings | {"PERFORMANCE_HINT": hint})
            for hint in HINTS
        )
        for compiled in (alone, many):
            taken = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
            if taken != precision:
                raise SystemExit(f"OpenVINO takes {taken} where {precision} was asked for")
        self.request = alone.create_infer_request()
        self.queue = openvino.AsyncInferQueue(many)

    def options(self, single):
        return list(itertools.product(HINTS, BUDGETS[:1] if single else BUDGETS))

    def call(self, inputs):
        return self.request.infer(inputs, share_inputs=True)[0]

    def encode(self, texts, max_length, option):
        hint, budget = option
        if hint == "LATENCY":
            return super().encode(texts, max_length, budget)
        tokens = self.tokens(texts, max_length)
        found = np.empty((len(texts), WIDTH), np.float32)

        def keep(request, job):
            members, _ = job
            found[members] = request.get_output_tensor(0).data

        self.queue.set_callback(keep)
        for members in self.batches(tokens, budget):
            inputs = padded([tokens[i] for i in members])
            self.queue.start_async(inputs, (members, inputs), share_inputs=True)
        self.queue.wait_all()
        return found


ENGINES = {
    "sentence-transformers": ("f32", SentenceTransformers),
    "ONNX Runtime": ("f32", OnnxRuntime),
    "ONNX Runtime, as fastembed": ("f32", InputOrder),
    "OpenVINO": ("f32", lambda folder: OpenVino(folder, "f32")),
    "jaxbert": ("f32", Jaxbert),
    "jaxbert, deterministic": ("f32", lambda folder: Jaxbert(folder, deterministic=True)),
    "OpenVINO bf16": ("bf16", lambda folder: OpenVino(folder, "bf16")),
    "jaxbert bf16": ("bf16", lambda folder: Jaxbert(folder, dtype="bfloat16")),
}
REFERENCE = "sentence-transformers"
OURS = {"f32": "jaxbert", "bf16": "jaxbert bf16"}
THROUGHPUT_ONLY = ("ONNX Runtime, as fastembed", "jaxbert, deterministic")


# --- the roof ------------------------------------------------------------------------------------


def product(library, dtype, m, k, n):
    """A call of one product [m, k] [k, n]; bfloat16 comes out as float32, in torch as bfloat16."""
    random = np.random.default_rng(0)
    a, b = (random.normal(size=size).astype(np.float32) for size in ((m, k), (k, n)))
    if library == "torch":
        import torch

        torch.set_num_threads(cores())
        kind = torch.bfloat16 if dtype == "bf16" else torch.float32
        x, y = (torch.from_numpy(matrix).to(kind) for matrix in (a, b))
        return lambda: x @ y
    import jax
    import jax.numpy as jnp

    kind = jnp.bfloat16 if dtype == "bf16" else jnp.float32
    x, y = (jnp.asarray(matrix, kind) for matrix in (a, b))
    multiply = jax.jit(lambda x, y: jnp.matmul(x, y, preferred_element_type=jnp.float32))
    return lambda: multiply(x, y).block_until_ready()


class Products:
    """The products whose best speed is the roof, of one library."""

    def __init__(self, library):
        self.calls = {
            (dtype, shape): product(library, dtype, *shape)
            for dtype in ("f32", "bf16")
            for shape in SHAPES
        }

    def best(self, dtype):
        """The most GFLOP/s among the shapes."""
        return max(
            2 * m * k * n / min(timed(call)[0] for _ in range(10)) / 1e9
            for (kind, (m, k, n)), call in self.calls.items()
            if kind == dtype
        )


ROOFS = {"torch": lambda _: Products("torch"), "XLA": lambda _: Products("XLA")}


# --- a process for each --------------------------------------------------------------------------


def timed(call):
    """(seconds, what the call returns)."""
    start = time.perf_counter()
    found = call()
    return time.perf_counter() - start, found


def serve(name, folder, pipe):
    """Answer calls of the engine or roof of this name."""
    serve_engine(ROOFS[name] if name in ROOFS else ENGINES[name][1], folder, pipe)


def serve_engine(make, folder, pipe):
    """Answer (method, arguments, calls) with (seconds of each call, last result); errors as text.

    The process sleeps in recv while another one works.
    """
    try:
        engine = make(folder)
        pipe.send(None)
        while True:
            method, arguments, calls = pipe.recv()
            call = functools.partial(getattr(engine, method), *arguments)
            seconds, results = zip(*(timed(call) for _ in range(calls)), strict=True)
            pipe.send((seconds, results[-1]))
    except EOFError:
        return
    except BaseException:
        pipe.send(traceback.format_exc())
