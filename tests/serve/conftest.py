"""The models that the tests of the server share; without its packages test_extra.py says so."""

from importlib.util import find_spec

import pytest

from jaxbert.serve.command import EXTRA

# Nothing here can be imported without them.
collect_ignore_glob = [] if all(map(find_spec, EXTRA)) else ["test_[!e]*.py"]


@pytest.fixture(scope="session")
def embedder(tmp_path_factory):
    from tests.serve import fakes

    return fakes.embedder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def bare(tmp_path_factory):
    """A model without prompts."""
    from tests.serve import fakes

    return fakes.embedder(tmp_path_factory.mktemp("bare"), prompts={})
