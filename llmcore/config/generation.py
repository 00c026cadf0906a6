"""How a model goes on from a prompt."""

from typing import Any, Literal

from pydantic import model_validator

from llmcore.config.base import Section, free, identity

__all__ = ["GenerationSettings"]

_BELONGS_TO = {
    "num_beams": "beam",
    "length_penalty": "beam",
    "temperature": "sample",
    "top_p": "sample",
    "top_k": "sample",
    "num_samples": "sample",
}
"""Settings that mean something for one method alone."""


class GenerationSettings(Section):
    """How a model goes on from a prompt: the likeliest token, the likeliest text, or one that is drawn."""

    max_new_tokens: int = identity(256, ge=1, description="Tokens of an answer, at most; the end of text is one.")
    method: Literal["greedy", "beam", "sample"] = identity(
        "greedy",
        description="`greedy`: always the likeliest token. `beam`: the likeliest text of those that a beam search "
        "finds. `sample`: tokens are drawn.",
    )
    num_beams: int | None = identity(None, ge=2, description="Texts that a beam search keeps; null is 4.")
    length_penalty: float | None = identity(
        None, description="A beam's log-likelihood is divided by its length to this power; null is 1."
    )
    temperature: float | None = identity(
        None, gt=0, description="Divides the logits that `sample` draws from; null is 1."
    )
    top_p: float | None = identity(
        None,
        gt=0,
        le=1,
        description="`sample` draws from the fewest tokens that have this probability together; null: from all.",
    )
    top_k: int | None = identity(None, ge=1, description="`sample` draws from so many of the likeliest; null: all.")
    num_samples: int | None = identity(None, ge=1, description="Answers that `sample` draws to a prompt; null is 1.")
    repetition_penalty: float = identity(
        1.0,
        gt=0,
        description="Logits of tokens that stand in the prompt or the answer are divided by this where they are "
        "positive, and else multiplied.",
    )
    stop: list[str] = identity(
        list, description="An answer ends before the first of these texts, wherever tokens begin and end."
    )
    seed: int = identity(0, ge=0, description="Of what is drawn: the answer to a row is a function of seed and row.")
    overflow: Literal["cut", "refuse"] = identity(
        "cut",
        description="A prompt that leaves no room for `max_new_tokens` in the model's positions: a decoder loses its "
        "beginning, an encoder its end, and it is counted; or it is an error.",
    )
    batch_tokens: int = free(
        8192, ge=1, description="Tokens of prompts and answers that a model has at once, padding and beams included."
    )

    @model_validator(mode="before")
    @classmethod
    def _of_its_method(cls, data: Any) -> Any:
        if isinstance(data, dict):
            method = data.get("method", "greedy")
            for name, owner in _BELONGS_TO.items():
                if data.get(name) is not None and owner != method:
                    raise ValueError(f"{name}={data[name]} says nothing to method={method}: set method={owner} with it")
        return data

    @model_validator(mode="after")
    def _stops_are_texts(self) -> "GenerationSettings":
        if "" in self.stop:
            raise ValueError("stop='' stands everywhere: give the texts before which an answer is to end")
        return self

    @property
    def beams(self) -> int:
        """Texts that are looked at side by side."""
        return (self.num_beams or 4) if self.method == "beam" else 1

    @property
    def samples(self) -> int:
        """Answers to a prompt."""
        return self.num_samples or 1
