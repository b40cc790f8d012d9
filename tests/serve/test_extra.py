"""What the server needs beside the package: there, or asked for in one sentence."""

from importlib.util import find_spec

import pytest

from jaxbert import cli
from jaxbert.serve import command


@pytest.mark.parametrize("package", command.EXTRA)
def test_the_tests_of_the_server_can_run(package):
    if find_spec(package) is None:
        pytest.skip(f"{package} is of the extra named serve; tests/serve is left out without it")


def test_the_extra_is_asked_for_in_one_sentence(monkeypatch, capsys):
    find = lambda name: None if name == "orjson" else object()  # noqa: E731
    monkeypatch.setattr(command, "find_spec", find)
    assert cli.main(["serve", "nowhere"]) == 1
    said = capsys.readouterr().err
    assert "orjson is not installed; it comes with" in said
    assert 'pip install "jaxbert[serve]"' in said
