"""`jaxbert bench`: what a model's engines and number formats bring on this machine."""

import argparse
import itertools
import math
import os
import platform
import time
from pathlib import Path

import jax

from jaxbert import __version__
from jaxbert.arguments import path
from jaxbert.bench.measuring import Candidate, LeftOut, Loaded, enough, loaded, measured
from jaxbert.bench.subjects import subject_of
from jaxbert.bench.table import Bench, draw, shown, write
from jaxbert.bench.texts import read, spread
from jaxbert.checkpoint.opening import open_model
from jaxbert.errors import InputError, printable
from jaxbert.inference.engines import ENGINES
from jaxbert.process import interrupts, streams

DTYPES = ("float32", "bfloat16")
# The default of from_pretrained comes first: the others are compared with it.
CANDIDATES = tuple(itertools.starmap(Candidate, itertools.product(ENGINES, DTYPES)))
# Characters of the text that is computed alone: a sentence.
SENTENCE = 100


def run_bench(options: argparse.Namespace) -> int:
    """Time all candidates, print the table, draw it; the exit status."""
    seconds, picture = positive(options.seconds), output(options.picture)
    numbers = None if options.json is None else output(options.json)
    texts = read(options.texts or (), options.format, options.text_field)
    where = {
        "name": options.name or options.model,
        "revision": options.revision,
        "ignore_config": tuple(options.ignore_config),
    }
    subject = subject_of(open_model(**where).task)
    tried = list(loaded(subject, CANDIDATES, **where))
    models = [own for own in tried if isinstance(own, Loaded)]
    share = seconds / len(models) / 4  # three rounds and a first list at least
    many = enough(subject, models[0].model, subject.items(spread(texts, 1000)), share)
    chosen = spread(texts, many)
    items = subject.items(chosen)
    alone = min(range(len(chosen)), key=lambda i: abs(len(chosen[i]) - SENTENCE))
    timed, failed = measured(subject, models, items, items[alone], seconds)
    bench = Bench(
        title(str(where["name"])),
        subject,
        len(items),
        len(chosen[alone]),
        timed,
        [own for own in tried if isinstance(own, LeftOut)] + failed,
    )
    for line in shown(bench).splitlines():
        streams.answer(printable(line))
    if numbers is not None:
        write(bench, numbers)
    streams.say(f"jaxbert: {drawn(bench, picture)}")
    return 0


def positive(seconds: float) -> float:
    """The seconds that were given; InputError for what is no time."""
    if not (math.isfinite(seconds) and seconds > 0):
        raise InputError(f"--seconds is {seconds}; give a number above 0, such as 60")
    return seconds


def output(name: str) -> Path:
    """A file to be written; InputError where there is no folder for it."""
    file = path(name, "a file")
    if file.is_dir() or not file.absolute().parent.is_dir():
        raise InputError(f"{file} cannot be written, for its folder is not there; name another")
    return file


def title(name: str) -> str:
    """The model, the machine, the versions and the day."""
    device = jax.local_devices()[0]
    machine = processor() if device.platform == "cpu" else device.device_kind
    day = time.strftime("%Y-%m-%d")
    return f"{name} on {machine}, jaxbert {__version__}, jax {jax.__version__}, {day}"


def processor() -> str:
    """The name of the processor, and how many of its cores this process may use."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count()
    return f"{next(names, platform.machine())} ({cores} cores)"


def drawn(bench: Bench, file: Path) -> str:
    """Where the picture is, or why there is none."""
    interrupts.check()
    try:
        draw(bench, file)
    except ImportError:
        return "no picture: matplotlib is not installed; pip install 'jaxbert[figures]' brings it"
    return f"picture {printable(str(file))}"
