"""LangChain's own standard tests of embeddings, on the class in notes/07-cookbook.md."""

import pytest

pytest.importorskip("langchain_tests")

from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from jaxbert import Embedder
from tests.parity.test_cookbook import FIRST, NEEDING, run

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


class Given:
    """What the suites ask for: the class, and the arguments of its constructor."""

    @pytest.fixture(autouse=True, scope="class")
    def block(self, request):
        """The names that the page's block defines."""
        names = {"__name__": "notes"}
        run("the first block", FIRST, names)
        run("langchain_core", NEEDING["langchain_core"], names)
        request.cls.names = names

    @property
    def embeddings_class(self):
        return self.names["JaxbertEmbeddings"]

    @property
    def embedding_model_params(self):
        assert isinstance(self.names["embedder"], Embedder)
        return {"embedder": self.names["embedder"]}


class TestUnit(Given, EmbeddingsUnitTests):
    """What needs no model that computes."""


class TestIntegration(Given, EmbeddingsIntegrationTests):
    """Vectors, of texts and of queries, also by asyncio."""
