"""What sentence-transformers keeps for a model's README, as far as code calls it; and a README."""

import json
from pathlib import Path
from typing import Any

from jaxbert import __version__
from jaxbert.checkpoint.sentence_transformers.settings import SETTINGS_FILE

CARD = """---
library_name: sentence-transformers
---

# {name}

Saved by jaxbert {version}.

```python
from sentence_transformers import {kind}

model = {kind}("{name}")
```

or, in JAX, `from jaxbert.compat import {kind}`.
"""


class ModelCardData:
    """A place for what callers and evaluators note about a model; attributes are free."""

    def __init__(self, **fields: Any) -> None:
        """fields are attributes, such as language and license."""
        self.metrics: dict[str, Any] = {}
        self.base_model: str | None = None
        vars(self).update(fields)

    def set_evaluation_metrics(
        self, evaluator: Any, metrics: dict[str, Any], epoch: int = 0, steps: int = 0
    ) -> None:
        """Keep what an evaluator found, under its name."""
        self.metrics[getattr(evaluator, "name", "") or type(evaluator).__name__] = dict(metrics)

    def register_model(self, model: Any) -> None:
        """Take note of nothing: the model describes itself."""

    def set_model_id(self, model_id: str) -> None:
        """Keep the name of the model."""
        self.model_id = model_id

    def set_base_model(self, model_id: str, revision: str | None = None) -> None:
        """Keep the name of the model that this one comes from."""
        self.base_model = model_id


def write_model_card(folder: Path, kind: str, name: str | None) -> None:
    """README.md with an example; name is the model's on the hub, or a place for one."""
    text = CARD.format(
        name=name or "sentence_transformers_model_id", kind=kind, version=__version__
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def write_version(folder: Path) -> None:
    """Name this package's version in the settings of a saved model, where theirs names its own."""
    file = folder / SETTINGS_FILE
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings = {"__version__": {"jaxbert": __version__}, **settings}
    file.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
