"""The products of all-MiniLM-L6-v2 with few rows: XLA's libraries beside ONNX Runtime.

python notes/bench/small_products.py [--rows 16 32 64] [--rounds 60]
Six layers of random weights, 42 MB in float32, in a chain of products with the shapes of a layer's,
and nothing else of an encoder. "constants" has the weights inside the program. In turns in one
process; needs the extras parity and bench.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from peers_models import cores

LAYERS, D, F = 6, 384, 1536
SHAPES = {"q": (D, D), "k": (D, D), "v": (D, D), "out": (D, D), "up": (D, F), "down": (F, D)}
# Products by Eigen, XLA's other library.
EIGEN = {"xla_cpu_experimental_ynn_fusion_type": ""}


def weights():
    """The weights of each layer, so small that the chain of products stays near its input."""
    random = np.random.default_rng(0)
    return [
        {name: 0.05 * random.normal(size=s).astype(np.float32) for name, s in SHAPES.items()}
        for _ in range(LAYERS)
    ]


def chain(layers, x):
    """The products of all layers, one after the other."""
    for own in layers:
        x = (x + (x @ own["q"] + x @ own["k"] + x @ own["v"]) @ own["out"]) / 10
        x = (x + jnp.maximum(x @ own["up"], 0) @ own["down"]) / 10
    return x


def session(layers):
    """The same chain as a graph."""
    constants = [numpy_helper.from_array(np.float32(10), "ten")]
    nodes, x = [], "x"

    def op(kind, *inputs):
        name = f"{kind}{len(nodes)}"
        nodes.append(helper.make_node(kind, list(inputs), [name]))
        return name

    for i, own in enumerate(layers):
        named = {key: f"{key}{i}" for key in own}
        constants += [numpy_helper.from_array(array, named[key]) for key, array in own.items()]
        q, k, v = (op("MatMul", x, named[key]) for key in "qkv")
        context = op("MatMul", op("Add", op("Add", q, k), v), named["out"])
        x = op("Div", op("Add", x, context), "ten")
        inner = op("Relu", op("MatMul", x, named["up"]))
        x = op("Div", op("Add", x, op("MatMul", inner, named["down"])), "ten")
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", D])
    made = helper.make_tensor_value_info(x, TensorProto.FLOAT, ["rows", D])
    graph = helper.make_graph(nodes, "chain", [given], [made], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def runs(layers, rows):
    """What is timed, by name."""
    x = np.random.default_rng(1).normal(size=(rows, D)).astype(np.float32)
    fixed, there, graph = jax.device_put(layers), jax.device_put(x), session(layers)
    program = jax.jit(chain).lower(fixed, there)
    one, other = program.compile(), program.compile(compiler_options=EIGEN)
    inside = jax.jit(lambda x: chain(layers, x)).lower(there).compile()
    return {
        "XLA": lambda: one(fixed, there).block_until_ready(),
        "XLA, Eigen": lambda: other(fixed, there).block_until_ready(),
        "XLA, constants": lambda: inside(there).block_until_ready(),
        "ONNX Runtime": lambda: graph.run(None, {"x": x})[0],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    layers, table = weights(), {}
    for rows in options.rows:
        timed = runs(layers, rows)
        wanted = np.asarray(timed["ONNX Runtime"]())
        near = 1e-4 * np.abs(wanted).max()  # sums have other orders, twelve times in a row
        seconds = {name: [] for name in timed}
        for name, run in timed.items():
            assert np.allclose(np.asarray(run()), wanted, rtol=0, atol=near), name
        for _ in range(options.rounds):
            for name, run in timed.items():
                run()  # finds the caches full of the others' data
                start = time.perf_counter()
                run(), run(), run()
                seconds[name].append((time.perf_counter() - start) / 3)
        for name, own in seconds.items():
            cell = f"{1e3 * min(own):.2f}, {1e3 * statistics.median(own):.2f}"
            table.setdefault(name, []).append(cell)
    print(f"| ms, least and median | {' | '.join(f'{rows} rows' for rows in options.rows)} |")
    print("|---" * (len(options.rows) + 1) + "|")
    for name, cells in table.items():
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
