"""The built-in corpus: documentation and source of the standard library of the interpreter that runs this.

Every docstring, every source file and each topic of the language reference is a document. Files are parsed, never
imported. The top-level module is a document's key, so that a split can hold whole modules out.
"""

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from llmcore.corpus.areas import area_of
from llmcore.errors import CorpusError
from llmcore.storage import content_hash

__all__ = ["COLUMNS", "Document", "StdlibCorpus"]

COLUMNS = ("id", "text", "source", "kind", "key", "area", "path")
EXCLUDED = {"test", "tests", "idle_test", "tkinter", "idlelib", "distutils", "lib2to3"}
"""Left out because some distributions of Python lack them; nor is a test a document of its module."""
REFERENCE = "pydoc_data"
_TOPICS = f"{REFERENCE}/topics.py"
_VERSION = 1

_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Document:
    """One document.

    Attributes:
        id: `docstring/asyncio/queues.py:Queue.get`, `source/asyncio/queues.py`, `reference/assert`.
        text: what is read.
        kind: `docstring`, `source` or `reference`.
        key: the top-level module.
        area: the area of that module, see `areas`; None where it has none.
        path: the file, relative to the standard library.
    """

    id: str
    text: str
    kind: str
    key: str
    area: str | None
    path: str
    source: str = "python_stdlib"


@dataclass
class StdlibCorpus:
    """The corpus of one standard library.

    `modules` says what the standard library is: what a distribution or a user has put beside it is left out.
    `unreadable` names, once `documents` has run, the files that are no UTF-8 text or no Python of this version.
    """

    root: Path = field(default_factory=lambda: Path(sysconfig.get_path("stdlib")))
    modules: frozenset[str] = sys.stdlib_module_names
    unreadable: list[str] = field(default_factory=list)

    def files(self) -> list[str]:
        """Paths of the `.py` files, relative and sorted; CorpusError where there are none."""
        tops = [path for path in self.root.iterdir() if path.name.removesuffix(".py") in self.modules]
        paths = [path for top in tops for path in (top.rglob("*.py") if top.is_dir() else [top])]
        names = (path.relative_to(self.root) for path in paths if path.suffix == ".py")
        files = sorted(name.as_posix() for name in names if not EXCLUDED.intersection(name.parts))
        if not files:
            raise CorpusError(f"{self.root} has no standard library in `.py` files: install Python with its library")
        return files

    def content_hash(self) -> str:
        """Hash of all that the corpus is made from: the files' bytes, their grouping, and how they are taken apart."""
        files = self.files()
        digests = {name: hashlib.sha256((self.root / name).read_bytes()).hexdigest() for name in files}
        areas = {name: area_of(_key(name)) for name in files}
        return content_hash("python_stdlib", _VERSION, digests, areas, list(sys.version_info[:2]))

    def documents(self) -> Iterator[Document]:
        """All documents, file by file in the order of their paths."""
        self.unreadable.clear()
        for name in self.files():
            try:
                source = (self.root / name).read_text(encoding="utf-8")
                tree = ast.parse(source)
            except (UnicodeDecodeError, SyntaxError, ValueError):
                self.unreadable.append(name)
                continue
            if name == _TOPICS:
                yield from _topics(tree)
            elif _key(name) != REFERENCE:
                yield from _documents(name, source, tree)


def _key(name: str) -> str:
    return name.partition("/")[0].removesuffix(".py")


def _topics(tree: ast.Module) -> Iterator[Document]:
    """The topics of the language reference: the one dictionary that the file assigns, read without running it."""
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Dict):
            for topic, text in sorted(ast.literal_eval(statement.value).items()):
                yield Document(f"reference/{topic}", text, "reference", REFERENCE, area_of(REFERENCE), _TOPICS)


def _documents(name: str, source: str, tree: ast.Module) -> Iterator[Document]:
    """A file's docstrings, in the order of the file, and its source."""
    key = _key(name)
    area = area_of(key)
    taken: dict[str, int] = {}
    for qualified_name, node in _documented(tree, ""):
        docstring = ast.get_docstring(node)
        if docstring:
            # A name may be bound more than once: both branches of an `if`, the setter of a property.
            taken[qualified_name] = taken.get(qualified_name, 0) + 1
            count = f"#{taken[qualified_name]}" if taken[qualified_name] > 1 else ""
            yield Document(f"docstring/{name}:{qualified_name}{count}", docstring, "docstring", key, area, name)
    if source.strip():
        yield Document(f"source/{name}", source, "source", key, area, name)


def _documented(node: ast.AST, prefix: str) -> Iterator[tuple[str, _Documented]]:
    """Modules, classes and functions at any depth, with their qualified names ("" for the module)."""
    if isinstance(node, ast.Module):
        yield "", node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{prefix}.{child.name}" if prefix else child.name
            yield name, child
            yield from _documented(child, name)
        else:
            yield from _documented(child, prefix)
