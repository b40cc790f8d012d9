"""From the exceptions of the package to what a client is told."""

import re

from jaxbert.errors import (
    ComputationError,
    DeviceMemoryError,
    InputError,
    InputTypeError,
    JaxbertError,
    ProcessEndedError,
    QueueClosedError,
    QueueFullError,
    QueueTimeoutError,
)
from jaxbert.serve.wire.errors import RequestError

# Seconds after which a client may ask again, where nothing better is known.
AGAIN = 5.0
# LongTexts writes it so (inference/outputs.py); its advice is for callers of the library.
TOO_LONG = re.compile(r"text (\d+) has (\d+) tokens, and the maximum is (\d+)")


def refusal(error: Exception, request: str) -> RequestError:
    """The refusal for an exception; request is the id under which the log has the rest."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, QueueFullError):
        return RequestError(
            str(error), status=429, code="queue_full", retry_after=error.retry_after
        )
    if isinstance(error, ProcessEndedError):
        return RequestError(str(error), status=503, code="process_ended", retry_after=AGAIN)
    if isinstance(error, QueueTimeoutError):
        return RequestError(str(error), status=503, code="timeout", retry_after=AGAIN)
    if isinstance(error, QueueClosedError):
        return RequestError(str(error), status=503, code="draining", retry_after=AGAIN)
    if isinstance(error, ComputationError):
        return RequestError(str(error), status=500, code="not_finite")
    if isinstance(error, DeviceMemoryError):
        return RequestError(str(error), code="too_much_memory")
    if isinstance(error, InputError | InputTypeError):
        return of_input(error)
    if isinstance(error, JaxbertError):
        return RequestError(str(error), status=500, code="failed")
    return RequestError(
        f"the server has failed at this request; its log has the reason under {request}",
        status=500,
        code="failed",
    )


def of_input(error: JaxbertError) -> RequestError:
    """The refusal of texts or arguments."""
    long = TOO_LONG.search(str(error))
    if long is None:
        return RequestError(str(error))
    text, tokens, most = long.groups()
    return RequestError(
        f"text {text} has {tokens} tokens, and the maximum is {most}; shorten it, or allow it to "
        "be cut",
        code="context_length_exceeded",
    )
