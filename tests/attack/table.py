"""The counts of an attack, and examples of each fault."""

from collections import Counter
from collections.abc import Iterable

from tests.attack.pool import Result

OUTCOMES = ("refused", "late", "same", "different", "foreign", "abort", "hang", "message", "vector")
KINDS = {
    "foreign": "exceptions of others",
    "abort": "processes that died",
    "hang": "processes that hung",
    "message": "messages that are no short printable line",
    "vector": "vectors that are none",
    "silent": "differences that can be known, without a word",
    "needless": "harmless changes that were refused",
}
EXAMPLES = 6


def table(results: Iterable[Result]) -> list[str]:
    """Group by outcome, with the silent differences and needless refusals among them."""
    counts = Counter((own.drawn.group, own.judged.outcome) for own in results)
    faults = Counter((own.drawn.group, own.fault) for own in results)
    columns = [*OUTCOMES, "silent", "needless"]
    lines = [" ".join(["group     ", *(f"{name:>9}" for name in columns), "      all"])]
    for group in [*dict.fromkeys(group for group, _ in sorted(counts)), "all"]:
        chosen = {
            name: sum(
                number
                for (own, kind), number in (counts if name in OUTCOMES else faults).items()
                if kind == name and group in (own, "all")
            )
            for name in columns
        }
        total = sum(chosen[name] for name in OUTCOMES)
        cells = " ".join(f"{chosen[name]:>9}" for name in columns)
        lines.append(f"{group:<10} {cells} {total:>9}")
    return lines


def examples(results: Iterable[Result], seed: int, most: int = EXAMPLES) -> list[str]:
    """Of every kind of fault the count and the first few, with how to see one again."""
    lines: list[str] = []
    for kind, title in KINDS.items():
        found = sorted((own for own in results if own.fault == kind), key=lambda own: own.number)
        if found:
            lines += ["", f"{len(found)} {title}:"]
        for own in found[:most]:
            drawn, judged = own.drawn, own.judged
            lines.append(f"  --seed {seed} --only {own.number}  {drawn.base}: {drawn.spoiled.what}")
            lines.append(f"      {judged.outcome}: {judged.detail[:200]}")
    return lines
