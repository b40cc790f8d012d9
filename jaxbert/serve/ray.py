"""The server's application behind Ray Serve: a model with its queue in each replica.

    from ray import serve
    serve.run(deployment("all-MiniLM-L6-v2", num_replicas=2, options=["--rerank", "MODEL"]))

A driver imports nothing of JAX here. There is no @serve.batch: the queue of a replica makes the
batches, since it sees the lengths of texts.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxbert.errors import MissingPackageError
from jaxbert.serve.options import parsed

# Requests that Ray sends to a replica before it has answered; Ray's own default of 5 would leave
# batches almost empty.
ONGOING = 512


def deployment(
    model: str,
    *,
    options: Sequence[str] = (),
    model_options: Mapping[str, Any] | None = None,
    **ray: Any,
) -> Any:
    """A Ray Serve application that answers as `jaxbert serve MODEL` does, to be given to serve.run.

    model is a folder that every host has, or a hub name; options are those of the command, such as
    ["--deterministic"], and model_options keywords of from_pretrained, such as dtype. ray are those
    of serve.deployment: num_replicas, ray_actor_options (give each replica all chips of a host, or
    one), autoscaling_config. A replica that dies is started again; what it was computing is lost,
    and its clients must ask again. Raises MissingPackageError.
    """
    try:
        from ray import serve
    except ImportError as error:
        raise MissingPackageError("ray", "ray") from error

    given, models = parsed(options), {"name": model, **(model_options or {})}
    made: list[Any] = []  # in the process of a replica: its application

    class Jaxbert:
        async def __init__(self) -> None:  # type: ignore[misc] # which Ray awaits
            from jaxbert.serve.loading import ready

            made.append(await ready(given, models))

        def check_health(self) -> None:
            made[0].state.health()

    built = serve.ingress(lambda: made[0])(Jaxbert)
    return serve.deployment(**{"max_ongoing_requests": ONGOING} | ray)(built).bind()
