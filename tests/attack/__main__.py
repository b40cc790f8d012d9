"""python -m tests.attack: spoil folders, judge them, print a table; exit status 1 for a fault."""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.attack.pool import Result, attack, prepare


def parser() -> argparse.ArgumentParser:
    """How many folders, which ones, and where they lie meanwhile."""
    top = argparse.ArgumentParser(
        prog="python -m tests.attack", description="Spoil model folders and see what is loaded."
    )
    top.add_argument("--number", type=int, default=20_000, help="of folders (default: 20000)")
    top.add_argument("--seed", type=int, default=1, help="the same seed spoils the same")
    top.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    top.add_argument("--only", type=int, help="this folder alone, here, with its traceback")
    top.add_argument("--examples", type=int, default=6, help="of each kind of fault (default: 6)")
    top.add_argument("--keep", type=Path, help="a new folder for all that is written")
    return top


def say(line: str = "") -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def run(given: argparse.Namespace, place: Path) -> bool:
    """Attack; whether there was no fault."""
    prepare(place)
    from tests.attack.folders import write_bases
    from tests.attack.table import examples, table

    bases = write_bases(place / "bases")
    if given.only is not None:
        from tests.attack.one import show

        return show(bases, given.seed, given.only, place, say)
    began, results = time.monotonic(), list[Result]()
    for result in attack(bases, given.seed, range(given.number), given.workers, place):
        results.append(result)
        if len(results) % 1000 == 0:
            say(f"{len(results)} folders, {time.monotonic() - began:.0f} s")
    for line in (*table(results), *examples(results, given.seed, given.examples)):
        say(line)
    faults = sum(bool(result.fault) for result in results)
    seconds = time.monotonic() - began
    say()
    say(f"{len(results)} folders of seed {given.seed} in {seconds:.0f} s: {faults} faults")
    return not faults


def main() -> int:
    """The exit status."""
    given = parser().parse_args()
    if given.keep is not None:
        given.keep.mkdir(parents=True)
        return 0 if run(given, given.keep) else 1
    memory = Path("/dev/shm")
    place = Path(tempfile.mkdtemp(prefix="attack-", dir=memory if memory.is_dir() else None))
    try:
        return 0 if run(given, place) else 1
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
