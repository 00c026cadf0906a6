"""Where in a context the answer to a question stands, or that it stands nowhere (SQuAD 1.1 and 2.0)."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from llmcore.errors import ConfigError, CorpusError
from llmcore.tasks.base import Features, Judged, Reader, SetFacts, Task, batches_of
from llmcore.tasks.columns import KINDS, SetKind
from llmcore.tasks.examples import span_example
from llmcore.tasks.heads import load_head
from llmcore.tasks.spans import NO_ANSWER, QuestionExample, Span, Window, best_span

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from llmcore.config.task import TaskSettings
    from llmcore.cost.flops import Work
    from llmcore.models.initialize import Home
    from llmcore.models.packed import PackedBatch

__all__ = ["QuestionAnswering", "SpanBatch", "SpanPredictor"]

_ROWS_TOGETHER = 128
"""Questions whose windows a reader has in memory at once; a paper has some thirty."""
_QUESTION_SHARE = 2
"""A question longer than half a window is cut: something of the context must be in it."""


@dataclass(frozen=True)
class SpanBatch:
    """Windows as the documents of a packed row; first and last token of each answer in the flattened row, int64 [n].

    Where a window has no target both are -1.
    """

    packed: "PackedBatch"
    starts: "torch.Tensor"
    stops: "torch.Tensor"
    num_targets: int

    @property
    def num_places(self) -> int:
        """Tokens that go through the model, padding included."""
        return self.packed.num_places()

    def to(self, device: "torch.device") -> "SpanBatch":
        """The same batch on a device."""
        return SpanBatch(self.packed.to(device), self.starts.to(device), self.stops.to(device), self.num_targets)

    def by_window(self, scores: "torch.Tensor") -> "list[NDArray[np.float32]]":
        """Of each window, both scores of each of its tokens: [tokens, 2], of those of all."""
        import torch

        return [part.numpy() for part in torch.split(scores.cpu(), list(self.packed.lengths))]


@dataclass(frozen=True)
class QuestionAnswering(Task[Window, SpanBatch]):
    """The answer is a span of the context: a head says of each token how likely it is its first, and its last.

    Devlin et al., 2019, sections 4.2 and 4.3: where there is no answer, the span is the first token. Contexts longer
    than a window are read in windows that overlap; the best span of all of them is the answer.

    Attributes:
        stride: Tokens that neighbouring windows share.
        answerless_windows: Of each question, how many windows without its answer are learnt, drawn by its id; a long
            context has many, which say little (Alberti et al., 2019, "A BERT Baseline for the Natural Questions",
            section 3). None: all.
        max_answer_tokens: Longest span that is considered.
        null_threshold: A question has no answer where the first token scores higher than the best span by more.
    """

    stride: int = 0
    answerless_windows: int | None = None
    max_answer_tokens: int = 30
    null_threshold: float = 0.0

    kind: ClassVar[str] = "question_answering"
    set_kind: ClassVar[SetKind] = KINDS[kind]
    metrics: ClassVar[tuple[str, ...]] = ("squad2_f1", "squad2_exact_match")
    validation_metrics: ClassVar[tuple[str, ...]] = ("squad2_f1", "squad2_exact_match")
    settings: ClassVar[tuple[str, ...]] = ("stride", "answerless_windows", "max_answer_tokens")
    pipeline_tag: ClassVar[str] = "question-answering"

    @classmethod
    def from_data(cls, settings: "TaskSettings", data: SetFacts) -> dict[str, Any]:
        """A quarter of a window is shared, where nothing else is said."""
        return {"stride": settings.stride or max(1, settings.max_tokens // 4)}

    def check_family(self, family: str, *, encodes_and_decodes: bool) -> None:
        """Raises ConfigError for an encoder-decoder, of which no head here reads."""
        if encodes_and_decodes:
            raise ConfigError(
                f"base is a {family}, an encoder-decoder: task.kind={self.kind} takes an encoder or a decoder"
            )

    def build_model(self, folder: Path, *, seed: int, random_weights: bool, home: "Home | None" = None) -> "nn.Module":
        """The base model's architecture under a new head. Raises ConfigError for one that has none for spans."""
        from llmcore.models.build import build_span_reader

        return build_span_reader(folder, seed=seed, random_weights=random_weights, home=home)

    def features(self, reader: Reader, rows: "pa.Table") -> Features:
        """The windows of every question, to learn from: one without the answer learns that it has none.

        Raises:
            CorpusError: An answer is not where the row says; it names the row.
        """
        learnt: list[Window] = []
        num_cut = 0
        for name, (windows, was_cut) in zip(_names(rows), self._questions(reader, rows), strict=True):
            learnt += self._learnt(name, windows)
            num_cut += was_cut
        return Features(learnt, num_cut)

    def _learnt(self, name: str, windows: list[Window]) -> list[Window]:
        """All windows with the answer, and as many of the others as are asked for, in their order."""
        if self.answerless_windows is None:
            return windows
        without = [number for number, window in enumerate(windows) if window.span == NO_ANSWER]
        drawn = random.Random(name).sample(without, min(self.answerless_windows, len(without)))
        return [window for number, window in enumerate(windows) if window.span != NO_ANSWER or number in drawn]

    def judged(self, reader: Reader, rows: "pa.Table") -> Features:
        """Each question with its windows."""
        found = list(self._questions(reader, rows))
        told = zip(found, rows["context"].to_pylist(), _answers(rows), strict=True)
        examples = [
            QuestionExample(tuple(windows), context, tuple(text for text, _ in answers))
            for (windows, _), context, answers in told
        ]
        return Features(examples, sum(was_cut for _, was_cut in found))

    def _questions(self, reader: Reader, rows: "pa.Table") -> Iterator[tuple[list[Window], bool]]:
        """The windows of each question, and whether it was cut."""
        if not reader.tokenizer.is_fast:
            raise ConfigError(
                "task.kind=question_answering needs a fast tokenizer, which knows each token's characters"
            )
        questions, contexts = (rows[name].to_pylist() for name in ("question", "context"))
        for name, question, context, answers in zip(_names(rows), questions, contexts, _answers(rows), strict=True):
            for text, start in answers:
                if context[start : start + len(text)] != text:
                    raise CorpusError(f"question {name!r}: {text!r} does not stand at character {start} of its context")
            asked, was_cut = self._cut(reader, question)
            yield list(self._windows(reader, asked, context, answers[0] if answers else None)), was_cut

    def _cut(self, reader: Reader, question: str) -> tuple[str, bool]:
        """A question no longer than its share of a window."""
        tokens = reader.tokenizer(question, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        room = self.max_tokens // _QUESTION_SHARE
        offsets = tokens["offset_mapping"]
        return (question, False) if len(offsets) <= room else (question[: offsets[room - 1][1]], True)

    def _windows(self, reader: Reader, question: str, context: str, answer: tuple[str, int] | None) -> Iterator[Window]:
        encoded = reader.tokenizer(
            question,
            context,
            truncation="only_second",
            max_length=self.max_tokens,
            stride=min(self.stride, self.max_tokens // 4),
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            split_special_tokens=True,
            verbose=False,
        )
        wanted = None if answer is None else (answer[1], answer[1] + len(answer[0]))
        for number, tokens in enumerate(encoded["input_ids"]):
            of_context = [at for at, sequence in enumerate(encoded.sequence_ids(number)) if sequence == 1]
            offsets = [encoded["offset_mapping"][number][at] for at in of_context]
            first = of_context[0] if of_context else 0
            types = encoded["token_type_ids"][number] if "token_type_ids" in encoded else []
            span = _tokens_of(offsets, wanted, first)
            begins, ends = ([int(offset[side]) for offset in offsets] for side in (0, 1))
            yield Window(tokens, types, first, begins, ends, span)

    def without_target(self, example: Window) -> Window:
        """The last token of a window."""
        return Window(example.tokens[-1:], example.types[-1:], 0, [], [])

    def collate(self, examples: Sequence[Window]) -> SpanBatch:
        """Windows as the documents of one packed row."""
        from dataclasses import replace

        import torch

        from llmcore.models.packed import PackedBatch

        packed = PackedBatch.of_documents([window.tokens for window in examples])
        if any(1 in window.types for window in examples):
            types = [kind for window in examples for kind in window.types]
            packed = replace(packed, token_types=torch.tensor([types]))
        begins = torch.tensor(packed.lengths).cumsum(0) - torch.tensor(packed.lengths)
        spans = torch.tensor([window.span if window.span is not None else (-1, -1) for window in examples])
        starts, stops = torch.where(spans >= 0, spans + begins[:, None], -1).unbind(1)
        return SpanBatch(packed, starts, stops, int((starts >= 0).sum()))

    def num_targets(self, batch: SpanBatch) -> tuple[int]:
        """Windows that have a target."""
        return (batch.num_targets,)

    def num_tokens(self, batch: SpanBatch) -> int:
        """Tokens of the windows."""
        return batch.packed.num_tokens()

    def work(self, batch: SpanBatch) -> "Work":
        """What the windows ask of a model, whose head reads each of their tokens."""
        return batch.packed.work(predicted=batch.packed.num_tokens())

    def loss_sums(self, model: Any, batch: SpanBatch) -> "torch.Tensor":
        """Sum over windows of the mean of the two cross-entropies, that of the first token and of the last, [1]."""
        return self._losses(self.scores(model, batch), batch).sum()[None]

    def scores(self, model: Any, batch: SpanBatch) -> "torch.Tensor":
        """Of each token of the windows, how likely it is to be an answer's first, and its last: fp32 [tokens, 2]."""
        from llmcore.models.packed import span_logits

        return span_logits(model, batch.packed).float()

    def _losses(self, scores: "torch.Tensor", batch: SpanBatch) -> "torch.Tensor":
        """Of each window, zero where it has no target."""
        log_starts, log_stops = _log_softmax_by_window(scores, batch)
        both = log_starts[batch.starts.clamp(min=0)] + log_stops[batch.stops.clamp(min=0)]
        return -(both * (batch.starts >= 0)) / 2

    def answer(self, example: QuestionExample, scores: "Sequence[NDArray[np.float32]]") -> Span:
        """The best span of all windows, or none."""
        return best_span(example, scores, max_tokens=self.max_answer_tokens, null_threshold=self.null_threshold)

    def judge(self, model: Any, examples: Sequence[Any], device: "torch.device") -> Judged:
        """Loss of the windows; of each question its answers, and what was told."""
        import pyarrow as pa
        import torch

        batch = self.collate([window for example in examples for window in example.windows]).to(device)
        with torch.inference_mode():
            scores = self.scores(model, batch)
            loss = float(self._losses(scores, batch).sum())
        left = iter(batch.by_window(scores))
        told = [self.answer(example, [next(left) for _ in example.windows]) for example in examples]
        answers = [[{"text": text} for text in example.answers] for example in examples]
        columns = {
            "answers": pa.array(answers, pa.list_(pa.struct([("text", pa.string())]))),
            "prediction": [span.text for span in told],
            "no_answer_score": [span.no_answer_score for span in told],
        }
        return Judged(loss, batch.num_targets, pa.table(columns))

    def predictor(self, folder: Path) -> "SpanPredictor":
        """A trained model from its exported folder. Raises CheckpointError where a weight is missing."""
        from transformers import AutoModelForQuestionAnswering

        return SpanPredictor(self, load_head(AutoModelForQuestionAnswering, folder, self.kind), Reader.of(folder))

    def told(self) -> str:
        """What is answered, and what of a long context this example does not do."""
        return (
            "An answer is a span of the context, or there is none. A context longer than a window is to be read in "
            f"windows that share {self.stride} tokens, of which the best span is the answer."
        )

    def example(self, reader: Reader) -> str:
        """An answer by the head's scores."""
        return span_example(self.max_answer_tokens, self.null_threshold)


@dataclass(frozen=True)
class SpanPredictor:
    """A reader of spans in memory."""

    task: QuestionAnswering
    model: Any
    reader: Reader

    def predict(self, rows: "pa.Table", *, batch_tokens: int) -> tuple[dict[str, Any], int]:
        """`prediction` ("": no answer), `score` of it, and `no_answer_score`: how much likelier none is."""
        told: list[Span] = []
        num_truncated = 0
        if "id" not in rows.column_names:  # errors name a question by its number among all
            rows = rows.append_column("id", [_names(rows)])
        for first in range(0, rows.num_rows, _ROWS_TOGETHER):
            examples, num_cut = self.task.judged(self.reader, rows.slice(first, _ROWS_TOGETHER))
            told += self._answers(examples, batch_tokens)
            num_truncated += num_cut
        columns = {
            "prediction": [span.text for span in told],
            "score": [span.score for span in told],
            "no_answer_score": [span.no_answer_score for span in told],
        }
        return columns, num_truncated

    def _answers(self, examples: Sequence[QuestionExample], batch_tokens: int) -> list[Span]:
        import numpy as np
        import torch

        windows = [window for example in examples for window in example.windows]
        ends = np.cumsum([window.num_tokens for window in windows])
        # Made before the first pass. Were each batch's scores kept as they come, they would stand between the
        # activations of those to come, and the heap would grow with every batch.
        of_windows = np.split(np.empty((ends[-1], 2), np.float32), ends[:-1])
        for batch in batches_of(windows, batch_tokens):
            collated = self.task.collate([windows[index] for index in batch]).to(self.model.device)
            with torch.inference_mode():
                found = collated.by_window(self.task.scores(self.model, collated))
            for index, scores in zip(batch, found, strict=True):
                of_windows[index][:] = scores
        left = iter(of_windows)
        return [self.task.answer(example, [next(left) for _ in example.windows]) for example in examples]


def _names(rows: "pa.Table") -> list[str]:
    """What each question is called: its id, or else its number."""
    return rows["id"].to_pylist() if "id" in rows.column_names else [str(number) for number in range(rows.num_rows)]


def _answers(rows: "pa.Table") -> list[list[tuple[str, int]]]:
    """Of each row, its answers and where they begin; none where the column is not there."""
    if "answers" not in rows.column_names:
        return [[] for _ in range(rows.num_rows)]
    return [[(answer["text"], answer["start"]) for answer in answers] for answers in rows["answers"].to_pylist()]


def _tokens_of(offsets: Sequence[tuple[int, int]], wanted: tuple[int, int] | None, first: int) -> tuple[int, int]:
    """First and last token that the characters stand in; `NO_ANSWER` where they are not all in this window."""
    if wanted is None or not offsets or wanted[0] < offsets[0][0] or wanted[1] > offsets[-1][1]:
        return NO_ANSWER
    inside = [at for at, (start, stop) in enumerate(offsets) if start < wanted[1] and stop > wanted[0]]
    return (first + inside[0], first + inside[-1]) if inside else NO_ANSWER


def _log_softmax_by_window(logits: "torch.Tensor", batch: SpanBatch) -> "tuple[torch.Tensor, torch.Tensor]":
    """Of both scores [tokens, 2], over the tokens of each window: two of [tokens]."""
    import torch

    parts = [part.log_softmax(dim=0) for part in torch.split(logits, list(batch.packed.lengths))]
    starts, stops = torch.cat(parts).unbind(1)
    return starts, stops
