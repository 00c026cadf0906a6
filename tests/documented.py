"""The worked example of docs/tasks.md as the file that it says it is."""

import re
from pathlib import Path

__all__ = ["DOCS", "write_example"]

DOCS = Path(__file__).parents[1] / "docs/tasks.md"


def write_example(folder: Path) -> Path:
    """Writes `similarity.py`, word for word as it is documented."""
    blocks = re.findall(r"^```python\n(.*?)^```$", DOCS.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    [example] = [block for block in blocks if block.startswith('"""similarity.py')]
    file = folder / "similarity.py"
    file.write_text(example, encoding="utf-8")
    return file
