from pathlib import Path

import pytest

from llmcore.config.finetune import FinetuneConfig
from llmcore.config.loading import dump_config, load_config
from llmcore.config.pipeline import PipelineConfig
from llmcore.config.pretrain import PretrainConfig
from llmcore.config.tune import TuneConfig
from llmcore.errors import ConfigError

PRETRAIN = """\
name: tiny
tokens: tiny.prepare
train:
  num_steps: 10
  optimizer:
    learning_rate: 6e-4
"""
TUNE = """\
name: search
base: tiny
data: tiny.prepare/areas
finetune:
  train: {num_steps: 10}
space:
  train.optimizer.learning_rate: {log_uniform: [1e-4, 1e-2]}
  train.seed: {choice: [0, 1]}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(text)
    return path


def mistakes(
    folder: Path, text: str, *overrides: str, cls: type[PretrainConfig] | type[TuneConfig] = PretrainConfig
) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(cls, write(folder, text), overrides)
    lines = str(caught.value).replace(f"{folder}/", "").splitlines()
    assert len(lines) == 1 or lines[0] == f"{len(lines) - 1} mistakes in the configuration:"
    return lines if len(lines) == 1 else lines[1:]


def test_a_file_and_overrides_become_one_configuration(tmp_path: Path) -> None:
    overrides = ["train.optimizer.learning_rate=3e-4", "cluster.num_cpus=2", "train.optimizer.betas=[0.8, 0.9]"]
    config = load_config(PretrainConfig, write(tmp_path, PRETRAIN), overrides)
    assert config.train.optimizer.learning_rate == 3e-4
    assert config.train.optimizer.betas == (0.8, 0.9)
    assert config.cluster.num_cpus == 2
    assert config.train.num_steps == 10


def test_the_resolved_configuration_reads_back_equal(tmp_path: Path) -> None:
    for cls, text in ((PretrainConfig, PRETRAIN), (TuneConfig, TUNE)):
        config = load_config(cls, write(tmp_path, text))
        assert load_config(cls, write(tmp_path, dump_config(config))) == config


def test_all_mistakes_are_told_at_once_each_with_its_place(tmp_path: Path) -> None:
    text = PRETRAIN + "  zero_stage: 7\nworkers: {num_workers: 0, gpus_per_worker: many}\nstorge: x\n"
    assert mistakes(tmp_path, text, "train.num_steps=ten", "validation_rows=true", "nonsense") == [
        "job.yaml:7: train.zero_stage: got 7; expected 0, 1, 2 or 3",
        "job.yaml:8: workers.num_workers: got 0; expected at least 1",
        "job.yaml:8: workers.gpus_per_worker: got \"many\"; expected a number or 'auto'",
        "job.yaml:9: storge: got an unknown key; expected one of model, objective, masking, next_sentence, spans, "
        "infilling, train, workers, validation_rows, validation_sets, sample_prompts, name, storage, cluster, "
        "budget, push_to_hub, tokens, stream; did you mean storage?",
        'command line: train.num_steps=ten: got "ten"; expected an integer',
        "command line: validation_rows=true: got true; expected an integer",
        "command line: nonsense: expected dotted.key=value",
    ]


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("train.optimizer.lerning_rate=1", "train.optimizer.learning_rate"),
        ("train.learning_rate=1", "train.optimizer.learning_rate"),
        ("learning_rate=1", "train.optimizer.learning_rate"),
        ("num_workers=1", "workers.num_workers"),
        ("global_batch=1", "train.global_batch_size"),
        ("train.n_layer=1", None),
    ],
)
def test_an_unknown_key_names_the_one_that_was_meant(tmp_path: Path, override: str, meant: str | None) -> None:
    (line,) = mistakes(tmp_path, PRETRAIN, override)
    assert line.startswith(f"command line: {override}: ")
    assert line.endswith(f"; did you mean {meant}?") if meant else "did you mean" not in line


def test_a_missing_key_says_what_belongs_there(tmp_path: Path) -> None:
    lines = mistakes(tmp_path, "name: tiny\nfinetune: {}\n", cls=TuneConfig)
    missing = {line.partition("; expected ")[0]: line.partition("; expected ")[2] for line in lines}
    assert "job.yaml:1: base: missing" in missing and "job.yaml:1: data: missing" in missing
    assert "the base model" in missing["job.yaml:1: base: missing"]


def test_text_is_no_number_and_true_is_not_one(tmp_path: Path) -> None:
    lines = mistakes(tmp_path, PRETRAIN, 'train.seed="3"', "train.log_every=true", "train.num_steps=2.5", "name=5")
    assert [line.partition(": got ")[2] for line in lines] == [
        '"3"; expected an integer',
        "true; expected an integer",
        "2.5; expected an integer",
        "5; expected a text",
    ]


def test_a_rule_over_two_keys_stands_at_its_section(tmp_path: Path) -> None:
    (line,) = mistakes(tmp_path, PRETRAIN, "train.num_epochs=2")
    assert line == "job.yaml:3: train: give exactly one of `num_steps` and `num_epochs`"


def test_a_repeated_key_is_told_with_the_other_mistakes(tmp_path: Path) -> None:
    lines = mistakes(tmp_path, PRETRAIN + "name: other\nworkers: {num_workers: 0}\n")
    assert lines[0] == "job.yaml:7: name: written twice, first on line 1; keep one"
    assert len(lines) == 2


def test_keys_that_hold_dots_are_found_as_they_stand(tmp_path: Path) -> None:
    path = write(tmp_path, TUNE)
    config = load_config(TuneConfig, path, ["space.train.optimizer.learning_rate.log_uniform=[1e-3, 1e-1]"])
    assert config.space["train.optimizer.learning_rate"].log_uniform == (1e-3, 1e-1)
    config = load_config(TuneConfig, path, ["space.train.seed.choice.1=7", "space.train.seed.choice.0=6"])
    assert config.space["train.seed"].choice == [6, 7]
    config = load_config(TuneConfig, path, ["space={train.seed: {choice: [3]}}"])
    assert list(config.space) == ["train.seed"]


def test_a_mistake_inside_a_value_given_as_a_mapping_names_the_inner_key(tmp_path: Path) -> None:
    override = "space={train.seed: {uniform: [0, x]}}"
    (line,) = mistakes(tmp_path, TUNE, override, cls=TuneConfig)
    assert line == f'command line: {override}: space.train.seed.uniform.1: got "x"; expected a number'


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("space.train.seed.choice.9=1", "space.train.seed.choice has the items 0 to 1"),
        ("name.x=1", 'name is "search"; expected a section there'),
        ("name=[1", "not valid YAML"),
        ("a..b=1", "expected dotted.key=value"),
        ("=1", "expected dotted.key=value"),
    ],
)
def test_an_override_that_leads_nowhere_is_a_mistake(tmp_path: Path, override: str, words: str) -> None:
    (line,) = mistakes(tmp_path, TUNE, override, cls=TuneConfig)
    assert line.startswith(f"command line: {override}: ")
    assert words in line


def test_of_two_overrides_of_one_key_the_last_stands_and_is_blamed(tmp_path: Path) -> None:
    assert load_config(PretrainConfig, write(tmp_path, PRETRAIN), ["name=a", "name=b"]).name == "b"
    (line,) = mistakes(tmp_path, PRETRAIN, "train.seed=x", "train={num_steps: 1, seed: -1}")
    assert line == "command line: train={num_steps: 1, seed: -1}: train.seed: got -1; expected at least 0"


def test_a_section_with_nothing_under_it_takes_overrides(tmp_path: Path) -> None:
    config = load_config(PretrainConfig, write(tmp_path, PRETRAIN + "cluster:\n"), ["cluster.address=auto"])
    assert config.cluster.address == "auto"


def test_a_section_that_an_override_brought_is_blamed_on_it(tmp_path: Path) -> None:
    (line,) = mistakes(tmp_path, PRETRAIN, "train.workers.num_workers=1")
    assert line.startswith("command line: train.workers.num_workers=1: train.workers: got an unknown key")
    assert line.endswith("did you mean workers?")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "got an empty file"),
        (b"- a\n", "got a list"),
        (b"just text", "got a str"),
        (b"a: [\n", "not valid YAML"),
        (b"\xff\xfe\xfa", "not UTF-8"),
    ],
)
def test_a_file_that_holds_no_configuration(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        load_config(FinetuneConfig, path)


def test_a_path_that_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: no such file"):
        load_config(FinetuneConfig, tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(FinetuneConfig, tmp_path)


def test_stages_of_a_pipeline_are_found_by_their_nearest_section(tmp_path: Path) -> None:
    text = (
        "name: p\nstages:\n  a: {job: pretrain, tokens: t, train: {num_steps: 1, lerning_rate: 1}}\n"
        "  b: {job: tune, base: b, data: d, space: {train.seed: {choice: [0]}}, "
        "finetune: {train: {seed: 1, betas: 1}}}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config(PipelineConfig, write(tmp_path, text))
    told = str(caught.value)
    assert ":3: stages.a.train.lerning_rate: got an unknown key" in told
    assert "did you mean stages.a.train.optimizer.learning_rate?" in told
    assert "did you mean stages.b.finetune.train.optimizer.betas?" in told


def test_a_pipelines_metrics_are_those_of_its_task() -> None:
    smoke = Path(__file__).parents[2] / "configs" / "pipeline" / "smoke.yaml"
    with pytest.raises(ConfigError, match="'bleu' is no metric of text_classification: there are accuracy, macro_f1"):
        load_config(PipelineConfig, smoke, ["stages.evaluate.metrics=[bleu]"])
    with pytest.raises(ConfigError, match="'lead_3' is no baseline of text_classification: there is majority"):
        load_config(PipelineConfig, smoke, ["stages.evaluate.baselines=[lead_3]"])
