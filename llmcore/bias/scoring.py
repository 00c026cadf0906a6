"""How likely a language model finds sentences and answers: what the measures that compare them are made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import torch

from llmcore.errors import ConfigError
from llmcore.models.branches import branch_losses
from llmcore.models.foundation import POSITIONS
from llmcore.models.generation.scoring import loss_sums
from llmcore.models.likelihood import pseudo_log_likelihoods
from llmcore.models.vectors import text_vectors

__all__ = ["Scorer", "shared_places"]

_BATCH_TOKENS = 4096
_FRAME = 2
"""What stands before and behind a text."""


def shared_places(first: Sequence[int], second: Sequence[int]) -> tuple[list[int], list[int]]:
    """Places of the tokens that two sentences share, in the order in which they stand."""
    matcher = SequenceMatcher(None, list(first), list(second), autojunk=False)
    blocks = [block for block in matcher.get_matching_blocks() if block.size]
    return (
        [place for block in blocks for place in range(block.a, block.a + block.size)],
        [place for block in blocks for place in range(block.b, block.b + block.size)],
    )


@dataclass(frozen=True)
class Scorer:
    """A decoder or a masked language model with its tokenizer.

    Attributes:
        model: On any device, in evaluation.
        tokenizer: Its own.
        batch_tokens: Tokens that go through the model at once.
    """

    model: Any
    tokenizer: Any
    batch_tokens: int = _BATCH_TOKENS

    @classmethod
    def of(
        cls,
        folder: Path,
        *,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        batch_tokens: int = _BATCH_TOKENS,
    ) -> "Scorer":
        """The model of a local Hugging Face folder, by default on the CPU.

        Raises:
            ConfigError: It is neither a decoder nor a masked language model.
        """
        from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

        from llmcore.config.pretrain import FAMILIES

        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if config.model_type not in FAMILIES["causal_lm"] + FAMILIES["masked_lm"]:
            raise ConfigError(
                f"{folder} is a {config.model_type}: sentences are scored by a decoder or a masked language model"
            )
        masked = config.model_type in FAMILIES["masked_lm"]
        auto: Any = AutoModelForMaskedLM if masked else AutoModelForCausalLM
        model = auto.from_pretrained(folder, dtype=dtype, trust_remote_code=False, use_safetensors=True)
        model = model.to(device or torch.device("cpu"))
        return cls(model.eval(), AutoTokenizer.from_pretrained(folder, trust_remote_code=False), batch_tokens)

    @property
    def is_masked(self) -> bool:
        """Whether the model sees a token from both sides."""
        from llmcore.config.pretrain import FAMILIES

        return self.model.config.model_type in FAMILIES["masked_lm"]

    def pairs(self, first: Sequence[str], second: Sequence[str]) -> tuple[list[float], list[float]]:
        """Scores (nats) of two sentences that differ in a few words.

        Of a masked model, the pseudo-log-likelihood of the tokens that both share (Nangia et al. 2020, equation 1):
        what differs would weigh by how frequent it is. Of a decoder, the log-likelihood of the sentence.
        """
        tokens = [self._tokens(texts) for texts in (first, second)]
        if not self.is_masked:
            scores = [self._decoder_scores([self._begin] * len(side), side) for side in tokens]
            return scores[0], scores[1]
        places = [shared_places(*pair) for pair in zip(*tokens, strict=True)]
        scores = [self._masked_scores(side, [both[number] for both in places]) for number, side in enumerate(tokens)]
        return scores[0], scores[1]

    def sentences(self, texts: Sequence[str]) -> list[float]:
        """Mean score (nats) of the tokens of each sentence."""
        tokens = self._tokens(texts)
        if self.is_masked:
            sums = self._masked_scores(tokens, [list(range(len(text))) for text in tokens])
        else:
            sums = self._decoder_scores([self._begin] * len(tokens), tokens)
        return [total / max(1, len(text)) for total, text in zip(sums, tokens, strict=True)]

    def options(self, prefixes: Sequence[str], options: Sequence[Sequence[str]]) -> list[list[float]]:
        """Mean score (nats) of the tokens of each option behind its prefix: a long one is not less likely for that.

        A decoder reads a prefix once for all its options; a masked model, which sees from both sides, cannot.
        """
        before = self._tokens(prefixes)
        asked = [(row, option) for row, of_row in enumerate(options) for option in of_row]
        whole = self._tokens([f"{prefixes[row]} {option}" for row, option in asked])
        # A tokenizer may join what meets at the border: what both have in common is the prefix.
        starts = [_num_common(before[row], text) for (row, _), text in zip(asked, whole, strict=True)]
        if self.is_masked:
            places = [list(range(start, len(text))) for text, start in zip(whole, starts, strict=True)]
            sums = self._masked_scores(whole, places)
        else:
            sums = self._branch_scores([len(of_row) for of_row in options], whole, starts)
        means = (total / max(1, len(text) - start) for total, text, start in zip(sums, whole, starts, strict=True))
        return [list(islice(means, len(of_row))) for of_row in options]

    def vectors(self, texts: Sequence[str]) -> list[list[float]]:
        """A vector for each text, of the last layer's states: [texts, dim].

        Of a masked model their mean over the text's own tokens, of a decoder the state of its last token, which alone
        has seen all of it.
        """
        tokens = self._tokens(texts)
        if not self.is_masked:
            begun = [[*self._begin, *text] for text in tokens]
            return text_vectors(self.model, begun, [[len(text) - 1] for text in begun], batch_tokens=self.batch_tokens)
        places = [list(range(1, len(text) + 1)) for text in tokens]
        return text_vectors(self.model, self._framed(tokens), places, batch_tokens=self.batch_tokens)

    def fits(self, texts: Sequence[str]) -> list[bool]:
        """Whether the model has positions for each text."""
        return [len(tokens) + _FRAME <= self._positions for tokens in self._encoded(texts)]

    def _encoded(self, texts: Sequence[str]) -> list[list[int]]:
        encoded = self.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True, verbose=False)
        tokens: list[list[int]] = encoded["input_ids"]
        return tokens

    @property
    def _positions(self) -> float:
        """As many tokens as a text may have with its frame; RoBERTa's begin after the one that its padding has."""
        config = self.model.config
        positions: float = getattr(config, POSITIONS.get(config.model_type, ""), float("inf"))
        return positions - (config.pad_token_id + 1) if config.model_type == "roberta" else positions

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        tokens = self._encoded(texts)
        for text, own in zip(texts, tokens, strict=True):
            if len(own) + _FRAME > self._positions:
                raise ConfigError(
                    f"a text of {len(own)} tokens, and the model has {self._positions} positions: {text[:80]!r}…; "
                    "measure a model that reads longer texts, or leave this set out"
                )
        return tokens

    @property
    def _begin(self) -> list[int]:
        """What stands before a text, so that its first token has something before it."""
        named = self.tokenizer
        ids = (named.bos_token_id, named.cls_token_id, named.eos_token_id, self.model.config.eos_token_id)
        return [next(one for one in ids if one is not None)]

    def _decoder_scores(self, prompts: Sequence[Sequence[int]], texts: Sequence[Sequence[int]]) -> list[float]:
        return [-loss for loss in loss_sums(self.model, prompts, texts, batch_tokens=self.batch_tokens)]

    def _branch_scores(
        self, counts: Sequence[int], texts: Sequence[Sequence[int]], starts: Sequence[int]
    ) -> list[float]:
        """Scores of the tokens behind `starts`; so many texts in turn have a prefix in common."""
        ends = list(accumulate(counts))
        rows = [range(first, end) for first, end in zip([0, *ends], ends, strict=False)]
        shared = [min((starts[one] for one in row), default=0) for row in rows]
        prefixes = [[*self._begin, *texts[row.start][:number]] for row, number in zip(rows, shared, strict=True)]
        branches = [[texts[one][number:] for one in row] for row, number in zip(rows, shared, strict=True)]
        losses = branch_losses(self.model, prefixes, branches, batch_tokens=self.batch_tokens)
        return [
            -sum(of_branch[starts[one] - number :])
            for row, number, of_row in zip(rows, shared, losses, strict=True)
            for one, of_branch in zip(row, of_row, strict=True)
        ]

    def _masked_scores(self, texts: Sequence[Sequence[int]], places: Sequence[Sequence[int]]) -> list[float]:
        asked = [[place + 1 for place in of_text] for of_text in places]
        mask_id = self.tokenizer.mask_token_id
        return pseudo_log_likelihoods(
            self.model, self._framed(texts), asked, mask_id=mask_id, batch_tokens=self.batch_tokens
        )

    def _framed(self, texts: Sequence[Sequence[int]]) -> list[list[int]]:
        named = self.tokenizer
        return [[named.cls_token_id, *text, named.sep_token_id] for text in texts]


def _num_common(before: Sequence[int], whole: Sequence[int]) -> int:
    number = 0
    while number < min(len(before), len(whole) - 1) and before[number] == whole[number]:
        number += 1
    return number
