"""`jaxbert lab extrapolate`: schemes and seeds -> runs, each kept in a file, a table, a plot."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from jaxbert import __version__
from jaxbert.arguments import integer, path
from jaxbert.corpus.files import (
    DamagedRecordError,
    bytes_sha256,
    read_record,
    write_errors,
    write_record,
)
from jaxbert.errors import InputError
from jaxbert.lab.curves import draw
from jaxbert.lab.extrapolate import Experiment, Result
from jaxbert.lab.material import Material, material, read
from jaxbert.lab.schemes import Scheme, scheme
from jaxbert.lab.setting import Setting
from jaxbert.lab.table import Table, as_json, of_json, shown, write
from jaxbert.process import interrupts, streams

# Steps between two words about how far a run is.
EVERY = 100


def run_extrapolate(given: argparse.Namespace) -> int:
    """Train what is not there yet, print the table, write it as JSON and draw it."""
    schemes = [scheme(spec) for spec in given.scheme]
    titles = [own.title for own in schemes]
    for title in titles:
        if titles.count(title) > 1:
            raise InputError(f"--scheme {title} is given twice; name each once")
    setting, seeds = setting_of(given), range(integer(given.seeds, "--seeds", 1, 1000))
    folder = path(given.folder, "a folder")
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    interrupts.check()
    own = texts(given, setting)
    runs = Runs(folder, setting, own, given.quiet)
    results = [result for one in schemes for result in runs.of(one, seeds)]
    table = Table(setting.described(), own.commonest, tuple(results))
    write(table, folder / "extrapolation.json")
    streams.answer(shown(table))
    streams.say(f"jaxbert: {drawn(table, folder / 'extrapolation.png')}")
    return 0


def setting_of(given: argparse.Namespace) -> Setting:
    """The options as a Setting; InputError for what they cannot be."""
    if given.lengths is None:
        lengths = [given.length * times for times in (1, 2, 4, 8, 16)]
    else:
        try:
            lengths = [int(one) for one in given.lengths.split(",")]
        except ValueError as error:
            raise InputError(
                f"--lengths is {given.lengths!r}; give numbers, such as 64,128,1024"
            ) from error
    return Setting(
        length=given.length,
        lengths=tuple(integer(one, "--lengths", 1) for one in lengths),
        steps=given.steps if given.seconds is None else None,
        seconds=given.seconds,
        special=given.special,
        batch=given.batch,
        share=given.share,
        rate=given.rate,
        layers=given.layers,
        width=given.width,
        heads=given.heads,
        std=given.std,
    )


def texts(given: argparse.Namespace, setting: Setting) -> Material:
    """What the options name, as rows and pieces."""
    seen = read(given.texts or (), given.format, given.text_field)
    kept = read(given.evaluate, given.format, given.text_field) if given.evaluate else None
    pieces = integer(given.pieces, "--pieces", 1)
    longest = max(setting.lengths)
    return material(seen, kept, given.tokenizer, setting.length, longest, pieces)


class Runs:
    """The results in a folder: a file for each scheme, seed and setting; what is there is read.

    The name of a file has the sum of all that decides about the result, the lines of a scheme of
    one's own among them: results of other settings stay where they are.
    """

    def __init__(self, folder: Path, setting: Setting, own: Material, quiet: bool) -> None:
        """All runs of one command have the setting and the texts in common."""
        self.folder, self.setting, self.material, self.quiet = folder, setting, own, quiet
        self.common = {
            "setting": setting.described(),
            "texts_sha256": own.sha256,
            "jaxbert": __version__,
            "platform": jax.default_backend(),
        }

    def of(self, one: Scheme, seeds: Sequence[int]) -> list[Result]:
        """The results of a scheme, those that are missing computed now."""
        found = {seed: self.kept(one, seed) for seed in seeds}
        if None not in found.values():
            self.say(f"{one.title}: all {len(seeds)} runs are there")
        experiment: Experiment | None = None
        for seed in seeds:
            if found[seed] is None:
                experiment = experiment or Experiment(one, self.setting, self.material)
                found[seed] = self.computed(experiment, seed)
        return [result for result in found.values() if result is not None]

    def identity(self, one: Scheme, seed: int) -> dict[str, Any]:
        """All that decides about a result."""
        return self.common | {"scheme": one.title, "scheme_sha256": one.sha256, "seed": seed}

    def file(self, one: Scheme, seed: int) -> Path:
        """Where a result is kept."""
        digest = bytes_sha256(json.dumps(self.identity(one, seed), sort_keys=True).encode())
        return self.folder / f"{one.title.replace(':', '.')}-{seed}-{digest[:12]}.json"

    def kept(self, one: Scheme, seed: int) -> Result | None:
        """The result that is there already; None where there is none that can be read."""
        file = self.file(one, seed)
        try:
            found = read_record(file)
        except FileNotFoundError:
            return None
        except DamagedRecordError as error:
            self.say(f"{error}; it is computed again")
            return None
        return of_json(found["result"])

    def computed(self, experiment: Experiment, seed: int) -> Result:
        """A result, computed and kept."""
        title, steps = experiment.scheme.title, experiment.steps

        def tell(done: int) -> None:
            if done % EVERY == 0 and done < steps:
                self.say(f"{title}, seed {seed}: step {done} of {steps}")

        result = experiment.result(seed, tell)
        levels = " ".join(f"{100 * own:.1f}" for own in result.accuracy.values())
        self.say(f"{title}, seed {seed}: {steps} steps in {result.seconds:.0f} s, {levels} %")
        record = {"identity": self.identity(experiment.scheme, seed), "result": as_json(result)}
        write_record(self.file(experiment.scheme, seed), record)
        return result

    def say(self, sentence: str) -> None:
        """A sentence on stderr, unless --quiet."""
        if not self.quiet:
            streams.say(f"jaxbert: {sentence}")


def drawn(table: Table, file: Path) -> str:
    """Where the plot is, or why there is none."""
    try:
        draw(table, file)
    except ImportError:
        return "no plot: matplotlib is not installed; pip install 'jaxbert[figures]' brings it"
    return f"the plot is {file}"
