"""On which nodes of a cluster the parts of a job run."""

from typing import Annotated, Literal, get_args

from pydantic import StringConstraints

from llmcore.config.base import Section, free

__all__ = ["LABEL", "LABEL_VALUE", "MARKET", "PART", "ROLE", "Labels", "Part", "PlaceSettings"]

Part = Literal["drivers", "data", "train", "evaluate"]
PART: tuple[Part, ...] = get_args(Part)

ROLE = "llmcore/role"
"""The label by which nodes of the clusters under `configs/cluster/` say what they are for."""
MARKET = "ray.io/market-type"
"""Ray's own label: `spot`, or `on-demand`."""

_WORD = r"[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?"
LABEL = rf"^({_WORD}/)?{_WORD}$"
LABEL_VALUE = rf"^{_WORD}$"
_SELECTOR = rf"^!?({_WORD}|in\({_WORD}(, ?{_WORD})*\))$"
"""As in Ray 2.60, `ray._private.label_utils`."""

Labels = dict[
    Annotated[str, StringConstraints(pattern=LABEL, max_length=317)],
    Annotated[str, StringConstraints(pattern=_SELECTOR)],
]


class PlaceSettings(Section):
    """Labels that nodes must have for a part of the job to run there; without any, it runs wherever there is room.

    Each is `label: value`, where the value is one (`spot`), none of which it may be (`!spot`), or several (`in(a, b)`,
    `!in(a, b)`); a node without the label is none of them. All that are given must fit.
    """

    drivers: Labels = free(
        dict,
        description="The job's own process where it is submitted, and the drivers of a search's trials. Without labels "
        "they run on the head node.",
    )
    data: Labels = free(
        dict, description="Reading, cleaning, tokenizing: Ray Data's tasks, those of `prepare`, and a stream's."
    )
    train: Labels = free(dict, description="Workers that train, those of trials and transfers too.")
    evaluate: Labels = free(dict, description="Processes that score models.")
