import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from llmcore.config.base import Section, change_of, flagged, free, identity, nested_in
from llmcore.config.fingerprint import differences, fingerprint, flagged_of, identity_of
from llmcore.config.pretrain import PretrainConfig
from llmcore.config.reference import CONFIGS
from llmcore.config.tune import TuneConfig


class Inner(Section):
    kept: int = identity(1, description="identity")
    loose: int = flagged(2, description="flagged")
    any_time: int = free(3, description="free")


class Outer(Section):
    strict: Inner = identity(Inner, description="its fields count as they say")
    lenient: Inner = flagged(Inner, description="no field is stricter than flagged")
    open: Inner = free(Inner, description="all is free")
    items: list[Inner] = identity(list, description="a list of sections")
    named: dict[str, Inner] = identity(dict, description="a mapping to sections")
    maybe: Inner | None = identity(None, description="a section or nothing")
    anything: dict[str, Any] = identity(dict, description="plain values")


def pretrain(**changes: Any) -> PretrainConfig:
    given = {"name": "a", "tokens": "t", "train": {"num_steps": 3}}
    return PretrainConfig.model_validate(given | changes)


inners = st.builds(Inner, kept=st.integers(), loose=st.integers(), any_time=st.integers())
outers = st.builds(
    Outer,
    strict=inners,
    lenient=inners,
    open=inners,
    items=st.lists(inners, max_size=3),
    named=st.dictionaries(st.text(max_size=3), inners, max_size=3),
    maybe=st.none() | inners,
    anything=st.dictionaries(st.text(max_size=3), st.none() | st.integers() | st.text(max_size=3), max_size=3),
)


def test_each_field_counts_by_its_own_annotation_and_no_stricter_than_what_holds_it() -> None:
    config = Outer(items=[Inner()], named={"x": Inner()}, maybe=Inner(), anything={"k": 1})
    assert identity_of(config) == {
        "strict": {"kept": 1},
        "items": [{"kept": 1}],
        "named": {"x": {"kept": 1}},
        "maybe": {"kept": 1},
        "anything": {"k": 1},
    }
    assert flagged_of(config) == {
        "strict": {"loose": 2},
        "lenient": {"kept": 1, "loose": 2},
        "items": [{"loose": 2}],
        "named": {"x": {"loose": 2}},
        "maybe": {"loose": 2},
    }


@given(outers, outers)
def test_fingerprints_are_equal_exactly_when_identities_are(one: Outer, other: Outer) -> None:
    same = identity_of(one) == identity_of(other)
    assert (fingerprint(one, {}, 1) == fingerprint(other, {}, 1)) == same
    assert (differences(identity_of(one), identity_of(other)) == []) == same


@given(outers, inners)
def test_what_is_free_or_flagged_never_counts(config: Outer, other: Inner) -> None:
    strict = config.strict.model_copy(update={"loose": other.loose, "any_time": other.any_time})
    changed = config.model_copy(update={"open": other, "lenient": other, "strict": strict})
    assert fingerprint(changed, {}, 1) == fingerprint(config, {}, 1)


@given(outers)
def test_identity_survives_json(config: Outer) -> None:
    stored = json.loads(json.dumps(identity_of(config)))
    assert differences(stored, identity_of(config)) == []
    assert fingerprint(Outer.model_validate_json(config.model_dump_json()), {}, 1) == fingerprint(config, {}, 1)


def test_where_a_run_is_kept_and_runs_is_no_part_of_its_fingerprint() -> None:
    here = fingerprint(pretrain(), {}, 1)
    moved = pretrain(name="b", storage="s3://elsewhere/runs", cluster={"address": "auto"}, workers={"num_workers": 7})
    assert fingerprint(moved, {}, 1) == here
    assert fingerprint(pretrain(train={"num_steps": 3, "zero_stage": 3, "log_every": 1}), {}, 1) == here
    assert fingerprint(pretrain(train={"num_steps": 3, "seed": 1}), {}, 1) != here


def test_inputs_and_the_version_of_the_step_count() -> None:
    config = pretrain()
    fingerprints = {
        fingerprint(config, inputs, version)
        for inputs in ({}, {"tokens": "ab"}, {"tokens": "cd"})
        for version in (1, 2)
    }
    assert len(fingerprints) == 6
    one, two = {"a": "1", "b": "2"}, {"b": "2", "a": "1"}
    assert fingerprint(config, one, 1) == fingerprint(config, two, 1)


def test_names_inside_a_configuration_count() -> None:
    space = {"train.seed": {"choice": [0, 1]}}
    given = {"name": "a", "base": "x", "data": "y/z", "finetune": {"train": {"num_steps": 1}}, "space": space}
    renamed = given | {"space": {"train.optimizer.learning_rate": {"choice": [0, 1]}}}
    assert fingerprint(TuneConfig.model_validate(given), {}, 1) != fingerprint(
        TuneConfig.model_validate(renamed), {}, 1
    )


def test_differences_are_lines_a_person_reads() -> None:
    old = {"train": {"optimizer": {"learning_rate": 0.001}, "betas": [0.9, 0.95]}, "sources": ["a"], "gone": None}
    new = {"train": {"optimizer": {"learning_rate": 0.002}, "betas": [0.9, 0.99]}, "sources": ["a", "b"], "new": True}
    assert differences(old, new) == [
        "train.optimizer.learning_rate: 0.001 -> 0.002",
        "train.betas.1: 0.95 -> 0.99",
        'sources: ["a"] -> ["a", "b"]',
        "gone: null -> (absent)",
        "new: (absent) -> true",
    ]
    assert differences({"a": 1, "b": 1}, {"a": 1.0, "b": True}) == ["b: 1 -> true"]


def test_every_field_of_every_configuration_says_what_a_change_means() -> None:
    sections: list[type[Section]] = list(CONFIGS.values())
    for section in sections:
        for name, field in section.model_fields.items():
            assert change_of(field), f"{section.__name__}.{name}"
            assert field.description, f"{section.__name__}.{name}"
            nested = nested_in(field.annotation)
            if nested and nested.section not in sections:
                sections.append(nested.section)  # the loop goes on to it
    assert len(sections) > len(CONFIGS)


def test_a_longer_run_is_the_same_run_under_a_flag() -> None:
    short, long = pretrain(train={"num_steps": 3}), pretrain(train={"num_steps": 9, "stop_after": 5})
    assert fingerprint(short, {}, 1) == fingerprint(long, {}, 1)
    assert differences(flagged_of(short), flagged_of(long)) == [
        "train.num_steps: 3 -> 9",
        "train.stop_after: null -> 5",
    ]
