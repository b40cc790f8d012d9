"""Kill runs at random moments for a long time: python notes/bench/soak.py [--kills 200]

The tests of `make faults` with more kills: the output must be equal byte for byte to that of a run
that nobody stopped. Needs the extra test.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    kills = parser.parse_args().kills
    start = time.perf_counter()
    command = [sys.executable, "-m", "pytest", "-q", "-m", "faults", "-k", "random"]
    environment = os.environ | {"JAXBERT_KILLS": str(kills)}
    done = subprocess.run([*command, "tests/corpus/test_faults.py"], cwd=ROOT, env=environment)
    print(f"{kills} kills, exit status {done.returncode}, {time.perf_counter() - start:.0f} s")
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
