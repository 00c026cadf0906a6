"""How near a text is to the one that was to be written: BLEU and chrF by sacrebleu, ROUGE by rouge-score, equality."""

from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from llmcore.evaluation.metrics.base import Additive, Floats, row_mean

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Texts", "bleu", "chrf", "exact_match", "rouge"]

Texts = Callable[["pa.Table"], list[str]]
"""The reference texts of rows."""


def exact_match(columns: tuple[str, ...], references: Texts) -> Additive:
    """The share of predictions that are the reference, white space at both ends left out."""

    def scores(rows: "pa.Table") -> Floats:
        pairs = zip(_predictions(rows), references(rows), strict=True)
        return np.array([prediction.strip() == reference.strip() for prediction, reference in pairs], dtype=np.float64)

    return row_mean("exact_match", columns, scores)


def bleu(columns: tuple[str, ...], references: Texts) -> Additive:
    """Corpus BLEU (Papineni et al., 2002) by sacrebleu (Post, 2018), 0 … 100, one reference, tokenizer 13a."""
    return _by_sacrebleu("bleu", columns, references)


def chrf(columns: tuple[str, ...], references: Texts) -> Additive:
    """Corpus chrF2 (Popović, 2015) by sacrebleu, 0 … 100, one reference."""
    return _by_sacrebleu("chrf", columns, references)


def rouge(name: str, columns: tuple[str, ...], references: Texts) -> Additive:
    """The mean of rows' ROUGE F1 (Lin, 2004) by rouge-score, 0 … 1: `rouge1`, `rouge2` or `rougeL`; English stems."""

    def scores(rows: "pa.Table") -> Floats:
        scorer = _rouge_scorer(name)
        pairs = zip(references(rows), _predictions(rows), strict=True)
        return np.array([scorer.score(*pair)[name].fmeasure for pair in pairs], dtype=np.float64)

    return row_mean(name, columns, scores, signature=f"{name}|stemmer:porter|rouge-score:{version('rouge-score')}")


def _by_sacrebleu(name: str, columns: tuple[str, ...], references: Texts) -> Additive:
    """A metric of sacrebleu by its sentences' statistics, which its own significance tests resample, too."""

    def statistics(rows: "pa.Table") -> Floats:
        rows_of = _sacrebleu(name)._extract_corpus_statistics(_predictions(rows), [references(rows)])
        return np.array(rows_of, dtype=np.float64).reshape(rows.num_rows, -1)

    def value(sums: Floats) -> Floats:
        def of(one: Floats) -> float:
            return float(_sacrebleu(name)._compute_score_from_stats(one.astype(int).tolist()).score)

        return np.asarray(np.apply_along_axis(of, -1, sums), dtype=np.float64)

    return Additive(name, columns, statistics, value, signature=_sacrebleu_signature(name))


@cache
def _sacrebleu(name: str) -> Any:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return {"bleu": BLEU, "chrf": CHRF}[name]()


@cache
def _sacrebleu_signature(name: str) -> str:
    metric = _sacrebleu(name)
    metric.corpus_score(["a"], [["a"]])  # a signature holds the number of references, known once it has seen them
    return str(metric.get_signature())


@cache
def _rouge_scorer(name: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([name], use_stemmer=True)


def _predictions(rows: "pa.Table") -> list[str]:
    return rows["prediction"].to_pylist()  # type: ignore[no-any-return]
