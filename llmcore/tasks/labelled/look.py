"""A look at the files of a labelled set that reads none of them: are they there, with the columns that are mapped?"""

from collections.abc import Iterable

from llmcore.config.labelled import LabelledDataSettings
from llmcore.errors import BadShardError, CorpusError
from llmcore.storage import Folder
from llmcore.tasks.columns import SetKind
from llmcore.tasks.labelled.files import find_parts
from llmcore.tasks.labelled.mapping import mapped_columns

__all__ = ["looked_at"]


def looked_at(settings: LabelledDataSettings, kind: SetKind) -> list[str]:
    """What is found, in lines for a person; of a dataset, or of files that lie elsewhere, nothing is asked.

    Raises CorpusError and ConfigError for what is wrong with the files or the mapping.
    """
    if settings.dataset is not None or not all(map(_is_local, _urls(settings))):
        return [f"Labelled data {settings.name}: looked at when the job runs"]
    answers = any(column.shape == "answers" for column in kind.columns)
    # Without a dataset nothing is put on a storage.
    parts = find_parts(Folder("/"), settings, answers=answers)
    try:
        mapped = mapped_columns(kind, settings, [part for of_split in parts.values() for part in of_split])
    except BadShardError as error:
        raise CorpusError(str(error)) from error
    files = ", ".join(f"{split} {len(of_split)}" for split, of_split in parts.items())
    return [f"Labelled data {settings.name}: files of {files}; columns {', '.join(mapped.columns.names)}"]


def _urls(settings: LabelledDataSettings) -> Iterable[str]:
    for files in (settings.train, settings.validation, settings.test):
        for urls in files.values() if isinstance(files, dict) else [files]:
            yield from [urls] if isinstance(urls, str) else urls or []


def _is_local(url: str) -> bool:
    return "://" not in url or url.startswith("file://")
