"""Answers that stand in a context: as files write them, and where those are wrong, where the answer really stands."""

from typing import Any, Literal, NamedTuple

from llmcore.storage import parsed_json

__all__ = ["Answer", "Placed", "parsed_answers", "placed"]


class Answer(NamedTuple):
    """A span of a context: its text, and the character where it starts."""

    text: str
    start: int


class Placed(NamedTuple):
    """Answers that stand where they say, how many had to be moved there, and how many stand nowhere."""

    answers: list[Answer]
    num_repaired: int
    num_dropped: int


def parsed_answers(value: str) -> list[Answer]:
    """Answers in JSON: a list of objects, or (as `datasets` has SQuAD) an object of two lists; null is none.

    Raises ValueError for anything else.
    """
    found: Any = parsed_json(value) or []
    if isinstance(found, dict) and set(found) == {"text", "answer_start"}:
        found = [
            {"text": text, "start": start} for text, start in zip(found["text"], found["answer_start"], strict=True)
        ]
    answers = []
    for one in found if isinstance(found, list) else [found]:
        if not isinstance(one, dict):
            raise ValueError(f"{one!r:.80} is no answer: `text` and `start` are expected")
        text, start = one.get("text"), one.get("start", one.get("answer_start"))
        if not isinstance(text, str) or not text or type(start) is not int:
            raise ValueError(f"{one!r:.80} is no answer: `text`, not empty, and `start`, a whole number, are expected")
        answers.append(Answer(text, start))
    return answers


def placed(context: str, answers: list[Answer], policy: Literal["repair", "drop", "fail"]) -> Placed:
    """The answers where they stand, by the setting `answers` of labelled data.

    Raises ValueError for one that is refused; the message says whether it stands elsewhere.
    """
    right: list[Answer] = []
    num_repaired = num_dropped = 0
    for answer in answers:
        if _stands_at(context, answer):
            right.append(answer)
            continue
        start = _nearest(context, answer)
        if policy == "fail" or (policy == "repair" and start is None):
            raise ValueError(_refused(context, answer, start))
        if start is None:
            num_dropped += 1
        else:
            right.append(Answer(answer.text, start))
            num_repaired += 1
    return Placed(right, num_repaired, num_dropped)


def _stands_at(context: str, answer: Answer) -> bool:
    return answer.start >= 0 and context.startswith(answer.text, answer.start)


def _nearest(context: str, answer: Answer) -> int | None:
    """The start of the occurrence nearest to where the answer is said to be; of two as near, the first."""
    before = context.rfind(answer.text, 0, max(0, answer.start) + len(answer.text))
    after = context.find(answer.text, max(0, answer.start))
    found = [start for start in (before, after) if start >= 0]
    return min(found, key=lambda start: abs(start - answer.start), default=None)


def _refused(context: str, answer: Answer, start: int | None) -> str:
    stands = "nowhere in its context" if start is None else f"at {start}"
    fix = "drop" if start is None else "repair"
    there = context[max(0, answer.start) :][: len(answer.text)]
    return (
        f"the answer {answer.text!r:.80} is said to start at character {answer.start}, where {there!r:.80} stands; it "
        f"stands {stands}: correct it, or set answers={fix}"
    )
