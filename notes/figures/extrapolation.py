"""Draws notes/figures/extrapolation.png from notes/bench/extrapolation.json.

python notes/figures/extrapolation.py [FIGURES.json [DRAWING.png]]
"""

import json
import sys
from pathlib import Path

from jaxbert.lab.curves import draw
from jaxbert.lab.table import table_of

HERE = Path(__file__).parent
NAMES = {
    "alibi": "symmetric ALiBi",
    "asymmetric": "asymmetric ALiBi",
    "rope": "RoPE",
    "learned": "learned positions",
}


def main(figures: str = f"{HERE}/../bench/extrapolation.json", drawing: str = "") -> None:
    """Draw the runs without special tokens."""
    table = table_of(json.loads(Path(figures).read_text())["plain"])
    draw(table, Path(drawing or HERE / "extrapolation.png"), NAMES)


if __name__ == "__main__":
    main(*sys.argv[1:])
