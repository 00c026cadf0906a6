"""Conversations: every answer of the assistant is learnt, and nothing that others say."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from llmcore.errors import ConfigError, CorpusError
from llmcore.tasks.base import Features, Reader, SetFacts
from llmcore.tasks.columns import KINDS, SetKind
from llmcore.tasks.examples import conversation_example
from llmcore.tasks.text_to_text import TextToText, WrittenExample
from llmcore.tokens.conversation import written_down

if TYPE_CHECKING:
    import pyarrow as pa

    from llmcore.config.task import TaskSettings

__all__ = ["ASSISTANT", "CHAT_TEMPLATE", "Chat"]

ASSISTANT = "assistant"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '### ' + message['role'] + '\\n' + message['content'] }}"
    "{{ eos_token if message['role'] == 'assistant' else '' }}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### assistant\\n' }}{% endif %}"
)
"""For tokenizers that have none: roles as headings; an answer ends with the end-of-text token."""

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Chat(TextToText):
    """A conversation, written down by the tokenizer's chat template, is one document; answers alone are its targets.

    Of a conversation that does not fit, the last turns are left out, and of a single turn its beginning. It is judged
    by how likely each answer is, and by what is written for the last one, after all that was truly said before it.
    """

    kind: ClassVar[str] = "chat"
    set_kind: ClassVar[SetKind] = KINDS[kind]
    answer_column: ClassVar[str] = "messages"
    settings: ClassVar[tuple[str, ...]] = ("max_answer_tokens",)
    metrics: ClassVar[tuple[str, ...]] = ("perplexity", "bits_per_byte")

    @classmethod
    def from_data(cls, settings: "TaskSettings", data: SetFacts) -> dict[str, Any]:
        """The room for answers; the prompt is the template's."""
        return {"max_answer_tokens": settings.max_answer_tokens or settings.max_tokens // 2}

    def tokenizer(self, reader: Reader) -> Any:
        """One with a chat template, by which the model was trained."""
        tokenizer = reader.tokenizer
        tokenizer.chat_template = tokenizer.chat_template or CHAT_TEMPLATE
        return tokenizer

    def told(self) -> str:
        """How conversations are written down."""
        return "Conversations are written down by the tokenizer's chat template."

    def example(self, reader: Reader) -> str:
        """An answer to a message."""
        return conversation_example(self.max_answer_tokens)

    def check_family(self, family: str, *, encodes_and_decodes: bool) -> None:
        """Raises ConfigError for what is no decoder."""
        super().check_family(family, encodes_and_decodes=encodes_and_decodes)
        if encodes_and_decodes:
            raise ConfigError(f"base is a {family}: task.kind=chat needs a decoder, which reads turns as they come")

    def features(self, reader: Reader, rows: "pa.Table") -> Features:
        """Each conversation as one document. Raises CorpusError, naming the row, where it has no answer."""
        return self._read(reader, rows, None)

    def judged(self, reader: Reader, rows: "pa.Table") -> Features:
        """The same, with all that is said before the last answer: of what is too long, its end."""
        return self._read(reader, rows, self.room_for_prompts(reader))

    def _read(self, reader: Reader, rows: "pa.Table", room: int | None) -> Features:
        examples, num_truncated = [], 0
        ids = rows["id"].to_pylist() if "id" in rows.column_names else range(rows.num_rows)
        for name, messages in zip(ids, rows["messages"].to_pylist(), strict=True):
            turns = conversation_turns(reader, messages, name)
            kept, was_cut = self._fitted(turns)
            asked = None
            if room is not None:
                before = [token for tokens, _ in turns[:-1] for token in tokens]
                asked, was_cut = before[-room:], was_cut or len(before) > room
            num_truncated += was_cut
            (prompt, _), *others = kept
            answer = [token for tokens, _ in others for token in tokens]
            is_learnt = [learns for tokens, learns in others for _ in tokens]
            told = [message["content"] for message in messages if message["role"] == ASSISTANT][: len(kept) // 2]
            examples.append(WrittenExample(prompt, answer, is_learnt, len("".join(told).encode()), asked=asked))
        return Features(examples, num_truncated)

    def _fitted(self, turns: list[tuple[list[int], bool]]) -> tuple[list[tuple[list[int], bool]], bool]:
        """As many turns, from the first, as fit, an answer last; of the first exchange, always something."""
        (prompt, _), (answer, _), *others = turns
        kept_answer = answer[: max(1, min(self.max_answer_tokens, self.max_tokens - 1))]
        kept_prompt = prompt[-(self.max_tokens - len(kept_answer)) :]
        kept = [(kept_prompt, False), (kept_answer, True)]
        cut = len(kept_answer) < len(answer) or len(kept_prompt) < len(prompt)
        length = len(kept_prompt) + len(kept_answer)
        for asked, told in zip(others[::2], others[1::2], strict=True):
            length += len(asked[0]) + len(told[0])
            if cut or length > self.max_tokens:
                return kept, True
            kept += [asked, told]
        return kept, cut


def conversation_turns(reader: Reader, messages: Messages, name: object) -> list[tuple[list[int], bool]]:
    """The tokens of a conversation in turns: what is said before an answer, and the answer, and so on.

    Raises:
        CorpusError: It has no answer, or a message has a special token written out, which would not stay text.
        ConfigError: The chat template writes earlier turns in another way once later ones are there.
    """
    special = [token for token in reader.tokenizer.all_special_tokens if any(token in m["content"] for m in messages)]
    if special:
        raise CorpusError(f"chat row {name!r}: a message has {special[0]!r} in it, which the tokenizer takes as a mark")
    answers = [number for number, message in enumerate(messages) if message["role"] == ASSISTANT]
    if not answers or not answers[0]:
        raise CorpusError(f"chat row {name!r}: there must be an answer of the {ASSISTANT!r}, and a message before it")
    turns: list[tuple[list[int], bool]] = []
    written = ""
    for number in answers:
        before = _written(reader, messages[:number], add_generation_prompt=True)
        after = _written(reader, messages[: number + 1], add_generation_prompt=False)
        if not (before.startswith(written) and after.startswith(before)):
            raise ConfigError(
                "the tokenizer's chat template writes earlier turns otherwise when later ones follow: turns cannot be "
                "told apart; give the model's tokenizer a template that only adds"
            )
        turns += [(_tokens(reader, before[len(written) :]), False), (_tokens(reader, after[len(before) :]), True)]
        written = after
    return turns


def _written(reader: Reader, messages: Messages, *, add_generation_prompt: bool) -> str:
    template = reader.tokenizer.chat_template or CHAT_TEMPLATE
    return str(
        written_down(
            reader.tokenizer,
            messages,
            chat_template=template,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
        )
    )


def _tokens(reader: Reader, text: str) -> list[int]:
    return reader.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]  # type: ignore[no-any-return]
