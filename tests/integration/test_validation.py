"""A classifier's validation over ranks that hold unequal numbers of examples, at ZeRO-3: each pass is a collective.

That of pre-training is in `test_pretraining.py`.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from llmcore.evaluation.kinds import Subject
from llmcore.evaluation.metrics import make_metrics
from llmcore.tasks.text_classification import ClassExample, TextClassification
from tests.engines import NUM_STEPS, tiny_model, tiny_settings
from tests.ranks import run_ranks

EXAMPLES = [ClassExample([5 + number, 9, 0], 0, (number % 2,)) for number in range(4)]
EXAMPLES.append(ClassExample([9, 6, 9, 7, 8, 5, 9, 6, 7, 8, 5, 0], 0, (0,)))
"""The last one has as many tokens as all others: of two ranks, the second has it alone."""
TASK = TextClassification(8, "macro_f1", ("a", "b"))


def _model(folder: str, settings: object = None) -> torch.nn.Module:
    from llmcore.models.build import build_classifier
    from llmcore.train.engine import parameter_home

    home = parameter_home(settings, "fp32", torch.device("cpu")) if settings else None  # type: ignore[arg-type]
    return build_classifier(Path(folder), label_names=["a", "b"], seed=0, random_weights=False, home=home)


def _validated(folder: str) -> list[tuple[dict[str, float], float, list[dict[str, Any]]]]:
    """Metrics; and the loss, and what is said of each row.

    With one, three and five examples, two short ones at once: of two ranks the second has none, one, or one batch less.
    """
    from llmcore.train.engine import Engine
    from llmcore.train.validation import judge_rows, validate_task

    settings = tiny_settings(3)
    engine = Engine(
        _model(folder, settings), TASK, settings, num_steps=NUM_STEPS, precision="fp32", device=torch.device("cpu")
    )

    metrics = make_metrics(Subject(TASK.kind, TASK.label_names), ["accuracy", "macro_f1"])
    found = []
    for size in (1, 3, 5):
        loss, rows = judge_rows(engine, TASK, EXAMPLES[:size], 6)
        found.append((validate_task(engine, TASK, EXAMPLES[:size], 6, metrics), loss, rows.to_pylist()))  # type: ignore[arg-type]
    return found


TWINS = {0: ClassExample([7, 9, 0], 0, (0,)), 3: ClassExample([31, 9, 0], 0, (1,)), 4: ClassExample([8, 2, 0], 0, (0,))}
"""By place, the counterfactuals of three examples: of two ranks one has two, the other the last alone."""


def _moved(folder: str) -> tuple[dict[str, float], list[int]]:
    """Metrics with pairs, and how many examples each pass of the model had."""
    from llmcore.config.counterfactual import WordPairs
    from llmcore.tasks.counterfactual import Counterfactuals
    from llmcore.train.engine import Engine
    from llmcore.train.validation import Pairs, validate_task

    settings = tiny_settings(3)
    engine = Engine(
        _model(folder, settings), TASK, settings, num_steps=NUM_STEPS, precision="fp32", device=torch.device("cpu")
    )
    passes: list[int] = []
    judge = TextClassification.judge

    def counted(task: TextClassification, model: Any, examples: Any, device: torch.device) -> Any:
        passes.append(len(examples))
        return judge(task, model, examples, device)

    TextClassification.judge = counted  # type: ignore[method-assign]
    metrics = make_metrics(Subject(TASK.kind, TASK.label_names), ["accuracy"])
    pairs = Pairs(Counterfactuals(WordPairs()), [*TWINS], [*TWINS.values()])
    none, max_tokens = pairs._replace(places=[], after=[]), 99
    plain = validate_task(engine, TASK, EXAMPLES, max_tokens, metrics)  # type: ignore[arg-type]
    assert validate_task(engine, TASK, EXAMPLES, max_tokens, metrics, none) == plain  # type: ignore[arg-type]
    passes.clear()
    return validate_task(engine, TASK, EXAMPLES, 3, metrics, pairs), passes  # type: ignore[arg-type]


def test_what_a_model_says_of_an_example_is_asked_once_and_held_against_its_counterfactual(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path / "base")  # type: ignore[operator]
    (one, passes), (two, others) = run_ranks(2, _moved, str(tmp_path / "base"), out=tmp_path)
    assert one == two
    assert (len(passes), len(others)) == (4 + 2, 4 + 2), "four examples and two counterfactuals at most, one at a time"
    _model(str(tmp_path / "base")).save_pretrained(tmp_path / "head")  # type: ignore[operator]
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "head", attn_implementation="eager").eval()
    with torch.no_grad():
        before, after = (
            torch.cat([model(torch.tensor([side.tokens])).logits for side in sides])
            for sides in ([EXAMPLES[place] for place in TWINS], TWINS.values())
        )
    flips = float((before.argmax(-1) != after.argmax(-1)).double().mean())
    gap = float((before.softmax(-1) - after.softmax(-1)).abs().sum(-1).mean() / 2)
    assert one["validation_counterfactual_flips"] == pytest.approx(flips)
    assert one["validation_counterfactual_gap"] == pytest.approx(gap, abs=1e-5) and gap > 0


def test_every_example_counts_once_whatever_ranks_hold(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path / "base")  # type: ignore[operator]
    one, two = run_ranks(2, _validated, str(tmp_path / "base"), out=tmp_path)
    assert one == two
    _model(str(tmp_path / "base")).save_pretrained(tmp_path / "head")  # type: ignore[operator]
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "head", attn_implementation="eager").eval()
    for size, (found, loss, rows) in zip((1, 3, 5), one, strict=True):
        with torch.no_grad():
            logits = torch.cat([model(torch.tensor([example.tokens])).logits for example in EXAMPLES[:size]])
        truth = torch.tensor([example.classes[0] for example in EXAMPLES[:size] if example.classes])
        assert found["validation_loss"] == pytest.approx(torch.nn.functional.cross_entropy(logits, truth).item())
        assert found["validation_accuracy"] == pytest.approx(float((logits.argmax(-1) == truth).double().mean()))
        assert loss == found["validation_loss"]
        assert [row["label"] for row in rows] == truth.tolist(), "each row once, in order"
        assert [row["prediction"] for row in rows] == logits.argmax(-1).tolist()
        assert torch.allclose(torch.tensor([row["probabilities"] for row in rows]), logits.softmax(-1), atol=1e-5)
