"""How many trials of a search have room at once. Needs no Ray."""

from llmcore.config.tune import TuneConfig

__all__ = ["trials_at_once"]

_RESERVED_CPUS = 0.5
"""Left to the evaluation job, which judges trials as they land."""
_TOLERANCE = 1e-6


def trials_at_once(config: TuneConfig, *, cpus: float | None, gpus: float | None, gpus_per_worker: float = 1.0) -> int:
    """Trials whose workers have room, one at the least; of a kind of device that is None there is no want."""
    workers = config.finetune.workers
    num_workers = _most(config, "workers.num_workers", workers.num_workers)
    fitting = [config.max_concurrent_trials] if config.max_concurrent_trials else []
    if cpus is not None:
        each = num_workers * _most(config, "workers.cpus_per_worker", workers.cpus_per_worker)
        fitting.append(int((cpus - _RESERVED_CPUS + _TOLERANCE) / each))
    if gpus is not None:
        fitting.append(int((gpus + _TOLERANCE) / (num_workers * gpus_per_worker)))
    return max(1, min(fitting))


def _most(config: TuneConfig, key: str, own: float) -> float:
    """The most that a key of the trials may be."""
    range_ = config.space.get(key)
    if range_ is None:
        return own
    return float(max([own, *(range_.listed if range_.listed is not None else range_.interval or ())]))
