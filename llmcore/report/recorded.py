"""What a report reads of the records: the fields it shows, checked; other fields may stand beside them."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from llmcore.evaluation.bootstrap import Interval

__all__ = [
    "BaselineRecord",
    "BiasRecord",
    "CostRecord",
    "EndRecord",
    "EvaluationRecord",
    "JudgedRecord",
    "PassportRecord",
    "PretrainRecord",
    "Record",
    "RunRecord",
    "SearchRecord",
    "SourceRecord",
    "StepRecord",
    "TrialRecord",
]

Figures = dict[str, Interval]


class Record(BaseModel):
    """The part of a record that a report needs; records may hold more."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class RunRecord(Record):
    """`run.json`."""

    fingerprint: str = ""
    versions: dict[str, Any] = {}


class EndRecord(Record):
    """`attempts/NN/end.json`."""

    error: Any = None
    ended: float | None = None
    result: dict[str, Any] | None = None


class KeptRecord(Record):
    """What a source has in the splits."""

    documents: dict[str, int] = {}
    bytes: dict[str, int] = {}
    languages: dict[str, int] = {}


class StepRecord(Record):
    """What one step did, with examples of what it dropped."""

    dropped: dict[str, int] = {}
    found: dict[str, int] = {}
    examples: dict[str, list[dict[str, Any]]] = {}


class CleaningRecord(Record):
    """The steps of a source, in their order."""

    steps: dict[str, StepRecord] = {}
    quarantined: dict[str, str] = {}


class CounterfactualRecord(Record):
    """The counterfactual copies of a source."""

    copies: int = 0
    duplicates: int = 0
    terms: dict[str, int] = {}


class SourceRecord(Record):
    """A source in the passport."""

    read: dict[str, int] = {}
    cleaning: CleaningRecord | None = None
    balance: StepRecord | None = None
    counterfactuals: CounterfactualRecord | None = None
    kept: KeptRecord = KeptRecord()
    tokenize: dict[str, Any] = {}
    group_terms: dict[str, dict[str, int]] | None = None


class AcrossRecord(StepRecord):
    """What was done across sources: near duplicates, decontamination."""

    sets: dict[str, dict[str, Any]] = {}


class PassportRecord(Record):
    """`passport.json` of the token shards."""

    sources: dict[str, SourceRecord] = {}
    near_duplicates: AcrossRecord | None = None
    decontamination: AcrossRecord | None = None


class CostRecord(Record):
    """`attempts/NN/cost.json`."""

    devices: int | None = None
    device: str | None = None
    seconds: dict[str, float] = {}
    device_seconds: dict[str, float] = {}
    start_up_parts: dict[str, float] = {}
    flops: float | None = None
    tokens: int | None = None
    mfu: float | None = None
    money: float | None = None
    energy_j: float | None = None


class SampleRecord(Record):
    """A prompt, and how the model went on."""

    prompt: str
    text: str


class PretrainRecord(Record):
    """The result of pre-training, in its `end.json`."""

    train_loss: float | None = None
    validation_loss: float | None = None
    unigram_loss: float | None = None
    samples: list[SampleRecord] = []


class SearchRecord(Record):
    """`search.json`."""

    closed: bool = False
    metric: str | None = None
    ended_by: str | None = None
    front: list[str] = []
    higher_is_better: bool = True


class TrialRecord(Record):
    """`trials/<id>/trial.json`."""

    id: str
    status: str
    config: dict[str, Any] = {}
    reports: list[dict[str, Any]] = []
    seed: int | None = None
    num_steps: int | None = None
    seconds: float | None = None
    device_seconds: float | None = None
    best_value: float | None = None
    cause: str | None = None
    error: Any = None


class JudgedRecord(Record):
    """A model of `metrics.json`."""

    id: str
    status: str = ""
    validation: Figures | None = None
    test: Figures | None = None
    distinguishable_from_leader: bool | None = None
    num_truncated: int | None = None


class BaselineRecord(BaseModel):
    """Besides its figures, whatever else there is to say of it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    validation: Figures | None = None
    test: Figures | None = None


class MeasuredRecord(Record):
    """A value, with whatever is known of how far it may be off."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    stderr: float | None = None
    higher_is_better: bool | None = None


class SliceRecord(Record):
    """Rows that have something in common; of a single group there are no intervals."""

    num_rows: int
    metrics: dict[str, MeasuredRecord] = {}


class BinRecord(Record):
    """A bin of `calibration`."""

    num: int
    confidence: float
    right: float


class FiguresRecord(Record):
    """`details.<model>.figures`."""

    confusion: list[tuple[int, int, int]] = []
    calibration: list[BinRecord] = []
    no_answer_threshold: dict[str, float | None] = {}


class DetailsRecord(Record):
    """`details.<model>`, on the test split."""

    slices: dict[str, dict[str, SliceRecord]] = {}
    figures: FiguresRecord = FiguresRecord()
    undefined: dict[str, str] = {}


class HarnessTaskRecord(Record):
    """A model by a task of lm-evaluation-harness."""

    version: Any = None
    num_fewshot: int | None = None
    num_rows: int | None = None
    metrics: dict[str, MeasuredRecord] = {}


class HarnessRecord(Record):
    """`harness`."""

    version: str = ""
    models: dict[str, dict[str, HarnessTaskRecord]] = {}


class BiasFigureRecord(Record):
    """A figure of a set that measures bias."""

    value: float
    low: float
    high: float
    num: int = 0
    fair: float | None = None


class BiasSetRecord(Record):
    """Such a set."""

    num_rows: int = 0
    num_rows_of_set: int = 0


class BiasToldRecord(Record):
    """A model by such a set."""

    num_too_long: int = 0
    figures: dict[str, BiasFigureRecord] = {}


class BiasRecord(Record):
    """`bias`, or `evaluation/bias.json` where nothing else is measured."""

    sets: dict[str, BiasSetRecord] = {}
    models: dict[str, dict[str, BiasToldRecord]] = {}
    left_out: dict[str, str] = {}
    against: str | None = None
    differences: dict[str, dict[str, dict[str, BiasFigureRecord]]] = {}


class EvaluationRecord(Record):
    """`evaluation/metrics.json`."""

    suite: dict[str, Any] = {}
    set: dict[str, Any] = {}
    chosen: str | None = None
    models: list[JudgedRecord] = []
    baselines: dict[str, BaselineRecord] = {}
    differences: dict[str, Figures] = {}
    lower_is_better: list[str] = []
    details: dict[str, DetailsRecord] = {}
    harness: HarnessRecord | None = None
    bias: BiasRecord | None = None
    register_looks: int | None = None
    note: str = ""
