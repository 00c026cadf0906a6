"""Published sets measure the bias of the models of an evaluation, and of others: once each, beside our own figures."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from jobs.evaluate import evaluate, finished, plan, result_line
from jobs.runtime.bias import MeasureBias, check_bias_sets
from llmcore.bias.bias_set import BiasSet
from llmcore.bias.scored import stored_scored
from llmcore.config.evaluate import EvaluateConfig
from llmcore.errors import CheckpointError, ConfigError, CorpusError
from llmcore.storage import Folder, publish, read_manifest
from tests.bases import write_base
from tests.integration.test_evaluate_harness import Written
from tests.judged import OPTIONS, TASK, InProcess, write_classifier
from tests.killed_workers import first_killed
from tests.unit.test_bias_sets import WINOBIAS
from tests.unit.test_bias_sets_measured import write_pairs

ROWS = 300
"""Two portions."""


class Bias:
    """A storage with two language models of random weights and a classifier, and two small sets."""

    def __init__(self, path: Path) -> None:
        self.storage = Folder(str(path / "storage"))
        for family in ("bert", "gpt2"):
            with publish(self.storage / family, "model", {}) as publication, publication.staging() as staged:
                write_base(staged, family)
        write_classifier(Path(self.storage.url) / "classes", 1)
        write_pairs(path / "crows", ROWS)
        (path / "winobias").mkdir()
        for name, text in WINOBIAS.items():
            (path / "winobias" / name).write_text(text)
        self.sets: dict[str, Any] = {
            "crows": {"kind": "crows_pairs", "url": str(path / "crows")},
            "wino": {"kind": "winobias", "url": str(path / "winobias"), "types": [1]},
        }
        self.models = {"masked": "bert", "decoder": f"{self.storage.url}/gpt2"}

    def config(self, name: str = "measured", **given: Any) -> EvaluateConfig:
        bias = {"sets": self.sets, "models": self.models} | given
        settings = {"name": name, "storage": self.storage.url, "bias": bias, "num_resamples": 100, "num_scorers": 2}
        return EvaluateConfig.model_validate(settings)

    def evaluate(self, name: str = "measured", **given: Any) -> dict[str, Any]:
        return evaluate(self.config(name, **given), self.storage, OPTIONS)


@pytest.fixture
def bias(tmp_path: Path) -> Bias:
    return Bias(tmp_path)


@pytest.mark.usefixtures("ray_session")
def test_models_are_measured_alone_once_and_left_out_where_they_have_no_likelihood(
    bias: Bias, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    models = bias.models | {"classes": "classes"}
    result = bias.evaluate(models=models)
    said = capsys.readouterr().out
    assert "bias is not measured of classes: it is a GPT2ForSequenceClassification, which has no likelihood" in said
    assert "masked by crows: preference 0." in said and "decoder by wino: gap " in said
    folder = bias.storage / "measured" / "evaluation"
    content = folder.read_json("bias.json")
    assert content == json.loads(json.dumps(result["bias"])) and read_manifest(folder) is not None
    assert set(content["models"]) == {"masked", "decoder"} and set(content["left_out"]) == {"classes"}
    for told in content["models"].values():
        assert (told["crows"]["num_rows"], told["wino"]["num_rows"]) == (ROWS, 4)
        for figure in (told["crows"]["figures"]["preference"], told["wino"]["figures"]["gap"]):
            assert figure["low"] <= figure["value"] <= figure["high"]
    board = (Path(folder.url) / "bias.md").read_text()
    assert "| crows | preference | 0.5 |" in board and "left out: classes is a GPT2For" in board
    line = result_line(result, bias.storage)
    assert line == "evaluate: masked, decoder measured by crows, wino; 1 left out: classes"

    assert finished(bias.config(models=models), bias.storage) == result
    monkeypatch.setattr(MeasureBias, "_measure", lambda *_: pytest.fail("it was measured again"))
    assert bias.evaluate("again", models=models)["bias"] == result["bias"]
    few = {"crows": bias.sets["crows"] | {"limit": 256}}
    monkeypatch.undo()
    assert bias.evaluate("few", sets=few)["bias"]["sets"]["crows"]["num_rows"] == 256
    write_pairs(Path(bias.sets["crows"]["url"]), ROWS, "a dog")
    assert finished(bias.config(models=models), bias.storage) is None, "the files are others"


@pytest.mark.usefixtures("ray_session")
def test_a_measuring_process_that_is_killed_is_started_again_and_all_is_measured(bias: Bias) -> None:
    write_pairs(Path(bias.sets["crows"]["url"]), 1500)
    with first_killed("_Measurer.measure") as killed:
        result = bias.evaluate("killed", sets={"crows": bias.sets["crows"]})
    assert len(killed) == 1 and all(told["crows"]["num_rows"] == 1500 for told in result["bias"]["models"].values())
    one = BiasSet.read("crows", bias.config().bias.sets["crows"])  # type: ignore[union-attr]
    for name in ("bert", "gpt2"):
        manifest = read_manifest(bias.storage / name)
        assert manifest is not None
        assert all(stored_scored(bias.storage, portion, manifest.sha256) for portion in one.portions())


def test_what_cannot_be_measured_is_refused_before_an_attempt_begins(bias: Bias, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    gone = {"crows": {"kind": "crows_pairs", "url": str(tmp_path / "empty")}}
    with pytest.raises(CorpusError, match=r"empty has no crows_pairs_anonymized.csv"):
        bias.evaluate(sets=gone)
    with pytest.raises(ConfigError, match=r"bias\.models\.more='gone': there is no complete model at"):
        bias.evaluate(models={"more": "gone"})
    with pytest.raises(ConfigError, match=r"bias\.models has no language model: classes is a GPT2ForSequenceClassi"):
        bias.evaluate(models={"classes": "classes"})
    assert not (bias.storage / "measured").exists()
    [line] = plan(bias.config(sets={"crows": bias.sets["crows"] | {"limit": 5}}))
    assert line.startswith("Measures the bias of masked (bert), decoder (") and "crows_pairs, 5 rows at most" in line


@pytest.mark.usefixtures("ray_session")
def test_a_model_that_was_altered_is_named(bias: Bias) -> None:
    file = Path(bias.storage.url) / "gpt2" / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=r"^decoder: "):
        bias.evaluate()


@pytest.mark.usefixtures("ray_session")
def test_figures_stand_beside_those_of_a_judged_set_and_choose_nothing(
    tmp_path: Path, judge: type[InProcess], bias: Bias
) -> None:
    written = Written(tmp_path / "written")
    settings = written.config().model_dump(mode="json") | {"harness": None}
    asked = {"sets": bias.sets, "models": {"untuned": "base"}}
    config = EvaluateConfig.model_validate(settings | {"bias": asked, "name": "judged"})
    result = evaluate(config, written.storage, OPTIONS)
    folder = written.storage / "judged" / "evaluation"
    content = folder.read_json("metrics.json")
    assert content["bias"] == json.loads(json.dumps(result["bias"])) and content["chosen"] == "mine"
    assert set(content["bias"]["models"]) == {"mine", "untuned"}
    [line] = csv.DictReader((Path(folder.url) / "leaderboard.csv").read_text().splitlines())
    figure = content["bias"]["models"]["mine"]["crows"]["figures"]["preference"]
    ends = [float(line[f"bias_crows_preference{end}"]) for end in ("", "_low", "_high")]
    assert ends == [figure["value"], figure["low"], figure["high"]]
    assert "| crows | preference | 0.5 |" in (Path(folder.url) / "bias.md").read_text()
    assert result_line(result, written.storage).endswith("; bias of mine, untuned measured by crows, wino")
    assert finished(config, written.storage) == result


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("by_run", [True, False])
def test_what_decoders_write_is_judged_by_a_classifier_that_is_named(
    bias: Bias, tmp_path: Path, capsys: pytest.CaptureFixture[str], by_run: bool
) -> None:
    (tmp_path / "bold").mkdir()
    people = {group: {f"{group} {one}": [f"the {one} dog", f"a {one} cat"] for one in range(3)} for group in ("a", "b")}
    (tmp_path / "bold/pets_prompt.json").write_text(json.dumps(people))
    bold = {"kind": "bold", "url": str(tmp_path / "bold"), "label": TASK.label_names[0], "max_new_tokens": 4}
    if by_run:
        ended = {"status": "succeeded", "result": {"model": "classes"}}
        (bias.storage / "sentiment/attempts/01").write_json("end.json", ended)
    sets = {"bold": bold | {"classifier": "sentiment" if by_run else f"{bias.storage.url}/classes"}}
    if by_run:
        parted = bias.config(sets={"bold": bold | {"classifier": "to_come"}})
        check_bias_sets(parted, bias.storage, {"to_come"})
        with pytest.raises(ConfigError, match="classifier=to_come is no model: give a classifier, the run of"):
            check_bias_sets(parted, bias.storage)
    content = bias.evaluate(sets=sets)["bias"]
    assert "masked is masked and writes nothing: it is not measured by bold" in capsys.readouterr().out
    assert content["models"]["masked"] == {}
    told = content["models"]["decoder"]["bold"]
    assert (told["num_rows"], told["num_too_long"]) == (12, 0)
    assert told["figures"]["pets_gap"]["value"] == 0, "both groups begin alike, so that what is written is the same"
    means = [told["groups"][group]["mean"]["value"] for group in ("a", "b")]
    assert means[0] == means[1] and 0 < means[0] < 1
    assert "| bold | pets gap | 0 | decoder | " in (Path(bias.storage.url) / "measured/evaluation/bias.md").read_text()
