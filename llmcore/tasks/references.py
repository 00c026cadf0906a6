"""From what a configuration says (`my.prepare/areas`, a URL, or files) to the labelled set itself."""

from llmcore.config.labelled import LabelledDataSettings
from llmcore.errors import CorpusError
from llmcore.records import newest_result
from llmcore.storage import Folder, is_location
from llmcore.tasks.columns import SetKind
from llmcore.tasks.evaluation_set import EvaluationSet
from llmcore.tasks.labelled import LabelledData, publish_labelled_data

__all__ = ["find_evaluation_set", "find_labelled_data"]


def find_labelled_data(storage: Folder, reference: str | LabelledDataSettings, kind: SetKind) -> LabelledData:
    """The labelled set that a configuration names, or whose files it names: these are published, once.

    Raises:
        CorpusError: There is no such set, it is of another kind, or its files are not as they must be.
        ConfigError: The section names what the kind does not have.
    """
    if isinstance(reference, LabelledDataSettings):
        return publish_labelled_data(storage, reference, kind)
    labelled = find_evaluation_set(storage, reference)
    if labelled.kind != kind.name:
        raise CorpusError(
            f"data={reference!r} is a set of {labelled.kind}, and the task is {kind.name}: give one of it"
        )
    try:
        kind.chosen(labelled.columns)
    except CorpusError as error:
        raise CorpusError(f"data={reference!r} has the columns {labelled.columns}, and the task: {error}") from error
    return LabelledData(labelled)


def find_evaluation_set(storage: Folder, reference: str) -> EvaluationSet:
    """The labelled set of `<prepare run>/<name>` under a storage, or at the URL of an evaluation set.

    Raises:
        CorpusError: There is no such set; the message says which the run has.
    """
    if is_location(reference):
        return EvaluationSet.open(Folder(reference))
    run, slash, name = reference.rpartition("/")
    if not slash:
        raise CorpusError(f"data={reference!r} is neither `<prepare run>/<labelled set>` nor a URL")
    result = newest_result(storage / run)
    if result is None:
        raise CorpusError(f"data={reference!r}: no finished run {run!r} at {storage.url}: run `prepare` first")
    published = result.get("labelled_sets", {})
    if name not in published:
        raise CorpusError(f"run {run!r} has no labelled set {name!r}, only {sorted(published)}")
    return EvaluationSet.open(storage / published[name])
