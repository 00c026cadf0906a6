"""Label budgets: which rows they are, and that the test split stays where it is."""

from pathlib import Path

import pyarrow as pa
import pytest

from llmcore.errors import CorpusError
from llmcore.storage import Folder
from llmcore.tasks.columns import KINDS
from llmcore.tasks.evaluation_set import EvaluationSet, write_evaluation_set
from llmcore.tasks.subsets import Subset, check_subsets, publish_subsets, subset_rows

KIND = KINDS["text_classification"]
IDS = [f"row {number}" for number in range(40)]


def _set(storage: Path) -> EvaluationSet:
    columns = KIND.chosen(["text", "label"]).with_metadata(("from",))

    def table(split: str, num_rows: int) -> pa.Table:
        rows = range(num_rows)
        return pa.table(
            {
                "id": [f"{split}-{row}" for row in rows],
                "text": [f"{split} text {row % 20}" for row in rows],
                "label": pa.array([row % 2 for row in rows], pa.int32()),
                "group": [f"{split}-{row // 2}" for row in rows],
                "from": ["a"] * num_rows,
            }
        )

    tables = {split: [table(split, rows)] for split, rows in (("train", 40), ("validation", 8), ("test", 6))}
    return write_evaluation_set(Folder(str(storage)), "made", ["no", "yes"], tables, columns=columns)  # type: ignore[arg-type]


def test_the_smaller_is_part_of_the_larger() -> None:
    drawn = [set(subset_rows(IDS, Subset(number, 3)).tolist()) for number in (1, 5, 20, 40)]
    assert [len(one) for one in drawn] == [1, 5, 20, 40]
    assert drawn[0] < drawn[1] < drawn[2] < drawn[3] == set(range(40))


def test_rows_hang_on_seed_and_id_alone() -> None:
    def ids(order: list[str], seed: int) -> set[str]:
        return {order[row] for row in subset_rows(order, Subset(10, seed))}

    assert ids(IDS, 0) == ids(IDS[::-1], 0) != ids(IDS, 1)


def test_a_subset_is_a_set_without_the_test_split(tmp_path: Path) -> None:
    whole, storage = _set(tmp_path), Folder(str(tmp_path))
    wanted = [Subset(10, 0), Subset(10, 0), Subset(40, 0)]
    found = publish_subsets(storage, whole, KIND, wanted)
    assert [*found] == wanted[1:]
    part = found[Subset(10, 0)]
    assert part.splits == ["train", "validation"]
    assert part.metadata == ["from"] and part.label_names == ["no", "yes"]
    train = whole.rows("train")
    assert part.rows("train").equals(train.take(subset_rows(train["id"].to_pylist(), Subset(10, 0))))
    assert part.rows("validation").equals(whole.rows("validation"))
    assert found[Subset(40, 0)].rows("train").equals(train)
    assert publish_subsets(storage, whole, KIND, wanted) == found


def test_more_rows_than_there_are_is_refused(tmp_path: Path) -> None:
    check_subsets(_set(tmp_path), [Subset(40, 0)])
    with pytest.raises(CorpusError, match="labels has 41 rows, and the train split of made has 40: give fewer"):
        check_subsets(_set(tmp_path), [Subset(3, 0), Subset(41, 0)])
