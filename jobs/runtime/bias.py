"""The bias of language models on Ray: actors that each hold one model, and score one portion of a set after another."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from jobs.runtime.console import say
from jobs.runtime.harness import Writer
from llmcore.bias.bias_set import BiasSet, Portion
from llmcore.bias.bold import Judge, read_bold
from llmcore.bias.fitting import is_masked, why_not_measured
from llmcore.bias.intervals import Resampling
from llmcore.bias.scored import Scored, store_scored, stored_scored
from llmcore.bias.told import bias_json, differences_of, told_of
from llmcore.config.bias import BiasSetSettings, BiasSettings
from llmcore.config.evaluate import EvaluateConfig
from llmcore.cost import Ledger
from llmcore.errors import CheckpointError, ConfigError, CorpusError, RunError
from llmcore.records import newest_result, run_folder
from llmcore.storage import Folder, content_hash, folder_at, verify_published
from llmcore.tasks.bases import base_model, find_base

if TYPE_CHECKING:
    from llmcore.bias.scoring import Scorer

__all__ = ["Biases", "MeasureBias", "check_bias_sets", "plan_of_bias"]

_RESTARTS = 3


def check_bias_sets(config: EvaluateConfig, storage: Folder, to_come: Collection[str] = ()) -> None:
    """Raises CorpusError where a set is not there, or is none: hours before a pipeline comes to measure by it.

    A classifier among the runs that are `to_come` cannot be looked at yet; the texts that it is to judge can.
    """
    for name, one in (config.bias.sets if config.bias else {}).items():
        if one.classifier in to_come:
            read_bold(folder_at(one.url), one.domains, judge=Judge("", "", ""), num_tokens=1, seed=0)
        else:
            _read(storage, name, one)


def _read(storage: Folder, name: str, settings: BiasSetSettings) -> BiasSet:
    """A set; where a run is named as its classifier, by the model of that run."""
    if settings.classifier is not None and newest_result(run_folder(storage, settings.classifier)) is not None:
        model, _ = find_base(storage, settings.classifier, f"bias.sets.{name}.classifier")
        settings = settings.model_copy(update={"classifier": model.url})
    return BiasSet.read(name, settings)


def plan_of_bias(config: EvaluateConfig) -> list[str]:
    """What `--dry-run` says of it."""
    if config.bias is None:
        return []
    models = [] if config.measures_alone else ["all language models that are judged"]
    models += [f"{name} ({reference})" for name, reference in config.bias.models.items()]
    sets = [f"{name} ({_told_set(one)})" for name, one in config.bias.sets.items()]
    return [f"Measures the bias of {', '.join(models)} by {', '.join(sets)}"]


def _told_set(settings: BiasSetSettings) -> str:
    return settings.kind if settings.limit is None else f"{settings.kind}, {settings.limit:,} rows at most"


@dataclass(frozen=True)
class Biases:
    """What a configuration asks for.

    Attributes:
        sets: That have been read.
        further: Models of which nothing else is judged.
        against: The name of that one of them which the others are held against, if one is.
    """

    sets: list[BiasSet]
    further: list[Writer]
    against: str | None = None

    @classmethod
    def of(cls, settings: BiasSettings, storage: Folder) -> "Biases":
        """Read the sets, and find the models.

        Raises:
            ConfigError: A model is not there, or the one that others are held against cannot be measured.
            CorpusError: A set is not there, or a file is not as its makers left it.
        """
        found = cls(
            [_read(storage, name, one) for name, one in settings.sets.items()],
            [_model(storage, *named) for named in settings.models.items()],
            settings.against,
        )
        for one in found.further:
            if one.name == found.against and (why := why_not_measured(one.folder)) is not None:
                raise ConfigError(f"bias.against={one.name}: it {why}: name another, or leave it out")
        return found

    @property
    def hash(self) -> str:
        """Of what there is to measure beside models that are judged: when it is the same, nothing is done again."""
        return content_hash(
            [[one.name, one.hash] for one in self.sets], [[one.name, one.sha256] for one in self.further], self.against
        )

    def parted(self, judged: Sequence[Writer] = ()) -> tuple[list[Writer], dict[str, str]]:
        """Judged and further models that can be measured; and the others by name, with why they cannot."""
        models = {one.name: one for one in (*judged, *self.further)}
        why = {name: why_not_measured(one.folder) for name, one in models.items()}
        left_out = {name: reason for name, reason in why.items() if reason is not None}
        return [one for name, one in models.items() if name not in left_out], left_out

    def check_alone(self) -> None:
        """Raises ConfigError where nothing can be measured of any of the further models."""
        fitting, left_out = self.parted()
        if not fitting:
            told = "; ".join(f"{name} {why}" for name, why in left_out.items())
            raise ConfigError(f"bias.models has no language model: {told}")


def _model(storage: Folder, name: str, reference: str) -> Writer:
    try:
        folder, manifest = base_model(storage, reference, f"bias.models.{name}")
    except CorpusError as error:
        raise ConfigError(str(error)) from error
    return Writer(name, folder, manifest.sha256)


class _Measurer:
    """The actor. When its process is lost it is started again, and asked again."""

    def __init__(self, num_threads: int) -> None:
        import torch

        torch.set_num_threads(num_threads)
        self._loaded: tuple[str, Scorer] | None = None

    def measure(self, work: "_Work", storage: Folder, batch_tokens: int) -> tuple[str, str]:
        """Score a portion by a model, which is loaded once for all its portions, and keep what it says.

        Returns:
            The names of model and set.
        """
        model, portion = work.model, work.portion
        from llmcore.bias.scored import score

        try:
            if self._loaded is None or self._loaded[0] != model.sha256:
                self._loaded = None  # Not two models in memory.
                self._loaded = (model.sha256, _scorer(model, batch_tokens))
            store_scored(storage, portion, model.sha256, score(self._loaded[1], portion))
            return model.name, work.set_name
        except (CheckpointError, ConfigError, RunError) as error:
            raise type(error)(f"{model.name}: {error}") from error


def _scorer(model: Writer, batch_tokens: int) -> "Scorer":
    """After reading every byte of the model against its manifest; in bf16 on a GPU that has it, else in fp32."""
    import torch

    from llmcore.bias.scoring import Scorer
    from llmcore.models.device import own_device

    verify_published(model.folder, model.sha256)
    device = own_device()
    half = device.type == "cuda" and torch.cuda.is_bf16_supported()
    dtype = torch.bfloat16 if half else torch.float32
    return Scorer.of(model.folder.as_local(), device=device, dtype=dtype, batch_tokens=batch_tokens)


class _Work(NamedTuple):
    """A model, and a portion of a set."""

    model: Writer
    set_name: str
    portion: Portion


@dataclass(frozen=True)
class MeasureBias:
    """What measures models, for one attempt of an evaluation.

    Attributes:
        storage: Where it is kept what they say.
        biases: By which sets, and which models beside those that are judged.
        resampling: Of the intervals.
        num_workers: Actors, among which models and portions of sets are divided.
        cpus: CPUs that Ray reserves for each.
        gpus: GPUs that it reserves for each; `auto`: one where the cluster has one for each.
        batch_tokens: Tokens that a model scores at once.
        ledger: Counts the seconds.
    """

    storage: Folder
    biases: Biases
    resampling: Resampling
    num_workers: int
    cpus: float
    gpus: float | Literal["auto"]
    batch_tokens: int
    ledger: Ledger

    @classmethod
    def of(
        cls, config: EvaluateConfig, storage: Folder, biases: Biases, gpus: float | Literal["auto"], ledger: Ledger
    ) -> "MeasureBias":
        """That of an evaluation, whose scoring processes would have these GPUs."""
        resampling = Resampling(config.num_resamples, config.seed)
        return cls(storage, biases, resampling, config.num_scorers, config.cpus, gpus, config.batch_tokens, ledger)

    def measure(self, judged: Sequence[Writer] = ()) -> dict[str, Any]:
        """What the sets say of these models and of the further ones, stored or new: plain JSON (`bias.told.bias_json`).

        A model that has no likelihood of sentences is left out, and it is told why.

        Raises:
            RunError: A model's scores are no numbers, or a measuring process was lost again and again.
            CheckpointError: A model is not what was published.
            ConfigError: The cluster has not the CPUs or GPUs for so many actors.
        """
        fitting, left_out = self.biases.parted(judged)
        for name, why in left_out.items():
            say(f"evaluate: bias is not measured of {name}: it {why}")
        asked = {one.name: self._sets_of(one) for one in fitting}
        if lacking := list(self._lacking(fitting, asked)):
            with self.ledger.measure("validation"):
                self._measure(lacking)
        told = {one.name: {each.name: self._told(one, each) for each in asked[one.name]} for one in fitting}
        first = next((one for one in fitting if one.name == self.biases.against), None)
        differences = {
            one.name: {
                each.name: self._difference(one, first, each) for each in asked[one.name] if each in asked[first.name]
            }
            for one in fitting
            if first is not None and one is not first
        }
        for name, sets in asked.items():
            if lost := [each.name for each in self.biases.sets if each not in sets]:
                say(f"evaluate: {name} is masked and writes nothing: it is not measured by {', '.join(lost)}")
        return bias_json(self.biases.sets, told, left_out, self.biases.against, differences)

    def _lacking(self, models: Sequence[Writer], asked: Mapping[str, Sequence[BiasSet]]) -> Iterator[_Work]:
        """What is not stored: all of one model after the other; of models that are the same bytes, of one alone."""
        for model in {one.sha256: one for one in models}.values():
            for one in asked[model.name]:
                for portion in one.portions():
                    if stored_scored(self.storage, portion, model.sha256) is None:
                        yield _Work(model, one.name, portion)

    def _sets_of(self, model: Writer) -> list[BiasSet]:
        """The sets that a model can be measured by."""
        masked = is_masked(model.folder)
        return [one for one in self.biases.sets if not (one.measure.writes and masked)]

    def _told(self, model: Writer, one: BiasSet) -> dict[str, Any]:
        return told_of(one, self._scored(model, one), self.resampling)

    def _difference(self, model: Writer, other: Writer, one: BiasSet) -> dict[str, Any]:
        return differences_of(one, self._scored(model, one), self._scored(other, one), self.resampling)

    def _scored(self, model: Writer, one: BiasSet) -> list[Scored]:
        found = (stored_scored(self.storage, portion, model.sha256) for portion in one.portions())
        return [scored for scored in found if scored is not None]

    def _measure(self, works: list[_Work]) -> None:
        """Each portion goes to the next actor that is free; figures are told when the last one of a set is there."""
        import ray
        from ray.exceptions import RayActorError
        from ray.util import ActorPool

        from cluster.placement import placed, selector_of
        from cluster.resources import Need, check_fits, gpus_each
        from jobs.runtime.errors import our_errors

        number = min(self.num_workers, len(works))
        gpus = gpus_each(self.gpus, number)
        check_fits([Need("num_scorers", self.cpus, gpus, number, selector_of("evaluate"))])
        measurer: Any = ray.remote(_Measurer).options(
            num_cpus=self.cpus,
            num_gpus=gpus,
            max_restarts=_RESTARTS,
            max_task_retries=_RESTARTS,
            **placed("evaluate"),
        )
        actors = [measurer.remote(max(1, int(self.cpus))) for _ in range(number)]
        left = Counter((work.model.name, work.set_name) for work in works)
        models, sets = {work.model.name: work.model for work in works}, {one.name: one for one in self.biases.sets}
        try:
            with our_errors():
                for model, name in ActorPool(actors).map_unordered(
                    lambda actor, work: actor.measure.remote(work, self.storage, self.batch_tokens), works
                ):
                    left[model, name] -= 1
                    if not left[model, name]:
                        say(f"evaluate: {model} by {name}: {_figures_line(self._told(models[model], sets[name]))}")
        except RayActorError as error:
            raise RunError(
                f"a process that measures bias was lost {_RESTARTS + 1} times, most likely for want of memory: lower "
                f"batch_tokens or num_scorers, or give it more memory ({error})"
            ) from error
        finally:
            for actor in actors:
                ray.kill(actor)


def _figures_line(told: Mapping[str, Any]) -> str:
    """What a set says of a model, in a line."""
    figures = told["figures"].items()
    said = ", ".join(
        f"{name.replace('_', ' ')} {one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]" for name, one in figures
    )
    too_long = told["num_too_long"]
    return (said or "no row fits") + (f"; {too_long:,} rows are too long for it" if too_long else "")
