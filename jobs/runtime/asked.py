"""Files of prompts, and of answers to them."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from llmcore.errors import ConfigError
from llmcore.storage import Folder, folder_at, parsed_json
from llmcore.tokens.conversation import written_down

__all__ = ["PromptFile", "write_answers"]


@dataclass(frozen=True)
class PromptFile:
    """A file of JSON Lines whose rows have a `prompt`, or `messages` of a conversation, and whatever else."""

    name: str
    rows: list[dict[str, Any]]

    @classmethod
    def read(cls, file: str) -> "PromptFile":
        """That of a path or URL. Raises ConfigError, naming file and line, for a row with nothing to go on from."""
        folder, name = _place(file, "--file")
        rows = []
        for number, line in enumerate(folder.read_text(name).splitlines(), start=1):
            try:
                row = parsed_json(line) if line.strip() else None
            except ValueError as error:
                raise ConfigError(f"{file}:{number}: not JSON ({error}): give an object a line") from None
            if row is None:
                continue
            if not isinstance(row, dict) or not _asks(row):
                raise ConfigError(
                    f"{file}:{number}: got {line:.80}; expected an object with `prompt`, a text, or `messages`, a list "
                    'of {"role": …, "content": …}'
                )
            rows.append(row)
        if not rows:
            raise ConfigError(f"{file} has no prompts: give an object with `prompt` a line")
        return cls(file, rows)

    def prompts(self, tokenizer: Any, encode: Callable[[list[str]], list[list[int]]]) -> list[list[int]]:
        """Ids that a model goes on from; a conversation as its tokenizer's template has it. Raises ConfigError."""
        if any("prompt" not in row for row in self.rows) and not tokenizer.chat_template:
            raise ConfigError(f"{self.name} has `messages`, and the tokenizer no chat template: give `prompt`")
        return [
            encode([row["prompt"]])[0]
            if "prompt" in row
            else written_down(tokenizer, row["messages"], add_generation_prompt=True, tokenize=True, return_dict=False)
            for row in self.rows
        ]


def write_answers(output: str, rows: Iterable[dict[str, Any]], answers: Iterable[Sequence[Any]]) -> str:
    """Writes each row with its `answers`, one a line, to a path or URL, whole or not at all; where that is."""
    folder, name = _place(output, "--output")
    with folder.open(name, "wb") as file:
        for row, given in zip(rows, answers, strict=True):
            told = [
                {
                    "text": answer.text,
                    "num_tokens": len(answer.tokens),
                    "reason": answer.reason,
                    "log_likelihood": answer.log_likelihood,
                }
                for answer in given
            ]
            file.write(json.dumps({**row, "answers": told}, ensure_ascii=False).encode() + b"\n")
    return f"{folder.url}/{name}"


def _place(reference: str, option: str) -> tuple[Folder, str]:
    whole = folder_at(reference)
    parent, _, name = whole.url.rpartition("/")
    if not name:
        raise ConfigError(f"{option}={reference!r} is no file: give a path or URL of one")
    return Folder(parent or "/"), name


def _asks(row: dict[str, Any]) -> bool:
    if isinstance(row.get("prompt"), str):
        return bool(row["prompt"])
    messages = row.get("messages")
    return isinstance(messages, list) and bool(messages) and all(map(_is_message, messages))


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(key), str) for key in ("role", "content"))
