"""What lm-evaluation-harness says is read from its report and kept; without it, it is refused in a sentence."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import llmcore.evaluation.harness.asked
from llmcore.config.evaluate import EvaluateConfig
from llmcore.config.fingerprint import identity_of
from llmcore.config.harness import HarnessSettings
from llmcore.errors import ConfigError
from llmcore.evaluation.harness import Harness, Told, harness_json, store_told, stored_told
from llmcore.evaluation.harness.asked import own_files_hash
from llmcore.storage import Folder

REPORT: dict[str, Any] = {
    "results": {
        "arc": {
            "alias": "arc",
            "sample_len": 20,
            "acc,none": 0.25,
            "acc_stderr,none": 0.1,
            "exact_match,strict-match": 0.5,
            "exact_match_stderr,strict-match": "N/A",
            "word_perplexity,none": float("nan"),
        },
        "science": {"alias": "science", "acc,none": 0.25, "acc_stderr,none": 0.1},
    },
    "groups": {"science": {"alias": "science", "acc,none": 0.25, "acc_stderr,none": 0.1}},
    "versions": {"arc": 1.5},
    "n-shot": {"arc": 3},
    "higher_is_better": {"arc": {"acc": True, "exact_match": True, "word_perplexity": False}, "science": {"acc": True}},
    "n-samples": {"arc": {"original": 40, "effective": 20}},
}
"""In the form of `lm_eval.simple_evaluate`'s, release 0.4.13; the test that runs it holds that it is one."""


def harness(**given: Any) -> Harness:
    return Harness(HarnessSettings.model_validate({"tasks": ["arc"]} | given), 100, "0.4.13", None)


def test_a_report_gives_numbers_with_their_errors_and_what_they_are_of() -> None:
    tasks = Told.of_report(REPORT).tasks
    assert tasks["arc"] == {
        "version": 1.5,
        "num_fewshot": 3,
        "num_rows": 20,
        "num_rows_of_task": 40,
        "metrics": {
            "acc": {"value": 0.25, "stderr": 0.1, "higher_is_better": True},
            "exact_match,strict-match": {"value": 0.5, "stderr": None, "higher_is_better": True},
            "word_perplexity": {"value": None, "stderr": None, "higher_is_better": False},
        },
    }
    assert tasks["science"]["metrics"]["acc"]["value"] == 0.25 and tasks["science"]["num_rows"] is None


def test_what_is_said_is_kept_by_model_and_by_what_was_asked(tmp_path: Path) -> None:
    storage, told = Folder(str(tmp_path)), Told.of_report(REPORT)
    store_told(storage, harness(), "arc", "f00d", told)
    assert stored_told(storage, harness(), "arc", "f00d") == told
    assert stored_told(storage, harness(batch_size=2, models={"more": "run"}), "arc", "f00d") == told
    for other in (harness(limit=3), harness(num_fewshot=1), harness(chat_template=True)):
        assert stored_told(storage, other, "arc", "f00d") is None
    assert stored_told(storage, harness(), "science", "f00d") is None
    assert stored_told(storage, harness(), "arc", "beef") is None


def test_the_whole_says_what_was_asked_and_by_which_release() -> None:
    content = harness_json(harness(limit=20), {"mine": {"arc": Told.of_report(REPORT)}})
    assert (content["version"], content["limit"], content["num_fewshot"]) == ("0.4.13", 20, None)
    assert set(content["models"]["mine"]) == {"arc", "science"}


def test_other_files_of_ones_own_are_another_question(tmp_path: Path) -> None:
    settings = HarnessSettings(tasks=["mine"], include_path=str(tmp_path))
    (tmp_path / "mine.yaml").write_text("task: mine")
    first = own_files_hash(settings)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.jsonl").write_text("{}")
    second = own_files_hash(settings)
    assert None not in (first, second) and first != second
    (tmp_path / "data" / "rows.jsonl").unlink()
    assert own_files_hash(settings) == first and own_files_hash(HarnessSettings(tasks=["mine"])) is None
    with pytest.raises(ConfigError, match=r"harness\.include_path='/no/such' is no folder on a disk"):
        own_files_hash(HarnessSettings(tasks=["mine"], include_path="/no/such"))


def test_where_it_is_not_installed_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llmcore.evaluation.harness.asked, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'llmcore\[lm-eval\]'"):
        Harness.of(HarnessSettings(tasks=["arc_easy"]), 100)


@pytest.mark.skipif(find_spec("lm_eval") is None, reason="lm-evaluation-harness (extra lm-eval) is not installed")
def test_a_task_that_there_is_not_is_refused_with_what_is_near(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("task: mine\ndataset_path: json\noutput_type: multiple_choice\n")
    assert Harness.of(HarnessSettings(tasks=["mine"], include_path=str(tmp_path)), 100).own_files
    with pytest.raises(ConfigError, match=r"has no 'arc_eazy': did you mean arc_easy"):
        Harness.of(HarnessSettings(tasks=["mine", "arc_eazy"], include_path=str(tmp_path)), 100)


def test_settings_that_say_one_thing_twice_are_refused_and_a_batch_makes_no_other_run() -> None:
    def config(**given: Any) -> EvaluateConfig:
        asked = {"tasks": ["arc"]} | given
        return EvaluateConfig.model_validate({"name": "judged", "models": {"mine": "a.run"}, "harness": asked})

    for given, said in (
        ({"tasks": ["arc", "arc"]}, "names one twice"),
        ({"models": {"mine": "b.run"}}, r"harness\.models\.mine: `models` has that name, too"),
        ({"tasks": []}, "at least 1 item"),
    ):
        with pytest.raises(ValidationError, match=said):
            config(**given)
    assert identity_of(config(batch_size=1)) == identity_of(config()) != identity_of(config(limit=5))
