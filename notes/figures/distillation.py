"""Draws notes/figures/distillation.png from notes/bench/distillation.json.

python notes/figures/distillation.py
"""

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

HERE = Path(__file__).parent
NAMES = {"teacher": "teacher (6 layers)", "bert": "BERT student", "jinabert": "JinaBERT student"}
TRAINED = 24  # tokens of the longest text that the students saw


def main() -> None:
    """Draw the cosines by length; a length that a model refuses has none."""
    figures = json.loads((HERE / "../bench/distillation.json").read_text())["long_texts"]
    drawing, axes = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
    for model, name in NAMES.items():
        known = {int(t): own for t, own in figures[model].items() if isinstance(own, dict)}
        axes.plot(list(known), [own["cosine"] for own in known.values()], "o-", label=name)
    axes.axvline(TRAINED, color="grey", linestyle=":")
    axes.annotate(
        "longest trained text", (TRAINED, 0.66), xytext=(4, 0), textcoords="offset points"
    )
    axes.set_xscale("log", base=2)
    axes.set_xticks([TRAINED, 64, 128, 256, 512, 1024], ["24", "64", "128", "256", "512", "1024"])
    axes.set(xlabel="tokens of the text", ylabel="cosine to the mean of parts", ylim=(0.65, 1.02))
    axes.legend()
    drawing.savefig(HERE / "distillation.png", dpi=150)


if __name__ == "__main__":
    main()
