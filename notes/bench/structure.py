"""Modules, imports, circles and rooms of jaxbert: python notes/bench/structure.py [FOLDER]

Reads the sources and imports nothing. An import counts once per pair of modules, also inside a
function. A room is a package of jaxbert; the modules beside its __init__.py are faces.
"""

import ast
import graphlib
import sys
from pathlib import Path

Graph = dict[str, set[str]]


def modules(folder: Path) -> dict[str, Path]:
    """The dotted name of each module below a package's folder, and its file."""
    names = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def imported(name: str, path: Path, known: set[str]) -> set[str]:
    """The modules of `known` that one file imports; `from package import module` is the module."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {
                f"{node.module}.{alias.name}"
                if f"{node.module}.{alias.name}" in known
                else node.module
                for alias in node.names
            }
    return (found & known) - {name}


def graph(folder: Path) -> Graph:
    """Each module and the modules it imports."""
    files = modules(folder)
    return {name: imported(name, path, set(files)) for name, path in files.items()}


def room(name: str) -> str:
    """`model` for jaxbert.model.layers; `encoder` for jaxbert.encoder; nothing for jaxbert."""
    return name.partition(".")[2].partition(".")[0]


def between_rooms(edges: Graph) -> Graph:
    """Each room and the rooms it imports, the package's own __init__ left out."""
    rooms: Graph = {}
    for name, targets in edges.items():
        if room(name):
            own = rooms.setdefault(room(name), set())
            own |= {room(target) for target in targets} - {room(name), ""}
    return rooms


def circle(edges: Graph) -> list[str]:
    """The modules of one circle of imports, or none."""
    try:
        list(graphlib.TopologicalSorter(edges).static_order())
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def main(folder: Path) -> None:
    files = modules(folder)
    edges = graph(folder)
    rooms = between_rooms(edges)
    lines = sum(len(path.read_text().splitlines()) for path in files.values())
    print(f"{len(files)} modules, {lines} lines")
    print(f"{sum(map(len, edges.values()))} imports between modules")
    print(f"{len(rooms)} rooms and faces, {sum(map(len, rooms.values()))} imports between them")
    print("circles of modules:", " -> ".join(circle(edges)) or "none")
    print("circles of rooms:", " -> ".join(circle(rooms)) or "none")
    for name in graphlib.TopologicalSorter(rooms).static_order():
        print(f"  {name:<12} {' '.join(sorted(rooms[name]))}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2] / "jaxbert")
