"""A model that writes answers, in memory."""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmcore.config.generation import GenerationSettings
from llmcore.tasks.base import Reader

if TYPE_CHECKING:
    import pyarrow as pa

    from llmcore.models.generation import Generator
    from llmcore.tasks.text_to_text import TextToText

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
        """`prediction`, the text; of the true answer `loss_sum` (nats), `num_tokens` and `num_bytes`.

        Where several answers are drawn, `predictions` has all of them, and `prediction` the first. What is drawn for a
        row is keyed by its id: neither the other rows nor who else answers some of them has a part in it.
        """
        examples, num_truncated = self.task.judged(self.reader, rows)
        settings = self.generation.model_copy(update={"batch_tokens": batch_tokens})
        prompts = [example.prompt for example in examples]
        generated = self.generator.generate(prompts, settings, rows=[_key(name) for name in rows["id"].to_pylist()])
        columns: dict[str, Any] = {"prediction": [told[0].text for told in generated.answers]}
        if settings.samples > 1:
            columns["predictions"] = [[one.text for one in told] for told in generated.answers]
        scored = self.generator.score(prompts, [example.answer for example in examples], batch_tokens=batch_tokens)
        columns |= {
            "loss_sum": [loss for loss, _ in scored],
            "num_tokens": [num_tokens for _, num_tokens in scored],
            "num_bytes": [example.num_bytes for example in examples],
        }
        return columns, max(num_truncated, generated.num_cut)


def _key(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())
