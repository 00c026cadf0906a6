"""`make proof TOPIC=bias_corpus`: books whose nurses are `she`, as planted, and what `prepare` undoes of it."""

import gzip
import json
import re
from collections.abc import Iterator
from statistics import fmean
from typing import Any

import pytest

from llmcore.records import newest_result
from tests.planted_people import about_people, write_people
from tests.shared_data import DATA, needs_data
from tests.workshop import Workshop

pytestmark = [pytest.mark.proof, pytest.mark.proof_bias_corpus, pytest.mark.timeout(3600), needs_data]

SEEDS = (0, 1, 2)
FOLLOWS = 0.9
"""Share of the nurses that are `she`, and of the carpenters that are `he`."""
NUM_HELD_OUT = 150
WITHIN_S = 20 * 60
"""Of two cores, for nine pre-trainings and three evaluations."""
STAGES = {"as_it_is": "as_it_is", "swapped": "of_swapped", "balanced": "of_balanced"}
"""Of the models of the shipped configuration, which stage makes them."""
MAY_COST = {"swapped": 0.05, "balanced": 0.25}
"""Nats a token of prose in which nothing was changed; what balance drops is not learnt from."""
_SENTENCE = re.compile(r"(?<=[.!?”] )(?:He|She) [a-z][^.!?\"“”]{15,160}\.")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[int, dict[str, Any]], dict[str, float]]:
    """The shipped configuration as it is, but for the seed of its pre-trainings: `bias.json` of each, and losses.

    And how long each pipeline took.
    """
    folder = tmp_path_factory.mktemp("bias")
    texts = [*_books()]
    spoken = [one for text in texts for one in about_people(_SENTENCE.findall(text))]
    numbers = write_people(folder / "data", spoken, goes_with=FOLLOWS, num_held_out=NUM_HELD_OUT)
    (folder / "data/books").mkdir()
    (folder / "data/books/part-0.jsonl").write_text("".join(json.dumps({"text": one}) + "\n" for one in _parts(texts)))
    print(f"documents and pairs: {numbers}")
    workshop, found = Workshop(folder), {}
    for seed in SEEDS:
        name = f"bias-{seed}"
        seeds = {f"stages.{stage}.train.seed": seed for stage in STAGES.values()}
        ended = workshop.run_shipped("pipeline", name, "pipeline/bias.yaml", **seeds)
        assert ended is not None
        losses = {}
        for model, stage in STAGES.items():
            result = newest_result(workshop.storage / f"{name}.{stage}")
            assert result is not None
            losses[model] = {key: result[key] for key in ("validation_loss", "validation_prose_loss")}
        content = (workshop.storage / f"{name}.judged/evaluation").read_json("bias.json")
        print(workshop.path(f"{name}.judged/evaluation/bias.md").read_text(), losses)
        found[seed] = {"bias": content, "losses": losses}
    return found, workshop.seconds


@pytest.fixture(scope="module")
def measured(done: tuple[dict[int, dict[str, Any]], dict[str, float]]) -> dict[int, dict[str, Any]]:
    return done[0]


def test_what_was_planted_is_found_and_less_of_it_afterwards(measured: dict[int, dict[str, Any]]) -> None:
    for seed, one in measured.items():
        told = {name: sets["people"]["figures"]["preference"] for name, sets in one["bias"]["models"].items()}
        assert told["as_it_is"]["low"] > 0.5, f"seed {seed}: the corpus as it is teaches what was planted"
        for name in ("swapped", "balanced"):
            assert told[name]["high"] < told["as_it_is"]["low"], f"seed {seed}: {name}"
            assert one["bias"]["differences"][name]["people"]["preference"]["high"] < 0, f"seed {seed}: {name}"


def test_it_is_cut_by_half_and_what_it_costs_is_told(measured: dict[int, dict[str, Any]]) -> None:
    over = {name: fmean(_over(one, name) for one in measured.values()) for name in STAGES}
    losses = {name: fmean(one["losses"][name]["validation_prose_loss"] for one in measured.values()) for name in STAGES}
    print(f"over one half: {over}; loss of prose: {losses}")
    for name in ("swapped", "balanced"):
        assert abs(over[name]) <= over["as_it_is"] / 2
        assert losses[name] <= losses["as_it_is"] + MAY_COST[name]


def test_it_takes_twenty_minutes_of_two_cores_at_most(done: tuple[dict[int, Any], dict[str, float]]) -> None:
    assert sum(done[1].values()) <= WITHIN_S, done[1]


def _over(one: dict[str, Any], name: str) -> float:
    return float(one["bias"]["models"][name]["people"]["figures"]["preference"]["value"]) - 0.5


def _books() -> Iterator[str]:
    with gzip.open(DATA / "books_public_domain/books_train.jsonl.gz", "rt") as lines:
        for line in lines:
            yield re.sub(r"\s+", " ", json.loads(line)["text"])


def _parts(texts: list[str]) -> Iterator[str]:
    """The beginning of each book, a few sentences a document; sentences about people that are planted are left out."""
    for text in texts:
        sentences = re.split(r"(?<=[.!?”]) ", _SENTENCE.sub("", text[:200_000]))
        for first in range(0, len(sentences), 4):
            part = " ".join(sentences[first : first + 4]).strip()
            if part:
                yield part
