"""The programs of convert/ as modules, which import each other from their folder."""

import importlib.util
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "convert"


def program(name, monkeypatch):
    """The program of this name as a module."""
    monkeypatch.syspath_prepend(FOLDER)
    spec = importlib.util.spec_from_file_location(f"convert_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
