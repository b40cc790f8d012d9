"""Which pages the book has: the README, the chapters, their figures, and the code, file by file.

Hooks of MkDocs. A file that is no Markdown becomes a page of its text, and a folder one that lists
its files, so that every link of a chapter leads to a page of the book.
"""

import ast
import re
from pathlib import Path

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
CODE = ("jaxbert", "convert")  # pages of all their files
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)(#[^)]*)?\)")  # to a file or a folder of the project


def first_sentence(file: Path) -> str:
    """What a module says of itself in the first sentence of its docstring."""
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


def page_of_file(file: Path) -> str:
    """The text of a file in a block of code, not found by the book's search."""
    name = file.relative_to(ROOT)
    text = file.read_text(encoding="utf-8").rstrip()
    head = "---\nsearch: {exclude: true}\nhide: [toc]\n---\n"
    return f"{head}# {name}\n\n`````{file.suffix[1:]}\n{text}\n`````\n"


def page_of_folder(folder: Path) -> str:
    """The folders in a folder, and its files with what each says of itself."""
    lines = [f"# {folder.relative_to(ROOT)}", ""]
    inner = sorted(path for path in folder.iterdir() if (path / "__init__.py").exists())
    lines += [f"- [`{path.name}/`]({path.name}/index.md)" for path in inner]
    for file in sorted(folder.glob("*.py")):
        lines.append(f"- [`{file.name}`]({file.name}.md): {first_sentence(file)}")
    return "\n".join(lines) + "\n"


def address(path: Path) -> str:
    """The page of a file or folder of the project, as a path in the book."""
    name = path.relative_to(ROOT).as_posix()
    if path.is_dir():
        return f"{name}/index.md"
    return name if path.suffix in (".md", ".png") else f"{name}.md"


def linked(page: Path) -> list[Path]:
    """The files and folders of the project that a Markdown file links to."""
    text = page.read_text(encoding="utf-8")
    targets = [(page.parent / target).resolve() for target, _ in LINK.findall(text)]
    return [target for target in targets if target.exists()]


def generated(path: Path, config: object) -> File:
    """The page, or the picture, of a file or folder."""
    name = address(path)
    if path.is_dir():
        return File.generated(config, name, content=page_of_folder(path))
    if name == path.relative_to(ROOT).as_posix():
        return File.generated(config, name, abs_src_path=str(path))
    return File.generated(config, name, content=page_of_file(path))


def on_files(files: Files, config: object) -> Files:
    """Add all pages: chapters first, then what they link to and the code."""
    chapters = [ROOT / "README.md", *sorted((ROOT / "notes").glob("*.md"))]
    wanted = [*chapters, *(target for page in chapters for target in linked(page))]
    wanted += [source.parent for top in CODE for source in (ROOT / top).rglob("*.py")]
    wanted += [source for path in wanted if path.is_dir() for source in path.glob("*.py")]
    for path in dict.fromkeys(wanted):
        files.append(generated(path, config))
    return files


def on_page_markdown(markdown: str, page: object, config: object, files: Files) -> str:
    """Links to files and folders lead to their pages."""
    origin = (ROOT / page.file.src_uri).parent

    def to_page(match: re.Match[str]) -> str:
        target = (origin / match[1]).resolve()
        if target.is_dir():
            return f"]({match[1].rstrip('/')}/index.md{match[2] or ''})"
        changed = target.is_file() and target.suffix not in (".md", ".png")
        return f"]({match[1]}.md{match[2] or ''})" if changed else match[0]

    return LINK.sub(to_page, markdown)
