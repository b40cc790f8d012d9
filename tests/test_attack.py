"""A hundred spoiled model folders are refused or loaded as what they are; make attack: more."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def attack(*options):
    """The program, run as a user runs it, without the switches of these tests."""
    command = [sys.executable, "-m", "tests.attack", *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_spoiled_folders_are_refused_or_loaded_as_what_they_are():
    # One process judges them: two would each compile the same programs.
    done = attack("--number", "120", "--seed", "0", "--workers", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "120 folders of seed 0" in done.stdout


def test_a_difference_that_can_be_known_is_counted_and_ends_the_attack_with_1(tmp_path):
    """The table itself is tried: a judge that finds nothing must not say that all is well."""
    from tests.attack.judge import Judged
    from tests.attack.pool import Result
    from tests.attack.spoil import HARMLESS, KNOWN, OTHER, REFUSED, Drawn, Spoiled
    from tests.attack.table import examples

    def fault(outcome, allowed):
        drawn = Drawn("plain", "json", Spoiled("something", allowed), tmp_path)
        return Result(7, drawn, Judged(outcome)).fault

    assert fault("different", KNOWN) == "silent"
    assert fault("same", REFUSED) == "silent"
    assert fault("refused", HARMLESS) == "needless"
    assert fault("different", OTHER) == ""
    assert [fault(own, OTHER) for own in ("foreign", "abort", "hang")] == [
        "foreign",
        "abort",
        "hang",
    ]
    drawn = Drawn("plain", "json", Spoiled("a key is lost", KNOWN), tmp_path)
    lines = examples([Result(7, drawn, Judged("different", "the pooling"))], seed=5)
    assert any("--seed 5 --only 7" in line and "a key is lost" in line for line in lines)
