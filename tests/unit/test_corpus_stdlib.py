import ast
import sys
import sysconfig
from pathlib import Path

import pytest

from llmcore.corpus.areas import AREAS, CHAPTERS, area_of
from llmcore.corpus.builtin import publish_stdlib
from llmcore.corpus.read import DocumentReader
from llmcore.corpus.shards import find_shards
from llmcore.corpus.stdlib import Document, StdlibCorpus
from llmcore.errors import CorpusError
from llmcore.storage import Folder, read_manifest

MODULE = '''"""A module."""
class Queue:
    """A queue."""
    def get(self):
        """Take one."""
        def inner():
            """Inside."""
    @property
    def size(self):
        """How many."""
    @size.setter
    def size(self, value):
        """How many there may be."""
if True:
    async def wait():
        """Wait."""
def silent(): pass
'''
TOPICS = "topics = {'with': 'The with statement', 'assert': 'The \\\"assert\\\" statement'}\n"


@pytest.fixture
def library(tmp_path: Path) -> StdlibCorpus:
    root = tmp_path / "lib"
    files = {
        "queue.py": MODULE,
        "json/__init__.py": "",
        "json/decoder.py": "raise SystemExit  # never run\n",
        "json/tests/test_it.py": '"""A test."""',
        "test/test_queue.py": '"""A test."""',
        "tkinter/__init__.py": '"""A GUI."""',
        "sitecustomize.py": '"""Of the distribution."""',
        "site-packages/requests.py": '"""Of the user."""',
        "pydoc_data/topics.py": TOPICS,
        "pydoc_data/__init__.py": "# nothing\n",
        "csv.py": "print 'of another Python'\n",
        "wave.py": "",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "uu.py").write_bytes(b"# \xff\xfe\n")
    return StdlibCorpus(root)


def test_every_docstring_source_and_topic_is_a_document(library: StdlibCorpus) -> None:
    found = {document.id: document for document in library.documents()}
    docstrings = {
        name: found[f"docstring/queue.py:{name}"].text for name in ("", "Queue", "Queue.get", "Queue.get.inner")
    }
    assert docstrings == {"": "A module.", "Queue": "A queue.", "Queue.get": "Take one.", "Queue.get.inner": "Inside."}
    assert found["docstring/queue.py:Queue.size#2"].text == "How many there may be."
    assert found["docstring/queue.py:wait"].text == "Wait."
    assert found["source/queue.py"] == Document("source/queue.py", MODULE, "source", "queue", "concurrency", "queue.py")
    assert found["source/json/decoder.py"].key == "json"
    assert found["reference/assert"].text == 'The "assert" statement'
    assert (found["reference/assert"].key, found["reference/assert"].area) == ("pydoc_data", None)
    assert len(found) == 7 + 2 + 2, "nothing of tests, GUI, distribution and user, nor the reference's source"
    assert library.unreadable == ["csv.py", "uu.py"]


def test_the_hash_is_of_the_files(library: StdlibCorpus) -> None:
    before = library.content_hash()
    assert StdlibCorpus(library.root).content_hash() == before
    (library.root / "site-packages" / "requests.py").write_text("other")
    assert library.content_hash() == before
    (library.root / "wave.py").write_text("x = 1")
    assert library.content_hash() != before


def test_no_library_is_said(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="has no standard library"):
        StdlibCorpus(tmp_path).files()


def test_it_is_written_as_shards_and_read_like_anyones(library: StdlibCorpus, tmp_path: Path) -> None:
    folder = publish_stdlib(Folder(str(tmp_path / "storage")), library)
    assert folder.url.endswith(f"artifacts/corpora/{library.content_hash()}")
    manifest = read_manifest(folder)
    assert manifest is not None
    assert manifest.about["unreadable"] == ["csv.py", "uu.py"]
    assert manifest.about["num_documents"] == {"docstring": 7, "reference": 2, "source": 2}
    reader = DocumentReader("std", 0, "text", key="key", stratum="area", fields=("kind", "path"))
    read = [
        row for n, s in enumerate(find_shards("std", folder.url)) for t in reader.read(s, n) for row in t.to_pylist()
    ]
    assert [(row["id"], row["text"], row["key"], row["stratum"], row["field.kind"]) for row in read] == [
        (f"std/{d.id}", d.text, d.key, d.area, d.kind) for d in library.documents()
    ]
    library.root = tmp_path / "gone"
    again = StdlibCorpus(tmp_path / "lib")
    assert publish_stdlib(Folder(str(tmp_path / "storage")), again) == folder


def test_this_interpreters_library_is_there() -> None:
    corpus = StdlibCorpus()
    files = corpus.files()
    assert {"json/decoder.py", "asyncio/queues.py", "pydoc_data/topics.py"} <= set(files)
    assert not [
        name for name in files if name.split("/")[0] in ("test", "idlelib", "distutils", "lib2to3", "site-packages")
    ]


def test_every_module_with_docstrings_has_an_area() -> None:
    """Parses one file of each module, which is enough: those without an area are few, and have a reason."""
    root = Path(sysconfig.get_path("stdlib"))
    modules = {name.split("/")[0].removesuffix(".py") for name in StdlibCorpus().files()}
    without = {module for module in modules if area_of(module) is None}
    assert without <= {"antigravity", "this", "pydoc_data"}
    for module in without - {"pydoc_data"}:
        tree = ast.parse((root / f"{module}.py").read_text(encoding="utf-8"))
        assert sum(ast.get_docstring(n) is not None for n in tree.body if isinstance(n, ast.FunctionDef)) <= 1


def test_chapters_and_areas_are_a_partition() -> None:
    named = [module for modules in CHAPTERS.values() for module in modules.split()]
    assert len(named) == len(set(named))
    assert set(named) <= sys.stdlib_module_names
    grouped = [chapter for chapters in AREAS.values() for chapter in chapters]
    assert sorted(grouped) == sorted(CHAPTERS)
    assert 6 <= len(AREAS) <= 10
    assert area_of("_pydecimal") == area_of("decimal") and area_of("_pyio") == area_of("io")
