"""The worked example of docs/tasks.md as the file that it says it is, and as an installed distribution."""

import re
import tomllib
from pathlib import Path

__all__ = ["DOCS", "install_example", "write_example"]

DOCS = Path(__file__).parents[1] / "docs/tasks.md"


def _block(language: str, begins: str) -> str:
    """The one block of code of a language that begins so."""
    blocks = re.findall(
        rf"^```{language}\n(.*?)^```$", DOCS.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    [found] = [block for block in blocks if block.startswith(begins)]
    return str(found)


def write_example(folder: Path) -> Path:
    """Writes `similarity.py`, word for word as it is documented."""
    example = _block("python", '"""similarity.py')
    file = folder / "similarity.py"
    file.write_text(example, encoding="utf-8")
    return file


def install_example(site: Path) -> None:
    """Leaves in a folder of packages what an installer leaves of a distribution with the documented entry point."""
    site.mkdir()
    write_example(site)
    [(group, points)] = tomllib.loads(_block("toml", "[project.entry-points"))["project"]["entry-points"].items()
    about = site / "similarity-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: similarity\nVersion: 1.0\n", encoding="utf-8")
    lines = [f"{name} = {value}" for name, value in points.items()]
    (about / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]), encoding="utf-8")
