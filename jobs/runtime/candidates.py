"""From what an evaluation's configuration names to models, and to the labelled set that they are judged on."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from jobs.runtime.bias import Biases
from jobs.runtime.harness import Writer
from llmcore.config.evaluate import EvaluateConfig
from llmcore.errors import ConfigError, CorpusError
from llmcore.evaluation.candidates import Candidate, FineTuning, Source, candidates_hash
from llmcore.evaluation.harness.asked import own_files_hash
from llmcore.evaluation.kinds import Subject
from llmcore.evaluation.named import NamedModel
from llmcore.evaluation.searches import Search
from llmcore.evaluation.suite import Suite
from llmcore.records import run_folder
from llmcore.storage import Folder
from llmcore.tasks import task_class
from llmcore.tasks.bases import base_model
from llmcore.tasks.evaluation_set import SPLITS, EvaluationSet
from llmcore.tasks.references import find_labelled_data
from llmcore.tasks.text_to_text import TextToText

__all__ = ["Sources"]


@dataclass(frozen=True)
class Sources:
    """All that is judged: searches, whose trials may still come, and models, which are there.

    Further models are those that lm-evaluation-harness alone asks; those whose bias alone is measured are in `biases`.
    """

    storage: Folder
    searches: list[Search]
    models: list[NamedModel]
    further: list[Writer] = field(default_factory=list)
    biases: Biases | None = None

    @classmethod
    def of(cls, config: EvaluateConfig, storage: Folder) -> "Sources":
        """What a configuration names.

        Raises:
            ConfigError: A model is not there, or a name is given twice.
            CorpusError: A set that measures bias is not there, or is none.
        """
        folders = [run_folder(storage, one) for one in config.searches]
        if len({folder.name for folder in folders}) < len(folders):
            raise ConfigError(f"searches={config.searches} has one name twice: trials could not be told apart")
        several = len(folders) > 1 or bool(config.models)
        return cls(
            storage,
            [Search(folder, f"{folder.name}/" if several else "") for folder in folders],
            [NamedModel.find(storage, name, reference) for name, reference in config.models.items()],
            [_further(storage, *named) for named in (config.harness.models if config.harness else {}).items()],
            None if config.bias is None else Biases.of(config.bias, storage),
        )

    @property
    def all(self) -> Sequence[Source]:
        """Searches first."""
        return [*self.searches, *self.models]

    def candidates(self) -> list[Candidate]:
        """All that there are by now."""
        return [candidate for source in self.all for candidate in source.candidates()]

    def closed(self) -> bool:
        """Whether no more will come."""
        return all(source.closed() is not None for source in self.all)

    def config_trials(self) -> list[str]:
        """Ids of the trials whose point is `finetune` as it stands, of searches that try it."""
        return [search.prefix + trial for search in self.searches if (trial := search.config_trial()) is not None]

    def missing(self) -> list[str]:
        """URLs of the searches that have not begun."""
        return [search.folder.url for search in self.searches if search.config() is None]

    def source_of(self, candidate: Candidate) -> Source:
        """Where a candidate is from."""
        if candidate.what == "model":
            return next(model for model in self.models if model.name == candidate.id)
        return next(search for search in self.searches if candidate.id.startswith(search.prefix))

    def parents_of(self, candidate: Candidate) -> list[str]:
        """The run that made a candidate, as it is named; none where that is not known."""
        made = self.source_of(candidate).fine_tuning()
        if made is None:
            return []
        return [made.run.name if made.storage.url == self.storage.url else made.run.url]

    def labelled(self, config: EvaluateConfig) -> EvaluationSet:
        """The labelled set that all are judged on, once all have begun.

        Raises:
            ConfigError: They learn different sets, or a model is made for other sets than this.
            CorpusError: There is no such set, or it lacks a split.
        """
        sets: dict[str, EvaluationSet] = {}
        kind = next(str(source.task_kind()) for source in self.all)
        if config.data is not None:
            data = find_labelled_data(self.storage, config.data, task_class(kind).set_kind)
            sets["data"] = data.evaluation_set
        # A model may be judged on what it has not learnt; a search's trials were compared on its own validation split.
        learners = [*self.searches, *(self.models if not self.searches and not sets else ())]
        sets |= {source.name: self._learnt(source) for source in learners}
        if len({one.hash for one in sets.values()}) > 1:
            told = ", ".join(f"{name}: {one.name} {one.hash[:12]}" for name, one in sets.items())
            raise ConfigError(f"there are different labelled sets ({told}): evaluate them one by one, or give `data`")
        labelled = next(iter(sets.values()))
        if absent := [split for split in SPLITS[1:] if split not in labelled.splits]:
            raise CorpusError(
                f"evaluation set {labelled.name!r} has no {' and no '.join(absent)} split: models are "
                "chosen on validation, and the chosen one is judged on test"
            )
        for model in self.models:
            _check_fits(model, labelled)
        return labelled

    def _learnt(self, source: Source) -> EvaluationSet:
        made = source.fine_tuning()
        if made is None:
            raise ConfigError(f"what {source.name} has learnt is not recorded beside it: give `data`, to judge it on")
        return made.learnt()

    def hash(self, config: EvaluateConfig, candidates: Sequence[Candidate], labelled: EvaluationSet) -> str:
        """Of what there is to judge, and what it is judged by: when it is the same, nothing has to be done again."""
        asked = [f"{one.name} {one.sha256}" for one in self.further]
        if config.harness and (own := own_files_hash(config.harness)):
            asked.append(own)
        if self.biases is not None:
            asked.append(self.biases.hash)
        return candidates_hash(candidates, labelled.hash, *asked)

    def check(self, suite: Suite, baselines: Sequence[str], *, harness: bool = False) -> None:
        """Raises ConfigError where what is asked for is not possible with these models."""
        for source in self.all:
            kind = str(source.task_kind())
            if harness and not source.writes():
                raise ConfigError(
                    f"harness asks models that write, and {source.name}, a {kind} model, has a head instead: leave "
                    "`harness` out, or judge that model apart"
                )
            if suite.generation is not None and not issubclass(task_class(kind), TextToText):
                raise ConfigError(
                    f"generation says how answers are written, and {source.name}, a {kind} model, writes none: leave "
                    "it out"
                )
            if "config" in baselines and not self.config_trials():
                raise ConfigError(
                    "baselines has config, and no search here has `config` among its first_points: add it there, and "
                    "search again, or leave it out"
                )
            if "random_weights" in baselines and source.fine_tuning() is None:
                raise ConfigError(
                    f"baselines has random_weights, and how {source.name} was fine-tuned is not recorded beside it: "
                    "name its run instead, or give the other baselines alone"
                )

    def strangers(self, labelled: EvaluationSet) -> list[str]:
        """Names of the models that have learnt another set than this, as far as their manifests say."""
        learnt = {model.name: model.manifest.about.get("data", {}).get("hash") for model in self.models}
        return [name for name, one in learnt.items() if one != labelled.hash]

    def checked(self, labelled: EvaluationSet) -> bool | None:
        """Whether all that the models were pre-trained on was checked for the set's held-out rows; None: unknown."""
        made: list[FineTuning | None] = [source.fine_tuning() for source in self.all]
        sets = [None if one is None else one.checked_sets() for one in made]
        known = [one for one in sets if one is not None]
        return all(labelled.hash in one for one in known) if len(known) == len(sets) else None


def _further(storage: Folder, name: str, reference: str) -> Writer:
    """A model for the harness alone. Raises ConfigError where it is not there, or writes nothing."""
    from llmcore.models.generation.loading import way_to_write

    key = f"harness.models.{name}"
    try:
        folder, manifest = base_model(storage, reference, key)
    except CorpusError as error:
        raise ConfigError(str(error)) from error
    architecture = (folder.read_json("config.json").get("architectures") or ["no architecture"])[0]
    if way_to_write(architecture) is None:
        raise ConfigError(f"{key}={reference!r} is a {architecture}, which writes no text: the harness cannot ask it")
    return Writer(name, folder, manifest.sha256)


def _check_fits(model: NamedModel, labelled: EvaluationSet) -> None:
    made, there = model.subject(), Subject.of(labelled)
    if made.kind != there.kind:
        raise ConfigError(
            f"models.{model.name} is for sets of {made.kind}, and {labelled.name!r} is one of {there.kind}"
        )
    if made != there:
        told, of_set = (f"{'any of' if one.multi_label else 'one of'} {list(one.label_names)}" for one in (made, there))
        raise ConfigError(f"models.{model.name} tells {told}, and a row of {labelled.name!r} has {of_set}")
