"""A run that gains nothing ends on all ranks at one step; a new start knows it, and one with more patience goes on."""

from pathlib import Path
from typing import Any

from llmcore.storage import Folder, read_manifest
from tests.ranks import run_ranks
from tests.tiny_run import TinyRecipe, fit_tiny, write_tokenizer

LOSSES = [5.0, 3.0, 4.0, 3.5, 2.0, 1.0]
"""Of the validations, two steps apart; the third and the fourth gain nothing."""


class Scripted(TinyRecipe):
    def validate(self, engine: Any) -> dict[str, float]:
        self._losses = getattr(self, "_losses", iter(LOSSES[self.before :]))
        return {"validation_loss": next(self._losses)}

    before = 0


class GoingOn(Scripted):
    before = 4
    """Validations of earlier starts."""


def _train(storage: str, tokenizer: str, patience: int, going_on: bool) -> dict[str, Any]:
    return fit_tiny(
        Folder(storage),
        Path(tokenizer),
        recipe=GoingOn if going_on else Scripted,
        num_steps=12,
        validate_every=2,
        checkpoint_every=None,
        early_stopping={"patience": patience},
    )


def test_it_stops_is_known_to_have_and_goes_on_with_more_patience(tmp_path: Path) -> None:
    tokenizer, run = write_tokenizer(tmp_path / "tokenizer"), Folder(str(tmp_path / "runs")) / "tiny"

    def train(patience: int, going_on: bool) -> list[dict[str, Any]]:
        return run_ranks(2, _train, str(tmp_path / "runs"), str(tokenizer), patience, going_on, out=tmp_path / "out")

    def told(outcomes: list[dict[str, Any]], key: str) -> list[Any]:
        return [outcome[key] for outcome in outcomes]

    first = train(2, False)
    assert told(first, "num_steps") == [8, 8]
    assert told(first, "stopped_early") == [True, True]
    assert told(first, "stopped") == [False, False]
    assert [name.split("-")[1] for name in (run / "checkpoints").names()] == ["00000008"]
    model = read_manifest(run / "model")
    assert model is not None and (model.about["step"], model.about["metrics"]) == (4, {"validation_loss": 3.0})

    again = train(2, False)
    assert told(again, "resumed_at") == told(again, "num_steps") == [8, 8]
    assert told(again, "stopped_early") == [True, True]

    more = train(3, True)
    assert (told(more, "resumed_at"), told(more, "num_steps")) == ([8, 8], [12, 12])
    assert told(more, "stopped_early") == [False, False]
    model = read_manifest(run / "model")
    assert model is not None and model.about["metrics"] == {"validation_loss": 1.0}
