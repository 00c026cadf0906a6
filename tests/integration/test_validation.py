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

EXAMPLES = [ClassExample([5 + number, 9, 0], 0, (number % 2,)) for number in range(5)]
TASK = TextClassification(8, "macro_f1", ("a", "b"))


def _model(folder: str, settings: object = None) -> torch.nn.Module:
    from llmcore.models.build import build_classifier
    from llmcore.train.engine import parameter_home

    home = parameter_home(settings, "fp32", torch.device("cpu")) if settings else None  # type: ignore[arg-type]
    return build_classifier(Path(folder), label_names=["a", "b"], seed=0, random_weights=False, home=home)


def _validated(folder: str) -> list[tuple[dict[str, float], float, list[dict[str, Any]]]]:
    """Metrics; and the loss, and what is said of each row.

    With one, three and five examples, two at once: of two ranks the second has none, none, or one batch less.
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
        loss, rows = judge_rows(engine, TASK, EXAMPLES[:size], 2)
        found.append((validate_task(engine, TASK, EXAMPLES[:size], 2, metrics), loss, rows.to_pylist()))  # type: ignore[arg-type]
    return found


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
