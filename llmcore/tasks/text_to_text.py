"""Tasks whose answers are written: a prompt made of columns, and the answer that follows it, which alone is learnt.

A decoder reads the prompt and goes on with the answer; of an encoder-decoder the encoder reads the prompt, and the
decoder writes the answer. Which of the two a model is, its config says.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from llmcore.config.generation import GenerationSettings
from llmcore.config.pretrain import FAMILIES
from llmcore.config.template import check_template, parts_of
from llmcore.errors import ConfigError
from llmcore.tasks.base import Features, Judged, Predictor, Reader, Task
from llmcore.tasks.examples import writer_example
from llmcore.tasks.framing import framing_tokenizer
from llmcore.tasks.prompts import fitted_prompt, rendered_prompts
from llmcore.tasks.writing import WritingPredictor

if TYPE_CHECKING:
    import pyarrow as pa
    import torch
    from torch import nn

    from llmcore.config.task import TaskSettings
    from llmcore.cost.flops import Work
    from llmcore.models.encoder_decoder import PackedPair
    from llmcore.models.initialize import Home
    from llmcore.models.packed import PackedBatch
    from llmcore.tasks.base import SetFacts

__all__ = ["TextToText", "WrittenBatch", "WrittenExample"]


class WrittenExample(NamedTuple):
    """A document of which parts are learnt.

    Attributes:
        prompt: Tokens that are read: of a decoder they begin the document, of an encoder-decoder the encoder has them.
        answer: Tokens that are written.
        is_learnt: For each token of the answer, whether it is a target.
        num_bytes: Of the learnt text, as UTF-8, what was cut off an answer included.
        encoded: Whether the prompt is the encoder's.
        asked: Tokens that a model goes on from where it is to write itself; None: the prompt.
    """

    prompt: Sequence[int]
    answer: Sequence[int]
    is_learnt: Sequence[bool]
    num_bytes: int
    encoded: bool = False
    asked: Sequence[int] | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens that are read and written."""
        return len(self.prompt) + len(self.answer)

    @property
    def learnt_parts(self) -> Iterator[tuple[Sequence[int], Sequence[int]]]:
        """Each run of learnt tokens, behind all that stands before it."""
        ends = [number for number in range(1, len(self.answer)) if self.is_learnt[number] != self.is_learnt[number - 1]]
        for begin, end in pairwise([0, *ends, len(self.answer)]):
            if self.is_learnt[begin]:
                yield [*self.prompt, *self.answer[:begin]], self.answer[begin:end]


@dataclass(frozen=True)
class WrittenBatch:
    """Documents end to end, without padding; where the targets are in what is written, and what they are.

    Attributes:
        packed: Of a decoder, all documents; of an encoder-decoder, what is read and what is written.
        places: int64 [targets], of a decoder the tokens before the targets, of an encoder-decoder the targets
            themselves, in the flattened rows.
        targets: int64 [targets].
    """

    packed: "PackedBatch | PackedPair"
    places: "torch.Tensor"
    targets: "torch.Tensor"

    @property
    def num_places(self) -> int:
        """Tokens that go through the model, padding included."""
        return self.packed.num_places()

    def to(self, device: "torch.device") -> "WrittenBatch":
        """The same batch on a device."""
        return WrittenBatch(self.packed.to(device), self.places.to(device), self.targets.to(device))


@dataclass(frozen=True)
class TextToText(Task[WrittenExample, WrittenBatch]):
    """What tasks share whose answers are written. A kind says its columns, its prompt and what judges its answers.

    Attributes:
        prompt: A template of columns; what stands after its last column is never cut off.
        max_answer_tokens: Longest answer that is learnt, its end included.
    """

    prompt: str = ""
    max_answer_tokens: int = 0

    validation_metrics: ClassVar[tuple[str, ...]] = ("perplexity", "bits_per_byte")
    settings: ClassVar[tuple[str, ...]] = ("prompt", "max_answer_tokens")
    default_prompt: ClassVar[str]
    """The prompt where the settings give none."""
    answer_column: ClassVar[str]
    """The column that has the answer."""
    pipeline_tag: ClassVar[str] = "text-generation"

    @classmethod
    def from_data(cls, settings: "TaskSettings", data: "SetFacts") -> dict[str, Any]:
        """The prompt, checked against the columns of the kind, and the room for answers."""
        prompt = cls.default_prompt if settings.prompt is None else settings.prompt
        try:
            check_template(prompt)
        except ValueError as error:
            raise ConfigError(f"task.prompt={prompt!r}: {error}") from error
        readable = [
            column.name
            for column in cls.set_kind.columns
            if column.shape == "text" and column.name != cls.answer_column
        ]
        named = [name for _, name in parts_of(prompt) if name is not None]
        if not named or set(named) - set(readable):
            raise ConfigError(f"task.prompt={prompt!r} names {named}: a {cls.kind} prompt is made of {readable}")
        return {"prompt": prompt, "max_answer_tokens": settings.max_answer_tokens or settings.max_tokens // 2}

    def check_family(self, family: str, *, encodes_and_decodes: bool) -> None:
        """Raises ConfigError for an encoder, which reads and cannot write."""
        if family in FAMILIES["masked_lm"]:
            raise ConfigError(
                f"base is a {family}, an encoder, which cannot write: task.kind={self.kind} takes a decoder or an "
                "encoder-decoder"
            )

    def build_model(self, folder: Path, *, seed: int, random_weights: bool, home: "Home | None" = None) -> "nn.Module":
        """The base model with its own head, or its architecture with random weights.

        Raises:
            ConfigError: The base model cannot write, as a BERT cannot.
        """
        from llmcore.models.build import build_writer

        return build_writer(folder, seed=seed, random_weights=random_weights, home=home)

    def answer_texts(self, rows: "pa.Table") -> list[str]:
        """The answer of each row."""
        return rows[self.answer_column].to_pylist()  # type: ignore[no-any-return]

    def features(self, reader: Reader, rows: "pa.Table") -> Features:
        """Prompts and answers, cut so that they fit: an answer to its room, then a prompt to what is left of it."""
        return self.written(reader, rows, self.answer_texts(rows))

    def written(self, reader: Reader, rows: "pa.Table", texts: Sequence[str], *, room: int | None = None) -> Features:
        """The same with any texts for answers; a prompt has `room`, where it is given, whatever its answer needs."""
        prompts = self.prompts(reader, rows)
        encoded = bool(reader.config.is_encoder_decoder)
        examples, num_truncated = [], 0
        for (body, tail), text, answer in zip(prompts, texts, reader.tokens(texts), strict=True):
            kept = answer[: self.max_answer_tokens - 1]
            left = self.max_tokens - (0 if encoded else len(kept) + 1)
            prompt, was_cut = fitted_prompt(reader, body, tail, left if room is None else room, encoded=encoded)
            num_truncated += was_cut or len(kept) < len(answer)
            written = [*kept, reader.end]
            examples.append(WrittenExample(prompt, written, [True] * len(written), len(text.encode()), encoded))
        return Features(examples, num_truncated)

    def judged(self, reader: Reader, rows: "pa.Table") -> Features:
        """The same, but a prompt leaves room for any answer: how long the true one is, none of them tells."""
        return self.written(reader, rows, self.answer_texts(rows), room=self.room_for_prompts(reader))

    def room_for_prompts(self, reader: Reader) -> int:
        """Tokens of a prompt, at most: as many as any has that is learnt from, and a decoder has positions for behind
        which there is room for the longest answer.
        """
        from llmcore.models.generation.prompts import num_positions

        positions = num_positions(reader.config)
        if reader.config.is_encoder_decoder:
            return self.max_tokens
        return (
            self.max_tokens - 1 if positions is None else min(self.max_tokens - 1, positions - self.max_answer_tokens)
        )

    def prompts(self, reader: Reader, rows: "pa.Table") -> list[tuple[list[int], list[int]]]:
        """Of each row, the prompt's tokens up to its last column, which may be cut, and those after it."""
        bodies, tail = rendered_prompts(self.prompt, rows)
        return [(body, reader.tokens([tail])[0] if tail else []) for body in reader.tokens(bodies)]

    def without_target(self, example: WrittenExample) -> WrittenExample:
        """One token that is read, and one that is written."""
        return WrittenExample(
            example.prompt[-1:] or example.answer[-1:], example.answer[-1:], [False], 0, example.encoded
        )

    def collate(self, examples: Sequence[WrittenExample]) -> WrittenBatch:
        """All examples as documents of packed rows."""
        import torch

        from llmcore.models.encoder_decoder import PackedPair
        from llmcore.models.packed import PackedBatch

        encoded = examples[0].encoded
        written = [example.answer if encoded else [*example.prompt, *example.answer] for example in examples]
        packed = PackedBatch.of_documents(written)
        learnt = bytearray().join(bytes(0 if encoded else len(one.prompt)) + bytes(one.is_learnt) for one in examples)
        targets = torch.frombuffer(learnt, dtype=torch.bool).nonzero().squeeze(1)
        tokens = packed.tokens.flatten()[targets]
        if encoded:
            read = PackedBatch.of_documents([example.prompt for example in examples])
            return WrittenBatch(PackedPair(read, packed), targets, tokens)
        return WrittenBatch(packed, targets - 1, tokens)

    def num_targets(self, batch: WrittenBatch) -> tuple[int]:
        """Tokens that are learnt."""
        return (len(batch.targets),)

    def num_tokens(self, batch: WrittenBatch) -> int:
        """Tokens that are read and written."""
        return batch.packed.num_tokens()

    def work(self, batch: WrittenBatch) -> "Work":
        """What the documents ask of a model, whose head reads the places of the targets."""
        return batch.packed.work(predicted=len(batch.targets))

    def logits(self, model: Any, batch: WrittenBatch) -> "torch.Tensor":
        """What the model says of each target, [targets, vocabulary]."""
        from llmcore.models.encoder_decoder import encoder_decoder_logits
        from llmcore.models.packed import PackedBatch, hidden_states

        if isinstance(batch.packed, PackedBatch):
            hidden = hidden_states(model, batch.packed).flatten(0, 1)[batch.places]
            return model.get_output_embeddings()(hidden)  # type: ignore[no-any-return]
        return encoder_decoder_logits(model, batch.packed)[batch.places]

    def loss_sums(self, model: Any, batch: WrittenBatch) -> "torch.Tensor":
        """Sum of the cross-entropies of the learnt tokens (nats), [1]."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(self.logits(model, batch).float(), batch.targets, reduction="sum")[None]

    def judge(self, model: Any, examples: Sequence[Any], device: "torch.device") -> Judged:
        """Loss; of each example also that of its answer, with its tokens and bytes."""
        import pyarrow as pa

        losses = self.answer_losses(model, examples, device)
        counts = [sum(example.is_learnt) for example in examples]
        columns = {
            "loss_sum": losses,
            "num_tokens": counts,
            "num_bytes": [example.num_bytes for example in examples],
        }
        return Judged(sum(losses), sum(counts), pa.table(columns))

    def answer_losses(self, model: Any, examples: Sequence[WrittenExample], device: "torch.device") -> list[float]:
        """Of each example, the sum of the cross-entropies of its learnt tokens (nats)."""
        import numpy as np
        import torch
        from torch.nn.functional import cross_entropy

        batch = self.collate(examples).to(device)
        with torch.inference_mode():
            losses = cross_entropy(self.logits(model, batch).float(), batch.targets, reduction="none").cpu().numpy()
        ends = np.cumsum([sum(example.is_learnt) for example in examples])
        return [float(part.sum()) for part in np.split(losses.astype(np.float64), ends[:-1])]

    def predictor(self, folder: Path, generation: GenerationSettings | None = None) -> Predictor:
        """A trained model from its exported folder; it writes the likeliest tokens, or as `generation` says.

        In any case no more of them than were learnt: an answer's end was learnt to be there at the latest.
        """
        from llmcore.models.generation import Generator

        longest = self.max_answer_tokens
        asked = generation or GenerationSettings(max_new_tokens=longest)
        asked = asked.model_copy(update={"max_new_tokens": min(asked.max_new_tokens, longest)})
        return WritingPredictor(self, Generator.load(folder), asked)

    def tokenizer(self, reader: Reader) -> Any:
        """Of an encoder-decoder one that ends texts; a decoder goes on with them."""
        return framing_tokenizer(reader) if reader.config.is_encoder_decoder else reader.tokenizer

    def told(self) -> str:
        """The prompt."""
        return f"A prompt is {self.prompt!r}, filled with the columns of a row; what follows it is the answer."

    def example(self, reader: Reader) -> str:
        """An answer to the prompt of a made-up row."""
        return writer_example(reader, self.example_prompt(), self.max_answer_tokens)

    def example_prompt(self) -> str:
        """The prompt of a made-up row."""
        return "".join(text + (_SAID if name is not None else "") for text, name in parts_of(self.prompt))


_SAID = "A cat sits on the mat."
