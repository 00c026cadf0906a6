"""What is already in the input: the source as its own translation, the beginning of a document as its summary."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmcore.evaluation.results import Evaluation
from llmcore.evaluation.score import Predictions, predictions_table
from llmcore.storage import content_hash
from llmcore.tasks.columns import KINDS
from llmcore.tokens.sentences import sentences

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["COPY_SOURCE", "LEAD_3", "Copies"]

_NUM_LEADING = 3


@dataclass(frozen=True)
class Copies:
    """A baseline that writes what it reads.

    Attributes:
        name: Its name in configurations.
        kind: The kind of task it is for.
        column: What it reads.
        copied: From a text to what it writes.
        version: Raised when it writes another text.
    """

    name: str
    kind: str
    column: str
    copied: Callable[[str], str]
    version: int = 1

    @property
    def model_sha256(self) -> str:
        """The hash of what it is made of: it has learnt nothing."""
        return content_hash(self.name, self.version)

    def predict(self, rows: "pa.Table") -> Predictions:
        """Predictions for all rows."""
        written = [self.copied(text) for text in rows[self.column].to_pylist()]
        table = predictions_table(KINDS[self.kind].references, rows, {"prediction": written})
        return Predictions(table, num_truncated=0)

    def describe(self, _: Evaluation) -> dict[str, str]:
        """Nothing beyond its name."""
        return {}


def _lead(text: str) -> str:
    """The first three lines that say something, as the turns of a dialogue; of a text of one line, its sentences."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) == 1:
        lines = [sentence.strip() for sentence in sentences(lines[0])]
    return " ".join(lines[:_NUM_LEADING])


COPY_SOURCE = Copies("copy_source", "translation", "source", lambda text: text)
LEAD_3 = Copies("lead_3", "summarization", "document", _lead)
