"""An attack on runs: files of a run are spoiled, the same command is given again, and judged.

    python -m tests.attack.runs --number 200 --seed 1

Either the output is what an undisturbed run writes, to the byte, or the command ends with a
sentence. What a run that was broken off has left is spoiled, and what a whole one has written.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.attack.files import rewritten
from tests.attack.folders import Base
from tests.attack.spoil import Folder

ROOT = Path(__file__).parents[2]
SUFFIXES = (".jsonl", ".npy", ".parquet")
ROWS, PART, PATIENCE = 60, 7, 120
EXAMPLES = 8


@dataclass(frozen=True)
class Setting:
    """The model and the input of all runs."""

    place: Path

    def command(self, out: Path, *more: str) -> list[str]:
        """jaxbert embed, as a user types it."""
        embed = [sys.executable, "-m", "jaxbert.cli", "embed", str(self.place / "in.jsonl")]
        embed += ["-o", str(out), "--model", str(self.place / "model")]
        return [*embed, "--rows-per-part", str(PART), "--quiet", *more]

    def run(self, out: Path, *more: str) -> tuple[int | None, str]:
        """Exit status, None for a command that hangs, and what it said."""
        own = os.environ | {"PYTHONPATH": str(ROOT), "JAXBERT_CACHE": str(self.place / "cache")}
        try:
            done = subprocess.run(
                self.command(out, *more), env=own, capture_output=True, timeout=PATIENCE
            )
        except subprocess.TimeoutExpired:
            return None, ""
        return done.returncode, done.stderr.decode("utf-8", "replace")


def prepare(place: Path) -> Setting:
    """The model, the input, and for each format an undisturbed run and a half of one."""
    from tests.models import write_folder

    write_folder(place / "model", "bert-gelu", sentence_bert_config={"max_seq_length": 17})
    rows = ({"id": f"d{i}", "text": "a b " * (i % 7 + 1)} for i in range(ROWS))
    (place / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    setting = Setting(place)
    for suffix in SUFFIXES:
        for state in ("whole", "half"):
            out = place / f"{state}{suffix}" / f"out{suffix}"
            out.parent.mkdir()
            shard = ["--shard", "0/2"] if state == "half" else []
            status, said = setting.run(out, *shard)
            if state == "whole" and status != 0:
                raise SystemExit(f"an undisturbed run ended with {status}: {said}")
    return setting


# --- spoiling ----------------------------------------------------------------------------------


def flipped(file: Path, random: Random) -> str:
    """One bit is the other."""
    contents = bytearray(file.read_bytes() or b"\0")
    place = random.randrange(len(contents))
    contents[place] ^= 1 << random.randrange(8)
    rewritten(file, bytes(contents))
    return f"a bit of byte {place} flipped"


def cut(file: Path, random: Random) -> str:
    """The end is missing, as after a lost power."""
    contents = file.read_bytes()
    rewritten(file, contents[: random.randrange(len(contents) + 1)])
    return "cut"


def zeroed(file: Path, random: Random) -> str:
    """As long as it was, and zeros from some place on."""
    contents = file.read_bytes()
    first = random.randrange(len(contents) + 1)
    rewritten(file, contents[:first] + bytes(len(contents) - first))
    return f"zeros from {first}"


def extended(file: Path, random: Random) -> str:
    """Something stands behind the end."""
    rewritten(file, file.read_bytes() + random.choice((b"\0" * 9, b"\n", b"{}\n", b"x")))
    return "extended"


def gone(file: Path, random: Random) -> str:
    """The file is missing."""
    file.unlink()
    return "gone"


def other_kind(file: Path, random: Random) -> str:
    """Something stands there that is no file."""
    file.unlink()
    kind = random.choice(("a folder", "a FIFO", "a dangling link", "a loop", "a device"))
    if kind == "a folder":
        file.mkdir()
    elif kind == "a FIFO":
        os.mkfifo(file)
    else:
        targets = {"a loop": file.name, "a device": "/dev/zero"}
        file.symlink_to(targets.get(kind, "nowhere"))
    return f"is {kind}"


def of_another(file: Path, random: Random) -> str:
    """The contents of a neighbour."""
    others = sorted(own for own in file.parent.iterdir() if own.is_file() and own != file)
    if not others:
        return gone(file, random)
    other = random.choice(others)
    rewritten(file, other.read_bytes())
    return f"is a copy of {other.name}"


def number(file: Path, random: Random) -> str:
    """A number in a record is another; elsewhere a digit."""
    contents = file.read_bytes()
    digits = [i for i, byte in enumerate(contents) if 48 <= byte < 58]
    if not digits:
        return cut(file, random)
    i = random.choice(digits)
    new = bytes([48 + (contents[i] - 48 + random.randrange(1, 10)) % 10])
    rewritten(file, contents[:i] + new + contents[i + 1 :])
    return f"digit {i} is {new.decode()}"


SPOIL: list[Callable[[Path, Random], str]] = [
    flipped,
    flipped,
    cut,
    zeroed,
    extended,
    gone,
    other_kind,
    of_another,
    number,
    number,
]


# --- judging -----------------------------------------------------------------------------------


def attacked(setting: Setting, seed: int, trial: int) -> tuple[str, str]:
    """(outcome, story) of one spoiled run."""
    random = Random(f"{seed} {trial}")
    suffix, state = random.choice(SUFFIXES), random.choice(("whole", "half", "half"))
    base = Base(state, setting.place / f"{state}{suffix}")
    own = setting.place / f"trial-{trial}"
    shutil.copytree(base.root, own, symlinks=True)
    file = Folder(base, own, []).pick(random)
    if file is None:
        raise SystemExit(f"a run left nothing in {base.root}")
    story = f"{state}{suffix}: {file.relative_to(own)}: {random.choice(SPOIL)(file, random)}"
    status, said = setting.run(own / f"out{suffix}")
    outcome = judged(setting, own, suffix, status, said)
    shutil.rmtree(own)
    return outcome, f"{story}\n      exit status {status}: {said.strip()[-300:]}"


def judged(setting: Setting, own: Path, suffix: str, status: int | None, said: str) -> str:
    """Whole, refused, or a fault: wrong, foreign, hang, died."""
    if status is None:
        return "hang"
    if "Traceback" in said or "panicked" in said:
        return "foreign"
    if status < 0 and status != -signal.SIGINT:
        return "died"
    if status:
        return "refused" if said.strip() else "no word"
    # The output and, where it cannot hold them, the ids beside it.
    right = [
        file for file in (setting.place / f"whole{suffix}").iterdir() if file.suffix != ".json"
    ]
    same = all(is_same(own / file.name, file) for file in right if file.is_file())
    return "whole" if same else "wrong"


def is_same(file: Path, right: Path) -> bool:
    """Whether a file is there and has the bytes of another."""
    return file.is_file() and file.read_bytes() == right.read_bytes()


def main() -> int:
    """The exit status: 1 for a fault."""
    top = argparse.ArgumentParser(prog="python -m tests.attack.runs")
    top.add_argument("--number", type=int, default=200, help="of spoiled runs (default: 200)")
    top.add_argument("--seed", type=int, default=1)
    top.add_argument("--only", type=int, help="this trial alone")
    top.add_argument("--workers", type=int, default=2)
    given = top.parse_args()
    with tempfile.TemporaryDirectory(prefix="attack-") as place:
        setting = prepare(Path(place))
        trials = range(given.number) if given.only is None else [given.only]
        with ThreadPoolExecutor(given.workers) as pool:
            found = list(pool.map(lambda trial: attacked(setting, given.seed, trial), trials))
    counts = Counter(outcome for outcome, _ in found)
    lines = [f"{number:>6} {outcome}" for outcome, number in counts.most_common()]
    for outcome in sorted(counts.keys() - {"whole", "refused"}):
        lines += ["", f"{outcome}:"]
        shown = [
            (i, story) for i, (own, story) in zip(trials, found, strict=True) if own == outcome
        ]
        lines += [f"  --seed {given.seed} --only {i}  {story}" for i, story in shown[:EXAMPLES]]
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if counts.keys() - {"whole", "refused"} else 0


if __name__ == "__main__":
    sys.exit(main())
