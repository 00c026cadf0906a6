"""A pipeline's stages: what they name decides what they wait for, and what is wrong with them is said at the door."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from llmcore.config import load_config
from llmcore.config.evaluate import EvaluateConfig
from llmcore.config.pipeline import PipelineConfig
from llmcore.config.prepare import PrepareConfig
from llmcore.config.tune import TuneConfig
from llmcore.errors import ConfigError

SEARCH = {
    "job": "tune",
    "base": "${bert}",
    "finetune": {"train": {"num_epochs": 1}},
    "space": {"train.seed": {"choice": [0, 1]}},
}
STAGES: dict[str, Any] = {
    "judged": {
        "job": "evaluate",
        "follow": True,
        "sets": {"sst2": {"searches": ["${sst2}"]}, "areas": {"searches": ["${areas}"]}},
    },
    "areas": SEARCH | {"data": "${books}/areas"},
    "sst2": SEARCH | {"data": "sst2.prepare/sst2"},
    "bert": {"job": "pretrain", "tokens": "${books}", "train": {"num_steps": 3}},
    "books": {
        "job": "prepare",
        "sources": [{"name": "stdlib", "builtin": "python_stdlib"}],
        "labelled_sets": [{"name": "areas", "label": "area"}],
    },
}


def load(tmp_path: Path, *overrides: str, **stages: Any) -> PipelineConfig:
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump({"name": "p", "storage": "s3://b/runs", "stages": STAGES | stages}, sort_keys=False))
    return load_config(PipelineConfig, path, overrides)


def test_a_stage_is_its_own_job_with_the_runs_of_those_it_names(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert list(config.jobs)[:2] == ["books", "bert"] and list(config.jobs)[-1] == "judged"
    assert {job.storage for job in config.jobs.values()} == {"s3://b/runs"}
    areas, judged = config.jobs["areas"], config.jobs["judged"]
    assert isinstance(areas, TuneConfig) and isinstance(judged, EvaluateConfig)
    assert (areas.name, areas.base, areas.data) == ("p.areas", "p.bert", "p.books/areas")
    assert judged.of_set("sst2").searches == ["p.sst2"]
    assert judged.of_set("sst2").name == "p.judged.sst2"


def test_a_stage_may_take_the_tokenizer_of_another(tmp_path: Path) -> None:
    more = STAGES["books"] | {"tokenizer": {"folder": "${books}"}}
    config = load(tmp_path, more=more)
    made = config.jobs["more"]
    assert isinstance(made, PrepareConfig) and made.tokenizer.folder == "p.books"
    assert config.begins_after()["more"] == {"books"}
    with pytest.raises(ConfigError, match=r"stages\.more\.tokenizer\.folder: \$\{bert\} is a pretrain stage; expected"):
        load(tmp_path, more=more | {"tokenizer": {"folder": "${bert}"}})


def test_what_is_written_may_be_judged_by_a_stage_that_is_a_classifier(tmp_path: Path) -> None:
    bold = {"kind": "bold", "url": "u", "classifier": "${sentiment}", "label": "good"}
    judged: dict[str, Any] = {"job": "evaluate", "bias": {"models": {"bert": "${bert}"}, "sets": {"bold": bold}}}
    sentiment = {"job": "finetune", "base": "${bert}", "data": "${books}/areas", "train": {"num_epochs": 1}}
    config = load(tmp_path, sentiment=sentiment, written=judged)
    assert config.begins_after()["written"] == {"bert", "sentiment"}
    for other in ({"task": {"answer": "text"}}, {"task": {"kind": "translation"}}):
        with pytest.raises(
            ConfigError, match=r"bias\.sets\.bold\.classifier='p\.sentiment' makes no classifier: name one"
        ):
            load(tmp_path, sentiment=sentiment | other, written=judged)
    with pytest.raises(ConfigError, match=r"classifier='p\.bert' makes no classifier"):
        load(tmp_path, written=judged | {"bias": judged["bias"] | {"sets": {"bold": bold | {"classifier": "${bert}"}}}})


def test_an_evaluation_that_follows_begins_with_its_searches(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert config.begins_after() == {
        "books": set(),
        "bert": {"books"},
        "areas": {"books", "bert"},
        "sst2": {"bert"},
        "judged": {"books", "bert"},
    }
    assert config.beside("judged") == {"areas", "sst2"}
    after = load(tmp_path, "stages.judged.follow=false")
    assert after.begins_after()["judged"] == {"areas", "sst2"}


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        (
            {"bert": STAGES["bert"] | {"tokens": "${boks}"}},
            r"stages\.bert\.tokens: \$\{boks\} is no stage.*\$\{books\}",
        ),
        (
            {"sst2": STAGES["sst2"] | {"base": "${books}"}},
            r"stages\.sst2\.base: \$\{books\} is a prepare stage; expect",
        ),
        ({"bert": STAGES["bert"] | {"tokens": "${bert}"}}, r"\$\{bert\} is a pretrain stage; expected one of prepare"),
        ({"bert": {"train": {}}}, r"stages\.bert\.job: got no job; expected one of prepare, pretrain"),
        ({"report": STAGES["bert"]}, r"stages\.report: each pipeline ends with a report"),
        ({"bert": STAGES["bert"] | {"name": "x"}}, r"stages\.bert\.name: the pipeline says it for all stages"),
        ({"sst2": STAGES["sst2"] | {"data": "${books}/x"}}, r"data='p\.books/x': the stage makes the labelled sets \["),
        (
            {"bert": STAGES["bert"] | {"objective": "masked_lm", "next_sentence": True, "model": {"family": "bert"}}},
            "packing.sentence_pairs=false and",
        ),
        (
            {"judged": STAGES["judged"] | {"sets": {"x": {"searches": ["${sst2}"], "metrics": ["bleu"]}}}},
            r"stages\.judged: 'bleu' is no metric of text_classification",
        ),
        ({"judged": {"job": ["tune"]}}, r"stages\.judged\.job: got \['tune'\]; expected one of"),
        ({"judged.sst2": STAGES["bert"]}, r"it makes the run p\.judged\.sst2, as judged(\.sst2)? does"),
        ({"judged": STAGES["judged"] | {"sets": {"x": {"models": {"m": "${bert}"}}}}}, "expected one of finetune"),
        (
            {"judged": STAGES["judged"] | {"bias": {"models": {"m": "${books}"}}}},
            "expected one of pretrain or finetune",
        ),
        (
            {"judged": STAGES["judged"] | {"sets": {"x": {"searches": ["${sst2}"], "data": "${books}"}}}},
            r"data='p\.books': the stage makes the labelled sets \['areas'\]",
        ),
        (
            {"judged": {"job": "evaluate", "sets": {"x" * 70: {"searches": ["${sst2}"]}}}},
            "a name of over 80 characters",
        ),
        (
            {"judged": {"job": "evaluate", "searches": ["${sst2}"], "sets": {"x": {"searches": ["y"]}}}},
            r"searches= is said for each of `sets`",
        ),
        (
            {
                "sst2": STAGES["sst2"] | {"base": "b", "first_from": ["${areas}"]},
                "areas": STAGES["areas"] | {"first_from": ["${sst2}"]},
            },
            r"stages: .*(sst2 needs areas|areas needs sst2).*: no stage can be the first of these",
        ),
    ],
)
def test_what_cannot_be_a_pipeline_is_refused(tmp_path: Path, stages: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(tmp_path, **stages)


def test_a_set_may_have_the_name_of_a_key_and_a_text_may_look_like_a_reference(tmp_path: Path) -> None:
    prompts = {"model": {"family": "gpt2"}, "sample_prompts": ["echo $${HOME} $${books}"]}
    judged = STAGES["judged"] | {"sets": {"base": {"searches": ["${sst2}"]}}}
    config = load(tmp_path, bert=STAGES["bert"] | prompts, judged=judged)
    assert config.jobs["bert"].sample_prompts == ["echo ${HOME} ${books}"]  # type: ignore[attr-defined]


def test_what_was_made_without_a_file_is_held_to_the_same() -> None:
    config = PipelineConfig.model_validate({"name": "p", "stages": {"a": {"job": "pretrain", "tokens": "${b}"}}})
    with pytest.raises(ConfigError, match=r"stages\.a\.tokens: \$\{b\} is no stage; there are a"):
        _ = config.jobs
