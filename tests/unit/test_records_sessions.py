"""Which checkpoints a start of the workers reads, where starts follow one another within attempts."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcore.errors import SupersededError
from llmcore.records import Writer, begin_session, check_newest_session, checkpoint_name, in_line, step_of, writer_of
from llmcore.storage import Folder


@given(st.integers(0, 10**8 - 1), st.integers(1, 200), st.integers(1, 2000))
def test_a_checkpoint_s_name_says_who_wrote_it(step: int, attempt: int, session: int) -> None:
    name = checkpoint_name(step, attempt, session)
    assert (step_of(name), writer_of(name)) == (step, Writer(attempt, session))


@pytest.mark.parametrize("name", ["model", "step-00000001", "step-00000001-attempt-x", "step-1-attempt-01-session-x"])
def test_a_name_that_is_none_has_no_writer(name: str) -> None:
    assert writer_of(name) == Writer(0)


def test_names_sort_by_step_then_by_writer() -> None:
    names = [checkpoint_name(step, *writer) for step in (9, 10) for writer in ((1, 1), (1, 2), (1, 11), (2, 1))]
    assert sorted(names) == names


def test_an_older_session_is_told_that_it_is_not_the_newest(tmp_path: Path) -> None:
    run = Folder(str(tmp_path))
    assert begin_session(run, 1, list)[0] == 1
    check_newest_session(run, 1, 1)
    assert begin_session(run, 1, list)[0] == 2
    check_newest_session(run, 1, 2)
    with pytest.raises(SupersededError, match="attempt 1 were started again, as those of session 2"):
        check_newest_session(run, 1, 1)
    assert begin_session(run, 2, list)[0] == 1, "each attempt counts its own"


class _Run:
    """Starts of workers, each of which reads what it may, and writes one checkpoint more; some wake up too late."""

    def __init__(self, folder: Path) -> None:
        self.run, self.complete = Folder(str(folder)), list[str]()

    def begin(self, attempt: int) -> tuple[Writer, list[str]]:
        session, accepted = begin_session(self.run, attempt, lambda: sorted(self.complete))
        return Writer(attempt, session), accepted

    def write(self, step: int, writer: Writer) -> str:
        self.complete.append(checkpoint_name(step, *writer))
        return self.complete[-1]


def test_what_was_written_too_late_is_never_read(tmp_path: Path) -> None:
    run = _Run(tmp_path)
    first, accepted = run.begin(1)
    assert accepted == []
    kept = [run.write(10, first)]
    second, accepted = run.begin(1)
    assert accepted == kept
    run.write(20, first)  # it stood still until now
    kept.append(run.write(20, second))
    third, accepted = run.begin(1)
    assert accepted == kept
    run.write(30, second)
    fourth, accepted = run.begin(2)
    assert accepted == kept, "nor by a later attempt"
    run.write(40, third)
    kept.append(run.write(40, fourth))
    assert in_line(run.run, sorted(run.complete)) == kept


@given(st.lists(st.tuples(st.sampled_from(["begin", "attempt", "write", "late"]), st.integers(0, 9)), max_size=25))
def test_in_any_order_of_events_only_the_line_is_read(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, int]]
) -> None:
    run = _Run(tmp_path_factory.mktemp("line"))
    writers = [run.begin(1)[0]]
    line: list[str] = []
    for step, (event, number) in enumerate(events):
        if event == "write":
            line.append(run.write(step, writers[-1]))
        elif event == "late" and len(writers) > 1:
            run.write(step, writers[number % (len(writers) - 1)])
        elif event in ("begin", "attempt"):
            writer, accepted = run.begin(writers[-1].attempt + (event == "attempt"))
            assert accepted == line
            writers.append(writer)
    assert in_line(run.run, sorted(run.complete)) == line
