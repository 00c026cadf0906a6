"""From what a configuration says (`my.prepare/areas`, `my.pretrain`, or a URL) to the labelled set or model itself."""

from llmcore.errors import CorpusError
from llmcore.records import newest_result, run_folder
from llmcore.storage import Folder, Manifest, is_location, read_manifest
from llmcore.tasks.evaluation_set import EvaluationSet

__all__ = ["find_base", "find_evaluation_set"]


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


def find_base(storage: Folder, base: str) -> tuple[Folder, Manifest]:
    """The model of a finished run, or at the URL of a published one.

    Raises:
        CorpusError: There is no such model.
    """
    run = run_folder(storage, base)
    result = newest_result(run)
    model = run if result is None else Folder(f"{run.url.rpartition('/')[0]}/{result['model']}")
    manifest = read_manifest(model)
    if manifest is None:
        raise CorpusError(f"base={base!r}: there is no complete model at {model.url}: run `pretrain` first")
    return model, manifest
