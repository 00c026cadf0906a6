"""From texts to prompts that fit into a model, and what a folder says ends an answer."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from llmcore.config.generation import GenerationSettings
from llmcore.errors import ConfigError
from llmcore.models.foundation import POSITIONS

__all__ = ["Fitted", "encode_prompts", "end_ids", "fit_prompts", "num_positions"]


class Fitted(NamedTuple):
    """Prompts with room for an answer, and how many of them were cut."""

    prompts: list[list[int]]
    num_cut: int


def encode_prompts(config: Any, tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Ids of texts as the tokenizer frames them: an encoder is told where a text ends, a decoder is to go on."""
    end = tokenizer.eos_token_id
    framed: list[list[int]] = tokenizer(list(texts))["input_ids"]
    if config.is_encoder_decoder:
        return [ids if end is None or ids[-1:] == [end] else [*ids, end] for ids in framed]
    bare = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return [ids[:-1] if len(ids) > len(own) and ids[-1] == end else ids for ids, own in zip(framed, bare, strict=True)]


def end_ids(generation_config: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end an answer: those of the folder's generation config, else the tokenizer's end of text."""
    ends = generation_config.eos_token_id
    ends = tokenizer.eos_token_id if ends is None else ends
    return frozenset([ends] if isinstance(ends, int) else ends or [])


def num_positions(config: Any) -> int | None:
    """How many tokens a model can tell apart by their place; None where only distances count, as in T5."""
    if config.model_type == "t5":
        return None
    return int(getattr(config, POSITIONS.get(config.model_type, "max_position_embeddings")))


def fit_prompts(config: Any, prompts: Sequence[Sequence[int]], settings: GenerationSettings) -> Fitted:
    """The prompts, those that leave no room for `max_new_tokens` cut; so no answer ends for want of positions.

    A decoder keeps the end of a prompt, from which it goes on; an encoder its beginning, and the token that ends it.

    Raises:
        ConfigError: a prompt is empty; no prompt has room; or one has none and is to be refused. The message names it.
    """
    for number, prompt in enumerate(prompts):
        if not prompt:
            raise ConfigError(f"prompt {number} is empty: give at least one token to go on from")
    positions = num_positions(config)
    if positions is None:
        return Fitted([list(prompt) for prompt in prompts], 0)
    wanted = settings.max_new_tokens
    if wanted >= positions:
        raise ConfigError(
            f"max_new_tokens={wanted} leaves no room for a prompt in the {positions} positions of the model: set it to "
            f"{positions - 1} or less"
        )
    encodes = bool(config.is_encoder_decoder)
    room = positions if encodes else positions - wanted
    longest, number = max(((len(prompt), number) for number, prompt in enumerate(prompts)), default=(0, 0))
    if longest > room and settings.overflow == "refuse":
        answer = "" if encodes else f" beside an answer of max_new_tokens={wanted}"
        raise ConfigError(
            f"prompt {number} has {longest} tokens, and the model room for {room}{answer}: shorten it, or set "
            "overflow=cut"
        )
    fitted = [_cut(prompt, room, encodes) if len(prompt) > room else list(prompt) for prompt in prompts]
    return Fitted(fitted, sum(len(prompt) > room for prompt in prompts))


def _cut(prompt: Sequence[int], room: int, encodes: bool) -> list[int]:
    return [*prompt[: room - 1], prompt[-1]] if encodes else list(prompt[-room:])
