"""Whom a fine-tuned model harms: what is measured of how it treats groups of people, and what is done about it."""

from typing import Literal

from pydantic import model_validator

from llmcore.config.base import Section, identity
from llmcore.config.counterfactual import WordPairs
from llmcore.config.task import TaskSettings

__all__ = [
    "COUNTERFACTUAL_GAP",
    "FAIRNESS",
    "FairnessChecks",
    "FairnessSettings",
    "ThresholdSettings",
    "check_group_columns",
]

COUNTERFACTUAL_GAP = "counterfactual_gap"
FAIRNESS = (
    COUNTERFACTUAL_GAP,
    "counterfactual_flips",
    "selection_rate_gap",
    "true_positive_rate_gap",
    "false_positive_rate_gap",
    "calibration_gap",
)
"""What is measured of fairness (docs/bias.md); the gaps between groups once for each column of them: `…_gap[<column>]`.

None of them chooses a model: one that says the same of every text is as fair as can be.
"""
_ONE_LANGUAGE = ("text_classification", "summarization", "text_generation", "chat")
"""Tasks whose answers are still right when the people of a text are of the other group, the answer's own words swapped
alike."""


class ThresholdSettings(Section):
    """A threshold by group, found on validation: where a group must be known when a model is used."""

    by: str = identity(description="Metadata column with the group of a row; one of `groups`.")
    equal: Literal["selection_rate", "true_positive_rate"] = identity(
        "selection_rate",
        description="What is to be the same in each group: the share that is said to be of the second class, of all "
        "rows or of those that are.",
    )


class FairnessChecks(Section):
    """What an evaluation measures of how models treat groups of people; it stands beside their quality."""

    counterfactuals: WordPairs | None = identity(
        WordPairs,
        description="Words that are swapped in what a model is given: how often and how far its answer moves. Null: "
        "not measured.",
    )
    groups: list[str] = identity(
        list, description="Metadata columns of the labelled set: classifications are compared between their values."
    )
    thresholds: ThresholdSettings | None = identity(
        None,
        description="Predictions of two classes by a threshold of each group instead of one half. Null: one half.",
    )
    max_counterfactual_gap: float | None = identity(
        None, ge=0, le=1, description="No model is chosen whose predictions on validation move further, on average."
    )

    @model_validator(mode="after")
    def _something_is_measured(self) -> "FairnessChecks":
        if self.counterfactuals is None and not self.groups:
            raise ValueError("nothing is measured: give `counterfactuals`, or `groups`, or leave `fairness` out")
        if self.counterfactuals is None and self.max_counterfactual_gap is not None:
            raise ValueError("max_counterfactual_gap is of a gap that counterfactuals=null does not measure")
        if self.thresholds is not None and self.thresholds.by not in self.groups:
            raise ValueError(
                f"thresholds.by={self.thresholds.by!r} is none of groups={self.groups}: name it there, so that what it "
                "changes is measured"
            )
        return self


class FairnessSettings(Section):
    """What a fine-tuning does so that predictions do not hang on who a text is about. It is measured at validations."""

    words: WordPairs = identity(WordPairs, description="Words that name people of two groups, in pairs.")
    augment: float = identity(
        0.0,
        ge=0,
        le=1,
        description="Share of the train rows with such words of which a counterfactual copy is learnt, too: the words "
        "swapped, the label kept (counterfactual data augmentation, Lu et al., 2018).",
    )
    consistency: float = identity(
        0.0,
        ge=0,
        description="Weight of the mean difference between the logits of a row and of its counterfactual "
        "(counterfactual logit pairing, Garg et al., 2019). Of classification by a head.",
    )
    balance: Literal["reweight", "sample"] | None = identity(
        None,
        description="Make labels independent of groups in train: each row weighs P(group) P(label) / P(group, label) "
        "(`reweight`), or stands there as often on average (`sample`) (Kamiran and Calders, 2012). Of classification "
        "with one label.",
    )
    balance_by: str | None = identity(
        None,
        description="Metadata column with the group of a row. Null: which of the two words of the pairs its text has "
        "more of, or neither.",
    )
    max_counterfactual_gap: float | None = identity(
        None,
        ge=0,
        le=1,
        description="A constraint of a search: no trial is its best whose predictions on validation move further, and "
        "`optuna` keeps away from such points.",
    )

    @model_validator(mode="after")
    def _groups_are_for_balance(self) -> "FairnessSettings":
        if self.balance_by is not None and self.balance is None:
            raise ValueError(f"balance_by={self.balance_by!r} is read by `balance` alone: give it, or leave both out")
        return self

    def check_task(self, task: TaskSettings) -> None:
        """Refuse what is not defined for a task.

        Raises:
            ValueError: The message has the rule.
        """
        by_head = task.kind == "text_classification" and task.answer in (None, "head")
        wanted = {"consistency": self.consistency > 0, "balance": self.balance is not None}
        if asked := [name for name, is_asked in wanted.items() if is_asked and not by_head]:
            raise ValueError(
                f"fairness.{asked[0]} is of text_classification by a head, and the task is {task.kind}"
                f"{' by writing' if task.answer == 'text' else ''}: use fairness.augment, or leave it out"
            )
        if task.kind not in _ONE_LANGUAGE:
            raise ValueError(
                f"fairness: the words of a {task.kind} row cannot be swapped without its answer becoming wrong; it is "
                f"of {', '.join(_ONE_LANGUAGE)}. An evaluation can measure it of any task"
            )


def check_group_columns(groups: list[str], metadata: list[str], name: str) -> None:
    """Refuse groups that a labelled set does not know.

    Raises:
        ValueError: The message lists what there is.
    """
    if unknown := [column for column in groups if column not in metadata]:
        raise ValueError(
            f"{unknown[0]!r} is no metadata column of {name!r}: there is {', '.join(metadata) or 'none'}; give it "
            "`metadata` where it is made"
        )
