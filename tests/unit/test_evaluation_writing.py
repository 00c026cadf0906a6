"""What a model writes to a row is what the suite asks for, whoever else is asked."""

import pyarrow as pa
import pytest

from llmcore.config.generation import GenerationSettings
from llmcore.evaluation.kinds import Subject
from llmcore.evaluation.score import Predictions, Scorer
from llmcore.evaluation.suite import Suite
from llmcore.storage import Folder, publish
from llmcore.tasks.translation import Translation
from tests.writers import write_writer

LONGEST = 12
TASK = Translation(40, "perplexity", "{source}\n", LONGEST)
TEXTS = ["open a path", "a", "join and split", "zone of the clock", "seek", "read it all"]
ROWS = pa.table({"id": [f"r{n}" for n in range(6)], "group": ["g"] * 6, "source": TEXTS, "target": TEXTS[::-1]})


@pytest.fixture(scope="module", params=["gpt2", "t5"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    folder = Folder(str(tmp_path_factory.mktemp("writer")))
    with publish(folder, "model", {"task": TASK.about()}) as publication, publication.staging() as staged:
        write_writer(staged, request.param)
    return folder


def scorer(folder: Folder, generation: GenerationSettings | None) -> Scorer:
    return Scorer.load(folder, suite=Suite("s", Subject("translation"), ("bleu",), "bleu", 100, 0, generation))


def test_answers_to_parts_of_the_rows_are_those_to_all_of_them(folder: Folder) -> None:
    drawn = scorer(folder, GenerationSettings(method="sample", num_samples=2, max_new_tokens=8))
    whole = drawn.predict(ROWS, batch_tokens=256).table
    parts = [drawn.predict(ROWS.slice(first, 2), batch_tokens=256) for first in (0, 2, 4)]
    joined = Predictions.joined(parts).table
    for name in ("id", "prediction", "predictions"):
        assert joined[name].to_pylist() == whole[name].to_pylist(), name
    assert [told[0] for told in whole["predictions"].to_pylist()] == whole["prediction"].to_pylist()
    assert any(one != other for one, other in whole["predictions"].to_pylist()), "samples are drawn, each anew"
    backwards = drawn.predict(ROWS.take(list(range(5, -1, -1))), batch_tokens=256).table
    assert backwards["predictions"].to_pylist()[::-1] == whole["predictions"].to_pylist()


def test_it_writes_as_it_is_told_to_and_no_longer_than_it_has_learnt(folder: Folder) -> None:
    greedy = scorer(folder, None)
    asked = {
        "as many as were learnt": (None, LONGEST),
        "more than were learnt": (GenerationSettings(), LONGEST),
        "fewer": (GenerationSettings(max_new_tokens=3), 3),
    }
    for name, (generation, longest) in asked.items():
        predictor = scorer(folder, generation).predictor
        assert predictor.generation.max_new_tokens == longest, name  # type: ignore[attr-defined]
    default = greedy.predict(ROWS, batch_tokens=256).table
    more = scorer(folder, GenerationSettings()).predict(ROWS, batch_tokens=256).table
    assert default.equals(more) and "predictions" not in default.column_names
    beams = scorer(folder, GenerationSettings(method="beam", num_beams=3)).predict(ROWS, batch_tokens=256).table
    assert beams["prediction"].to_pylist() != default["prediction"].to_pylist()
    assert beams["loss_sum"].to_pylist() == pytest.approx(default["loss_sum"].to_pylist(), rel=1e-5)


def test_predictions_have_the_references_beside_them(folder: Folder) -> None:
    table = scorer(folder, None).predict(ROWS, batch_tokens=256).table
    assert table.column_names == ["id", "group", "target", "prediction", "loss_sum", "num_tokens", "num_bytes"]
    assert table["target"].to_pylist() == ROWS["target"].to_pylist()
