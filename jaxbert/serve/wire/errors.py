"""What a client is told when a request is refused, in the shape that its vendor uses."""

from dataclasses import dataclass
from typing import Any

from jaxbert.errors import JaxbertError

# OpenAI's types by status; any other refusal is the request's own fault.
OPENAI_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
TEI_TYPES = {429: "Overloaded", 500: "Backend", 503: "Unhealthy"}


class RequestError(JaxbertError):
    """A request that gets no answer: status, one sentence, and what a program may look at."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        code: str = "invalid_input",
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        """param is the key at fault; retry_after the seconds that a client should wait."""
        super().__init__(message)
        self.status, self.code, self.param, self.retry_after = status, code, param, retry_after


@dataclass(frozen=True)
class Family:
    """How one vendor writes an error: its name, and the function that makes the JSON."""

    name: str

    def body(self, error: RequestError) -> dict[str, Any]:
        """The JSON of an error in this vendor's shape."""
        return SHAPES[self.name](error)


def openai_error(error: RequestError) -> dict[str, Any]:
    """{"error": {message, type, param, code}}, as openai's client reads it."""
    fault = "server_error" if error.status >= 500 else "invalid_request_error"
    return {
        "error": {
            "message": str(error),
            "type": OPENAI_TYPES.get(error.status, fault),
            "param": error.param,
            "code": error.code,
        }
    }


def tei_error(error: RequestError) -> dict[str, Any]:
    """{"error", "error_type"}, as text-embeddings-inference writes it."""
    return {"error": str(error), "error_type": TEI_TYPES.get(error.status, "Validation")}


def cohere_error(error: RequestError) -> dict[str, Any]:
    """{"message"}, as Cohere writes it, with the code beside it."""
    return {"message": str(error), "code": error.code}


SHAPES = {"openai": openai_error, "tei": tei_error, "cohere": cohere_error}
OPENAI, TEI, COHERE = Family("openai"), Family("tei"), Family("cohere")
