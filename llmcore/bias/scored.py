"""What a model says of a portion of a set: asked for once, and kept, whatever is killed or repeated."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmcore.bias.bias_set import Portion
from llmcore.bias.measures import MEASURES
from llmcore.errors import RunError
from llmcore.storage import Folder, artifact, content_hash, publish, read_manifest, verify_files
from llmcore.storage.content import canonical_json

if TYPE_CHECKING:
    from llmcore.bias.scoring import Scorer

__all__ = ["Scored", "score", "store_scored", "stored_scored"]

_KIND = "bias"
_FILE = "scores.json"


@dataclass(frozen=True)
class Scored:
    """Of each example of a portion, what the measure's `score` says; None where it is too long for the model."""

    scores: list[list[float] | None]


def score(scorer: "Scorer", portion: Portion) -> Scored:
    """Ask a model.

    Raises:
        RunError: What it says is no number: its weights are none, or it computes with too few digits.
    """
    measure, examples = MEASURES[portion.kind], portion.examples
    texts = [(place, text) for place, one in enumerate(examples) for text in measure.texts(one)]
    fits = scorer.fits([text for _, text in texts])
    too_long = {place for (place, _), one in zip(texts, fits, strict=True) if not one}
    fitting = [place for place in range(len(examples)) if place not in too_long]
    found = measure.score(scorer, [examples[place] for place in fitting]) if fitting else []
    if not all(math.isfinite(value) for of_example in found for value in of_example):
        raise RunError("it gives scores that are no finite numbers: its training has diverged, or its weights are torn")
    scores: list[list[float] | None] = [None] * len(examples)
    for place, of_example in zip(fitting, found, strict=True):
        scores[place] = of_example
    return Scored(scores)


def stored_scored(storage: Folder, portion: Portion, model_sha256: str) -> Scored | None:
    """What was said before, or None. Raises CheckpointError where it is not what was published."""
    folder = _folder(storage, portion, model_sha256)
    manifest = read_manifest(folder)
    if manifest is None:
        return None
    verify_files(folder, manifest)
    return Scored(folder.read_json(_FILE)["scores"])


def store_scored(storage: Folder, portion: Portion, model_sha256: str, scored: Scored) -> None:
    """Keep what a model says."""
    about = {"model_sha256": model_sha256, "kind": portion.kind, "portion": portion.hash}
    with publish(_folder(storage, portion, model_sha256), _KIND, about) as publication:
        publication.write_bytes(_FILE, canonical_json({"scores": scored.scores}))


def _folder(storage: Folder, portion: Portion, model_sha256: str) -> Folder:
    return artifact(storage, _KIND, content_hash(_KIND, model_sha256, portion.hash))
