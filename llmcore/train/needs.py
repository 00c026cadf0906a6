"""What a training needs, counted from its model and its rows, without memory for either."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from llmcore.config.finetune import FinetuneSettings
from llmcore.config.pretrain import PretrainSettings
from llmcore.cost.devices import Precision
from llmcore.cost.plan import Activations, Load
from llmcore.errors import CorpusError
from llmcore.models.activations import count_activations
from llmcore.models.build import config_for_tokens, lay_out_language_model
from llmcore.models.flops import model_flops
from llmcore.models.foundation import POSITIONS, foundation_config
from llmcore.models.memory import model_sizes
from llmcore.models.methods import apply_method
from llmcore.models.size import usual_config
from llmcore.objectives import objective_of
from llmcore.objectives.base import LanguageObjective
from llmcore.objectives.planned import full_rows, planned_objective
from llmcore.storage import Folder
from llmcore.tasks import build_task, facts_of
from llmcore.tasks.base import Reader
from llmcore.tasks.compact import compact_features
from llmcore.tasks.evaluation_set import EvaluationSet
from llmcore.tokens.shards import TokenShards
from llmcore.train.checks import check_pretraining
from llmcore.train.held_out import HeldOut
from llmcore.train.precision import DTYPES

__all__ = ["Needs", "PlannedTokens", "count_needs", "fine_tuning_needs", "pretraining_needs"]

_SAMPLE_ROWS, _SAMPLE_EXAMPLES = 256, 1000
_SIZES = (8, 16)
"""Rows of the micro batches whose activations are counted: those of any other follow."""
_USUAL_LENGTH = 512
"""Tokens of a row for an architecture without positions of its own, whose tokens are not there yet."""


class PlannedTokens(NamedTuple):
    """Tokens that are not there yet: entries of their vocabulary, and tokens of a row; None: as the family has them."""

    vocab_size: int | None = None
    sequence_length: int | None = None


@dataclass(frozen=True)
class Needs:
    """What a training asks of its devices.

    Attributes:
        family: Its architecture.
        load: Memory, whatever the ranks are.
        flops_per_token: Forward and backward.
        tokens_per_row: Of a row, padding left out.
        vocab_size: Entries of the vocabulary.
        num_rows: Of the train split; None where nobody knows yet.
    """

    family: str
    load: Load
    flops_per_token: float
    tokens_per_row: float
    vocab_size: int
    num_rows: int | None


def pretraining_needs(
    config: PretrainSettings,
    tokens: Folder | None,
    foundation: Folder | None,
    precision: Precision,
    planned: PlannedTokens | None = None,
) -> Needs:
    """Those of a pre-training; where its tokens are not there yet, of full rows of such as are `planned`.

    Raises ConfigError for sizes that the architecture does not have, and where tokens and model do not go together.
    """
    if tokens is not None:
        check_pretraining(config, tokens, foundation)
    shards = None if tokens is None else TokenShards.open(tokens)
    architecture, length = _architecture(config, shards, foundation, planned or PlannedTokens())

    def full(num_rows: int) -> Any:
        vocab_size = architecture.vocab_size
        return full_rows(num_rows, vocab_size=vocab_size, sequence_length=length, pairs=config.next_sentence)

    objective: LanguageObjective
    if shards is None:
        objective = planned_objective(config, vocab_size=architecture.vocab_size, sequence_length=length)
        sample, sample_rows = objective.micro_batches(full(_SAMPLE_ROWS), 1, _SAMPLE_ROWS)[0], _SAMPLE_ROWS
    else:
        objective = objective_of(config, shards)
        held_out = HeldOut("validation", shards, objective, config.validation_rows)
        sample_rows = min(_SAMPLE_ROWS, len(held_out))
        sample = held_out.batch(range(sample_rows))
    return count_needs(
        lay_out_language_model(config.learnt, architecture),
        objective,
        longest=lambda num_rows: objective.micro_batches(full(num_rows), 1, num_rows)[0],
        sample=sample,
        sample_rows=sample_rows,
        precision=precision,
        num_rows=None if shards is None else shards.num_rows("train"),
    )


def fine_tuning_needs(config: FinetuneSettings, base: Path, data: EvaluationSet, precision: Precision) -> Needs:
    """Those of a fine-tuning of the model in a Hugging Face folder, whose weights are read and let go one by one.

    Raises ConfigError where model, labelled set and task do not go together.
    """
    task = build_task(config.task, facts_of(data))
    examples = compact_features(task.features, Reader.of(base), data.rows("train")).examples
    if not examples:
        raise CorpusError(f"labelled set {data.name}: its train split is empty; nothing can be learnt")
    some = examples[:: -(-len(examples) // _SAMPLE_EXAMPLES)]
    longest = max(examples, key=lambda example: example.num_tokens)
    model = task.build_model(base, seed=0, random_weights=False, home=_nowhere)
    apply_method(model, config.method.without_quantization(), seed=0, home=_nowhere)
    return count_needs(
        model,
        task,
        longest=lambda num_rows: task.collate([longest] * num_rows),
        sample=task.collate(some),
        sample_rows=len(some),
        precision=precision,
        num_rows=len(examples),
    )


def _nowhere(_: nn.Module) -> Callable[[nn.Parameter], None]:
    """A home where a parameter has a shape and no memory."""

    def let_go(parameter: nn.Parameter) -> None:
        parameter.untyped_storage().resize_(0)

    return let_go


def count_needs(
    model: nn.Module,
    objective: Any,
    *,
    longest: Callable[[int], Any],
    sample: Any,
    sample_rows: int,
    precision: Precision,
    num_rows: int | None,
) -> Needs:
    """Those of a model that is laid out without memory, or is on the CPU.

    Args:
        model: What of it trains has gradients.
        objective: `work`, `num_tokens` and `loss_sums` of its batches.
        longest: A micro batch of so many rows that needs as much memory as any.
        sample: Rows as they are on average.
        sample_rows: How many.
        precision: What the model computes in.
        num_rows: Of the train split.
    """
    named: Any = model.to("meta", DTYPES[precision])
    num_tokens = objective.num_tokens(sample)
    few, more = (_kept(named, objective, longest(size)) for size in _SIZES)
    return Needs(
        family=named.config.model_type,
        load=Load(model_sizes(named), precision, *map(_linear, few, more)),
        flops_per_token=model_flops(named).of_training(objective.work(sample).per(num_tokens)),
        tokens_per_row=num_tokens / sample_rows,
        vocab_size=named.config.vocab_size,
        num_rows=num_rows,
    )


def _kept(model: nn.Module, objective: Any, batch: Any) -> tuple[int, int]:
    """Bytes at the worst moment, where all activations are kept, and where they are computed anew."""
    counted = count_activations(model, lambda given: objective.loss_sums(model, given), batch)
    return counted.peak(checkpointing=False), counted.peak(checkpointing=True)


def _linear(few: float, more: float) -> Activations:
    """Of what micro batches of both sizes keep."""
    per_row = (more - few) / (_SIZES[1] - _SIZES[0])
    return Activations(fixed=max(0.0, few - _SIZES[0] * per_row), per_row=per_row)


def _architecture(
    config: PretrainSettings, shards: TokenShards | None, foundation: Folder | None, planned: PlannedTokens
) -> tuple[Any, int]:
    """The transformers config, and the tokens of a row."""
    if shards is not None:
        length = shards.sequence_length
        if foundation is None:
            return config_for_tokens(config.model, shards, objective_of(config, shards).num_extra_positions), length
        architecture = foundation_config(foundation)
        architecture.vocab_size = max(architecture.vocab_size, shards.vocab_size)
        return architecture, length
    if foundation is None:
        architecture = usual_config(config.model, **planned._asdict())
    else:
        architecture = foundation_config(foundation)
    if planned.sequence_length is not None:
        return architecture, planned.sequence_length
    positions = getattr(architecture, POSITIONS.get(architecture.model_type, ""), _USUAL_LENGTH)
    return architecture, positions - (architecture.pad_token_id + 1 if architecture.model_type == "roberta" else 0)
