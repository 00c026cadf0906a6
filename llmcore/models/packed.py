"""Rows of several documents: attention and positions stay inside each document."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from llmcore.cost.flops import Work
from llmcore.models.attention import HALF, Lengths

__all__ = [
    "PackedBatch",
    "backbone",
    "classifier_logits",
    "hidden_states",
    "masked_lm_logits",
    "next_sentence_logits",
    "rounded",
    "span_logits",
    "states_at",
]

_STEP = 16
"""A CPU in half precision sees numbers of tokens that are multiples of it."""


@dataclass(frozen=True)
class PackedBatch:
    """Rows of packed documents.

    `tokens`: int64 [rows, length]. `lengths`: tokens of every piece, row after row, padding pieces included, so that
    their sum is rows × length. `padding`: for every piece, whether it is padding. `token_types`: int64 [rows, length],
    1 in the second segments of sentence pairs; None where there are no pairs.
    """

    tokens: Tensor
    lengths: tuple[int, ...]
    padding: tuple[bool, ...]
    token_types: Tensor | None = None

    @classmethod
    def of_rows(cls, tokens: Tensor, document_lengths: Sequence[Sequence[int]]) -> "PackedBatch":
        """A batch from rows [rows, length] and each row's document lengths; what they leave of a row is padding."""
        lengths: list[int] = []
        padding: list[bool] = []
        for row in document_lengths:
            rest = tokens.shape[1] - sum(row)
            if rest < 0:
                raise ValueError(f"documents of {sum(row)} tokens in a row of {tokens.shape[1]}")
            lengths += [*row, rest] if rest else row
            padding += [False] * len(row) + [True] * bool(rest)
        return cls(tokens, tuple(lengths), tuple(padding))

    @classmethod
    def of_documents(cls, documents: Sequence[Sequence[int]]) -> "PackedBatch":
        """A batch of one row in which the documents stand end to end, without padding."""
        tokens = torch.tensor([[token for document in documents for token in document]], dtype=torch.long)
        return cls(tokens, tuple(map(len, documents)), (False,) * len(documents))

    def to(self, device: torch.device) -> "PackedBatch":
        """The same batch on a device."""
        types = self.token_types
        types = types.to(device, non_blocking=True) if types is not None else None
        return PackedBatch(self.tokens.to(device, non_blocking=True), self.lengths, self.padding, types)

    def with_seconds(self, starts: Tensor) -> "PackedBatch":
        """The same documents as sentence pairs: where in each its second segment begins, or 0, int64 [documents]."""
        lengths, padding = torch.tensor(self.lengths), torch.tensor(self.padding, dtype=torch.bool)
        seconds = lengths.clone()
        seconds[~padding] = torch.where(starts > 0, starts, lengths[~padding])
        types = self.positions() >= seconds.repeat_interleave(lengths).view(self.tokens.shape)
        return replace(self, token_types=types.long())

    def in_one_row(self) -> "PackedBatch":
        """The same pieces, end to end."""
        return PackedBatch(self.tokens.view(1, -1), self.lengths, self.padding)

    def num_tokens(self) -> int:
        """Real tokens."""
        return sum(length for length, padding in zip(self.lengths, self.padding, strict=True) if not padding)

    def num_places(self) -> int:
        """The same with padding."""
        return self.tokens.numel()

    def num_documents(self) -> int:
        """Documents; padding is none."""
        return len(self.padding) - sum(self.padding)

    def work(self, *, predicted: int, pooled: int = 0) -> Work:
        """What the documents ask of a model whose head reads so many places, and which pools so many of them."""
        lengths = [length for length, padding in zip(self.lengths, self.padding, strict=True) if not padding]
        pairs = sum(length**2 for length in lengths)
        return Work(read=sum(lengths), predicted=predicted, pooled=pooled, read_pairs=pairs)

    # Where documents are is known here: asked of the device, it would wait for the answer.

    def positions(self) -> Tensor:
        """Position of each token in its document: int64 [rows, length]."""
        return self._positions().view(self.tokens.shape).to(self.tokens.device)

    def first_tokens(self) -> Tensor:
        """Index of each document's first token in the flattened rows: int64 [documents]."""
        lengths = torch.tensor(self.lengths)
        starts = lengths.cumsum(0) - lengths
        return starts[~torch.tensor(self.padding, dtype=torch.bool)].to(self.tokens.device)

    def last_tokens(self) -> Tensor:
        """Index of each document's last token in the flattened rows: int64 [documents]."""
        ends = torch.tensor(self.lengths).cumsum(0) - 1
        return ends[~torch.tensor(self.padding, dtype=torch.bool)].to(self.tokens.device)

    def padding_tokens(self) -> Tensor:
        """Whether each token is padding: bool [rows, length]."""
        return self._padding().view(self.tokens.shape).to(self.tokens.device)

    def real_places(self) -> Tensor:
        """Index of each token that is no padding in the flattened rows: int64 [tokens]."""
        return torch.nonzero(~self._padding()).squeeze(1).to(self.tokens.device)

    def later_places(self) -> Tensor:
        """The same without the first token of each document."""
        return torch.nonzero(~self._padding() & (self._positions() > 0)).squeeze(1).to(self.tokens.device)

    def _positions(self) -> Tensor:
        lengths = torch.tensor(self.lengths)
        starts = (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
        return torch.arange(int(lengths.sum())) - starts

    def _padding(self) -> Tensor:
        return torch.tensor(self.padding, dtype=torch.bool).repeat_interleave(torch.tensor(self.lengths))


def backbone(model: nn.Module) -> nn.Module:
    """The model without its head; T5 itself, which has no module for that."""
    return model.base_model  # type: ignore[return-value]


def hidden_states(model: nn.Module, batch: PackedBatch) -> Tensor:
    """Last hidden states [rows, length, dim]; no token sees another document, and positions start anew in each.

    The model was built or loaded with `attn_implementation=ATTENTION`.
    """
    named: Any = model
    length = batch.tokens.shape[1]
    batch = rounded(model, batch)
    # GPT-2 would add the embeddings of the tokens 0 and 1; RoBERTa has one kind alone.
    knows_types = batch.token_types is not None and getattr(named.config, "type_vocab_size", 0) > 1
    output = backbone(model)(
        input_ids=batch.tokens,
        position_ids=batch.positions() + _first_position(model),
        use_cache=False,
        document_lengths=Lengths(batch.lengths),
        **({"token_type_ids": batch.token_types} if knows_types else {}),
    )
    return output.last_hidden_state[:, :length]  # type: ignore[no-any-return]


def rounded(model: nn.Module, batch: PackedBatch) -> PackedBatch:
    """A batch of one row as a model is to read it: with a piece of padding at its end where that is faster, else as is.

    In half precision on a CPU oneDNN makes a kernel for each number of tokens it has not met, for each matrix and each
    pass. Documents end to end have another number in each batch, and a sixth of a small model's forward pass was that.
    The three products of a layer of 256 by 1,024 take 16 ms for a number that is new, else 6 (2.13, amx_bf16).
    """
    if batch.tokens.device.type != "cpu" or len(batch.tokens) > 1 or next(model.parameters()).dtype not in HALF:
        return batch
    rest = _STEP - batch.tokens.shape[1] % _STEP
    types = batch.token_types
    return PackedBatch(
        pad(batch.tokens, (0, rest)),
        (*batch.lengths, rest),
        (*batch.padding, True),
        pad(types, (0, rest)) if types is not None else None,
    )


def states_at(model: nn.Module, batch: PackedBatch, places: Tensor) -> Tensor:
    """Last hidden states of some tokens of the flattened rows alone: int64 [places] to [places, dim].

    The last layer of a BERT or RoBERTa goes through its attention for all tokens, since what is asked for sees them,
    and through the rest for these alone: three quarters of its work is left out where few are asked for.
    """
    named: Any = model
    if named.config.model_type not in ("bert", "roberta"):
        return hidden_states(model, batch).flatten(0, 1)[places]
    behind_attention: nn.Module = named.base_model.encoder.layer[-1].attention.output
    chosen = behind_attention.register_forward_pre_hook(
        lambda _, given: tuple(states.flatten(0, 1)[places][None] for states in given)
    )
    try:
        return hidden_states(model, batch)[0]
    finally:
        chosen.remove()


def _first_position(model: nn.Module) -> int:
    """RoBERTa's positions begin after the one that its padding has."""
    config: Any = model.config
    return int(config.pad_token_id) + 1 if config.model_type == "roberta" else 0


def masked_lm_logits(model: nn.Module, hidden: Tensor) -> Tensor:
    """What a masked language model's head says of hidden states: [places, dim] to [places, vocabulary].

    Only at targets: transformers' own forward pass takes the head over all places, seven times as many.
    """
    named: Any = model
    match named.config.model_type:
        case "bert":
            logits: Tensor = named.cls.predictions(hidden)
        case "roberta":
            logits = named.lm_head(hidden)
        case "modernbert":
            logits = named.decoder(named.head(hidden))
        case family:
            raise ValueError(f"{family} has no head for masks that is known here")
    return logits


def next_sentence_logits(model: nn.Module, first: Tensor) -> Tensor:
    """What BERT says of pairs by the states of their first tokens: [pairs, dim] to [pairs, 2], "follows" first."""
    named: Any = model
    logits: Tensor = named.cls.seq_relationship(backbone(model).pooler(first[:, None]))  # type: ignore[operator]
    return logits


def classifier_logits(model: nn.Module, batch: PackedBatch) -> Tensor:
    """What a classifier says of each document, [documents, classes]: decoders read its last token, encoders its first.

    As transformers' `…ForSequenceClassification` of the family reads a padded text.
    """
    named: Any = model
    states = hidden_states(model, batch).flatten(0, 1)
    first = states[batch.first_tokens()]
    match named.config.model_type:
        case "bert":
            logits: Tensor = named.classifier(named.dropout(named.bert.pooler(first[:, None])))
        case "roberta":
            logits = named.classifier(first[:, None])
        case "modernbert":
            logits = named.classifier(named.drop(named.head(first)))
        case _:
            logits = named.score(states[batch.last_tokens()])
    return logits


def span_logits(model: nn.Module, batch: PackedBatch) -> Tensor:
    """What a reader of spans says of each token, first or last of the answer: [tokens, 2], row after row.

    As transformers' `…ForQuestionAnswering` of the family.
    """
    named: Any = model
    states = hidden_states(model, batch).flatten(0, 1)
    if named.config.model_type == "modernbert":
        return named.classifier(named.drop(named.head(states)))  # type: ignore[no-any-return]
    return named.qa_outputs(states)  # type: ignore[no-any-return]
