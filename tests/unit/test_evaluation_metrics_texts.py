"""Metrics of texts are those of the libraries that define them, of whole corpora and of every resample."""

import math
from itertools import combinations

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from llmcore.errors import CorpusError
from llmcore.evaluation.bootstrap import Measured
from llmcore.evaluation.kinds import Subject
from llmcore.evaluation.metrics import make_metric, make_metrics
from tests.predictions import rows_of, value, values

TRANSLATION = Subject("translation")
WORDS = st.sampled_from(["the", "a", "man", "men", "running", "runs,", "DOG's", "übers", "Weiß", "3,000", "(red)", "&"])
TEXTS = st.lists(WORDS, max_size=12).map(" ".join)
CORPORA = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=8)


@settings(deadline=None)
@given(corpus=CORPORA)
def test_bleu_and_chrf_of_a_corpus_are_sacrebleus(corpus: list[tuple[str, str]]) -> None:
    written, target = map(list, zip(*corpus, strict=True))
    ours = values(TRANSLATION, ["bleu", "chrf"], rows_of(target=target, prediction=written))
    assert ours == {
        "bleu": sacrebleu.corpus_bleu(written, [target]).score,
        "chrf": sacrebleu.corpus_chrf(written, [target]).score,
    }


@settings(deadline=None, max_examples=30)
@given(corpus=CORPORA, seed=st.integers(0, 1000))
def test_of_resampled_rows_they_are_those_of_the_corpus_written_out(corpus: list[tuple[str, str]], seed: int) -> None:
    written, target = map(list, zip(*corpus, strict=True))
    counts = np.random.default_rng(seed).integers(0, 4, size=(3, len(corpus)))
    counts[:, 0] += 1
    index = np.arange(len(corpus))
    for name, theirs in (("bleu", sacrebleu.corpus_bleu), ("chrf", sacrebleu.corpus_chrf)):
        measure = make_metric(TRANSLATION, name).measure(rows_of(target=target, prediction=written))
        ours = measure(index, index, len(corpus))(counts.astype(float))
        for one, of_rows in zip(ours, counts, strict=True):
            drawn = np.repeat(index, of_rows)
            assert one == theirs([written[row] for row in drawn], [[target[row] for row in drawn]]).score


def test_signatures_are_sacrebleus() -> None:
    for name, metric in (("bleu", sacrebleu.BLEU()), ("chrf", sacrebleu.CHRF())):
        metric.corpus_score(["a b"], [["a b"]])
        assert make_metric(TRANSLATION, name).signature == str(metric.get_signature())
    assert "tok:13a" in make_metric(TRANSLATION, "bleu").signature
    assert "stemmer:porter|rouge-score:0.1.2" in make_metric(TRANSLATION, "rouge1").signature


@settings(deadline=None)
@given(corpus=CORPORA)
def test_rouge_is_the_mean_of_rouge_score(corpus: list[tuple[str, str]]) -> None:
    written, summary = map(list, zip(*corpus, strict=True))
    names = ["rouge1", "rouge2", "rougeL"]
    scorer = RougeScorer(names, use_stemmer=True)
    theirs = [scorer.score(summary, written) for written, summary in corpus]
    ours = values(Subject("summarization"), names, rows_of(summary=summary, prediction=written))
    assert ours == pytest.approx({name: np.mean([one[name].fmeasure for one in theirs]) for name in names})


def test_the_text_to_be_written_is_of_the_kind_and_the_last_message_of_a_conversation() -> None:
    messages = [[{"role": "user", "content": "hi"}, {"role": "assistant", "content": " hello "}]]
    assert value(Subject("chat"), "exact_match", rows_of(messages=messages, prediction=["hello"])) == 1.0
    assert value(Subject("text_generation"), "exact_match", rows_of(completion=["x"], prediction=["y"])) == 0.0
    rows = rows_of(solution=["x = 1"], tests=[["assert x"]], prediction=["x = 1\n"])
    assert value(Subject("code_generation"), "exact_match", rows) == 1.0


@given(rows=st.lists(st.tuples(st.floats(0, 50), st.integers(0, 20), st.integers(0, 90)), min_size=1, max_size=9))
def test_perplexity_and_bits_a_byte_are_of_all_tokens_and_bytes_together(rows: list[tuple[float, int, int]]) -> None:
    losses, tokens, num_bytes = map(list, zip(*rows, strict=True))
    table = rows_of(loss_sum=losses, num_tokens=tokens, num_bytes=num_bytes)
    perplexity, bits = (value(Subject("chat"), name, table) for name in ("perplexity", "bits_per_byte"))
    if sum(tokens):
        assert perplexity == pytest.approx(math.exp(math.fsum(losses) / sum(tokens)))
    else:
        assert np.isnan(perplexity)
    if sum(num_bytes):
        assert bits == pytest.approx(math.fsum(losses) / math.log(2) / sum(num_bytes))
    else:
        assert np.isnan(bits)
    assert not make_metric(Subject("chat"), "perplexity").higher_is_better


@pytest.mark.parametrize("k", [1, 2, 5])
@given(samples=st.lists(st.booleans(), min_size=5, max_size=8))
def test_pass_at_k_is_the_share_of_all_draws_of_k_that_have_a_right_one(k: int, samples: list[bool]) -> None:
    draws = [any(draw) for draw in combinations(samples, k)]
    rows = rows_of(num_samples=[len(samples), len(samples)], num_correct=[sum(samples), 0])
    ours = value(Subject("code_generation"), f"pass_at_{k}", rows)
    assert ours == pytest.approx(np.mean(draws) / 2)  # the second problem has no right sample


@pytest.mark.parametrize("num, right", [(3, 1), (10, 11), (10, -1)])
def test_samples_that_cannot_be_are_named(num: int, right: int) -> None:
    with pytest.raises(CorpusError, match=rf"row '0' has {right} right of {num} samples: pass_at_5 needs 5 or more"):
        value(Subject("code_generation"), "pass_at_5", rows_of(num_samples=[num], num_correct=[right]))


def test_columns_that_predictions_do_not_have_are_named() -> None:
    rows = rows_of(target=["x"], prediction=["x"], num_tokens=[1])
    of = Measured.of(make_metrics(TRANSLATION, ["perplexity", "exact_match", "bits_per_byte"]), rows)
    assert of.absent == {"perplexity": ["loss_sum"], "bits_per_byte": ["loss_sum", "num_bytes"]}
    assert of.values() == {"exact_match": 1.0}
