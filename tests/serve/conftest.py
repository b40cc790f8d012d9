"""The models that the tests of the server share; without its packages they are skipped."""

import pytest

for package in ("uvicorn", "httptools", "orjson", "prometheus_client"):
    pytest.importorskip(package, reason=f"{package} is of the extra named serve")

from tests.serve import fakes


@pytest.fixture(scope="session")
def embedder(tmp_path_factory):
    return fakes.embedder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def bare(tmp_path_factory):
    """A model without prompts."""
    return fakes.embedder(tmp_path_factory.mktemp("bare"), prompts={})
