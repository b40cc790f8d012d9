"""One spoiled folder, looked at closely."""

from collections.abc import Callable
from pathlib import Path

from tests.attack.folders import Base
from tests.attack.groups import GROUPS
from tests.attack.judge import judge, open_model, whole
from tests.attack.pool import Result
from tests.attack.spoil import draw


def show(
    bases: list[Base], seed: int, number: int, place: Path, say: Callable[[str], None]
) -> bool:
    """Spoil the folder of a number, judge it, and show a traceback where it does not load."""
    drawn = draw(GROUPS, bases, seed, number, place / "own")
    say(f"{drawn.base}, {drawn.group}: {drawn.spoiled.what}")
    say(f"allowed: {', '.join(sorted(drawn.spoiled.allowed))}; the folder: {drawn.model}")
    before = next(whole(base.model) for base in bases if base.name == drawn.base)
    result = Result(number, drawn, judge(drawn.model, before, number))
    say(f"{result.judged.outcome}: {result.judged.detail}")
    say(f"fault: {result.fault or 'none'}")
    if result.judged.outcome == "foreign":
        embedder = open_model(drawn.model)  # its traceback is what is wanted
        say(str(embedder.encode("zz 9")))
    return not result.fault
