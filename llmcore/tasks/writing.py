"""A model that writes answers, in memory."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmcore.config.generation import GenerationSettings
from llmcore.tasks.base import Reader

if TYPE_CHECKING:
    import pyarrow as pa

    from llmcore.models.generation import Generator
    from llmcore.tasks.text_to_text import TextToText, WrittenExample

__all__ = ["WritingPredictor"]


@dataclass(frozen=True)
class WritingPredictor:
    """Writes an answer to each row, and says how likely it finds the true one."""

    task: "TextToText"
    generator: "Generator"
    generation: GenerationSettings

    @property
    def reader(self) -> Reader:
        """How the model reads."""
        return Reader(self.generator.tokenizer, self.generator.model.config)

    def predict(self, rows: "pa.Table", *, batch_tokens: int) -> tuple[dict[str, Any], int]:
        """`prediction`, the text; of the true answer, or answers, `loss_sum` (nats), `num_tokens` and `num_bytes`.

        Where several answers are drawn, `predictions` has all of them, and `prediction` the first. What is drawn for a
        row is keyed by its id: neither the other rows nor who else answers some of them has a part in it.
        """
        examples, num_truncated = self.task.judged(self.reader, rows)
        settings = self.generation.model_copy(update={"batch_tokens": batch_tokens})
        prompts = [example.asked or example.prompt for example in examples]
        generated = self.generator.generate(prompts, settings, rows=[_key(name) for name in rows["id"].to_pylist()])
        columns: dict[str, Any] = {"prediction": [told[0].text for told in generated.answers]}
        if settings.samples > 1:
            columns["predictions"] = [[one.text for one in told] for told in generated.answers]
        columns |= {
            "loss_sum": self._losses(examples, batch_tokens),
            "num_tokens": [sum(example.is_learnt) for example in examples],
            "num_bytes": [example.num_bytes for example in examples],
        }
        return columns, max(num_truncated, generated.num_cut)

    def _losses(self, examples: Sequence["WrittenExample"], batch_tokens: int) -> list[float]:
        """Of each example, how unlikely all is that is learnt of it (nats), each part behind what truly precedes it."""
        parts = [(row, *part) for row, example in enumerate(examples) for part in example.learnt_parts]
        _, before, learnt = zip(*parts, strict=True)
        sums = [0.0] * len(examples)
        scored = self.generator.score(before, learnt, batch_tokens=batch_tokens)
        for (row, *_), (loss, _) in zip(parts, scored, strict=True):
            sums[row] += loss
        return sums


def _key(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())
