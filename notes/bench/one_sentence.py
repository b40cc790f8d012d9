"""Where the time of one sentence goes, beside ONNX Runtime and OpenVINO.

python notes/bench/one_sentence.py [--rounds 12]

Real all-MiniLM-L6-v2, float32, one sentence of 14 tokens. Each engine has a process of its own;
they take turns, CALLS calls a round, of which the first few find a processor that has slept and are
left out. "model" is the compiled program on arrays that are there already, up to the vector on the
host; "without" is `encode` with a program in its place that returns a constant, so what it takes is
Python, the tokeniser and the dispatch of a program. The shares of the program's operations are from
XLA's trace. Needs the extras parity, bench and openvino.
"""

import argparse
import statistics

import numpy as np
from peers import Worker, make_graphs
from peers_models import BUDGETS, OnnxRuntime, machine, padded, serve_engine, versions
from shares import contents, traced

from jaxbert.checkpoint import hub

TEXT = "A sentence of a few words that somebody wants to embed today."
CALLS, LEFT_OUT = 40, 3


class Runtime:
    """ONNX Runtime on the fused graph."""

    def __init__(self, folder):
        self.engine = OnnxRuntime(folder)
        self.arrays = padded(self.engine.tokens([TEXT], 256))

    def whole(self):
        self.engine.encode([TEXT], 256, BUDGETS[0])

    def model(self):
        self.engine.call(self.arrays)


class OpenVino:
    """jaxbert with engine="openvino"."""

    def __init__(self, folder):
        from jaxbert import Embedder

        self.embedder = Embedder.from_pretrained(folder, engine="openvino")

    def whole(self):
        self.embedder.encode([TEXT])


class Jaxbert:
    """jaxbert as it comes."""

    def __init__(self, folder):
        import jax

        from jaxbert import Embedder

        self.embedder = Embedder.from_pretrained(folder)
        self.program = self.embedder.engine.vectors
        self.embedder.encode([TEXT])
        ((self.shapes, self.compiled),) = self.program.compiled.items()
        self.arrays = self.of_text()
        self.there = jax.device_put(self.arrays, self.program.placement)
        vector = np.asarray(self.compiled(self.program.fixed, self.there))
        constant = jax.jit(lambda fixed, arrays: jax.numpy.asarray(vector))
        self.constant = constant.lower(self.program.fixed, self.there).compile()

    def of_text(self):
        """What a call gives the program for the sentence."""
        engine, tokens = self.embedder.engine, self.embedder.tokenizer([TEXT])
        (batch,) = engine.planner.plan([len(tokens[0])], None)
        return batch.fill(tokens), np.zeros(1, np.int32)

    def whole(self):
        self.embedder.encode([TEXT])

    def model(self):
        np.asarray(self.compiled(self.program.fixed, self.there))

    def without(self):
        """The whole, but for the model."""
        self.program.compiled[self.shapes] = self.constant
        self.embedder.encode([TEXT])
        self.program.compiled[self.shapes] = self.compiled

    def tokeniser(self):
        self.embedder.tokenizer([TEXT])

    def dispatch(self):
        """A program that computes nothing, with arrays of the host, up to its result."""
        np.asarray(self.constant(self.program.fixed, self.arrays))

    def operations(self):
        """{kind of operation: its share of the time of all of them}."""
        holds, kinds = contents(self.compiled.as_text()), {}
        for operation, nanoseconds in traced(self.program, self.arrays, 50).items():
            held = holds.get(operation, operation)
            kind = (
                "products with weights" if held.startswith("f32[16,") and "dot" in held else "rest"
            )
            kinds[kind] = kinds.get(kind, 0) + nanoseconds
        return {kind: ns / sum(kinds.values()) for kind, ns in kinds.items()}


ENGINES = {"ONNX Runtime": Runtime, "jaxbert, openvino": OpenVino, "jaxbert": Jaxbert}
PARTS = {
    "ONNX Runtime": ("whole", "model"),
    "jaxbert, openvino": ("whole",),
    "jaxbert": ("whole", "model", "without", "tokeniser", "dispatch"),
}


def serve(name, folder, pipe):
    """Answer the calls of one engine."""
    serve_engine(ENGINES[name], folder, pipe)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    rounds = parser.parse_args().rounds
    folder = hub.installed_package()
    make_graphs(folder)
    workers = {name: Worker(name, folder, serve) for name in ENGINES}
    seconds = {}
    for _ in range(rounds):
        for name, worker in workers.items():
            for part in PARTS[name]:
                found, _ = worker.ask(part, calls=CALLS)
                seconds.setdefault((name, part), []).extend(found[LEFT_OUT:])
    least = min(seconds["ONNX Runtime", "whole"])
    median = statistics.median(seconds["ONNX Runtime", "whole"])
    print(machine(), versions())
    print("| | ms, least | ms, median | of ONNX Runtime's whole, least | median |")
    print("|---" * 5 + "|")
    for (name, part), own in seconds.items():
        low, middle = min(own), statistics.median(own)
        print(
            f"| {name}: {part} | {1e3 * low:.2f} | {1e3 * middle:.2f} "
            f"| {low / least:.2f} | {middle / median:.2f} |"
        )
    shares = workers["jaxbert"].ask("operations")[1]
    print({kind: f"{100 * share:.0f} %" for kind, share in shares.items()})
    for worker in workers.values():
        worker.close()


if __name__ == "__main__":
    main()
