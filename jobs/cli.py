"""The command line: which command takes which configuration and runs which job; all of it imported when needed."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from cluster.connect import inside_ray_job
from jobs.runtime.console import quiet, say
from jobs.runtime.options import RunOptions
from llmcore.config.commands import config_class
from llmcore.errors import InterruptedRunError

__all__ = ["JOBS", "Job", "commands"]


@dataclass(frozen=True)
class Job:
    """A command that takes a configuration: `module:name` of its `run(config, options)`."""

    run: str
    help: str


JOBS = {
    "prepare": Job("jobs.prepare:run", "From documents to token shards and labelled sets."),
    "pretrain": Job("jobs.pretrain:run", "From token shards to a pre-trained model."),
    "finetune": Job("jobs.finetune:run", "A model specialized on a labelled set."),
    "tune": Job("jobs.tune:run", "A search over fine-tuning configurations."),
    "evaluate": Job("jobs.evaluate:run", "One shared job that judges all trials."),
    "transfer": Job("jobs.transfer:run", "What pre-training buys, at several label and compute budgets."),
    "pipeline": Job("jobs.pipeline:run", "All stages, one file."),
    "report": Job("jobs.report:run", "One page on a pipeline's runs, or on any."),
}
"""Each with the configuration that `llmcore.config.commands` names."""


class _Commands(click.Group):
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            near = get_close_matches(args[0], self.commands, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise click.UsageError(f"got the command {args[0]!r}; expected one of {', '.join(self.commands)}{hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, no_args_is_help=False, invoke_without_command=True)
@click.pass_context
def commands(context: click.Context) -> None:
    """From raw text to a judged language model, on a Ray cluster as on a laptop."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _job_command(name: str, job: Job) -> click.Command:
    @click.command(name, help=f"{job.help} KEY=VALUE sets a dotted key of the configuration.")
    @click.argument("config", type=click.Path(path_type=Path))
    @click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
    @click.option("--dry-run", is_flag=True, help="Resolve, validate, print what would be done.")
    @click.option("--allow-changes", is_flag=True, help="Go on with a run although flagged settings changed.")
    @click.option("--verbose", is_flag=True, help="Show what Ray, DeepSpeed and transformers say, and tracebacks.")
    def command(config: Path, overrides: Sequence[str], dry_run: bool, allow_changes: bool, verbose: bool) -> None:
        from llmcore.config import load_config

        options = RunOptions(allow_changes=allow_changes, verbose=verbose, inside_ray_job=inside_ray_job())
        resolved = load_config(config_class(name), config, overrides)  # before the job's module, and Ray, is imported
        _do(job, resolved, options, dry_run=dry_run)

    return command


def _do(job: Job, resolved: Any, options: RunOptions, *, dry_run: bool) -> None:
    """Run a job with its configuration, or show what it would do."""
    quiet(options.verbose)
    if dry_run:
        from jobs.runtime.dry_run import dry_run as show

        module = importlib.import_module(job.run.partition(":")[0])
        show(resolved, module, inside_ray_job=options.inside_ray_job, say=say)
    else:
        _named(job.run)(resolved, options)


@click.command("report")
@click.argument("of", nargs=-1, required=True, metavar="{CONFIG [KEY=VALUE]... | RUN [RUN]...}")
@click.option("--storage", help="Where runs that are named are kept, and the page is.  [default: runs]")
@click.option("--name", help="Name of the run that has the page; without it, one made of the runs' names.")
@click.option("--dry-run", is_flag=True, help="Resolve, validate, print what would be done.")
@click.option("--allow-changes", is_flag=True, help="Go on with a run although flagged settings changed.")
@click.option("--verbose", is_flag=True, help="Show tracebacks.")
def _report(
    of: Sequence[str], storage: str | None, name: str | None, dry_run: bool, allow_changes: bool, verbose: bool
) -> None:
    """One page on a pipeline's runs, by its CONFIG, or on any: a RUN, a name or a URL, or several side by side."""
    from llmcore.config import load_config

    options = RunOptions(allow_changes=allow_changes, verbose=verbose, inside_ray_job=inside_ray_job())
    job = JOBS["report"]
    if Path(of[0]).suffix in {".yaml", ".yml"} or Path(of[0]).is_file():
        if storage is not None or name is not None:
            raise click.UsageError("--storage and --name go with a RUN; with a CONFIG, give storage=… and name=…")
        resolved = load_config(config_class("report"), of[0], of[1:])
    else:
        resolved = _named("jobs.report:config_of_runs")(of, storage or "runs", name)
    _do(job, resolved, options, dry_run=dry_run)


@click.command("runs")
@click.argument("storage")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@click.option("--verbose", is_flag=True, help="Show tracebacks.")
def _runs(storage: str, as_json: bool, verbose: bool) -> None:
    """List the runs of a storage: kind, name, status, start, cost."""
    _named("jobs.runs:run_listing")(storage, as_json)


@click.command("promote")
@click.argument("evaluation")
@click.argument("name")
@click.option("--storage", default="runs", show_default=True, help="Where runs are kept.")
@click.option(
    "--max-counterfactual-gap",
    type=click.FloatRange(0, 1),
    help="Publish it if its predictions on test move no further, on average, with who a text is about; else exit 3.",
)
@click.option("--verbose", is_flag=True, help="Show tracebacks.")
def _promote(evaluation: str, name: str, storage: str, max_counterfactual_gap: float | None, verbose: bool) -> None:
    """Publish the model that an EVALUATION has chosen under a NAME, with what it was made of."""
    from llmcore.config.promote import PromoteConfig

    config = PromoteConfig(
        name=name, storage=storage, evaluation=evaluation, max_counterfactual_gap=max_counterfactual_gap
    )
    _named("jobs.promote:run")(config, RunOptions(verbose=verbose))


@click.command("lineage")
@click.argument("run")
@click.option("--storage", default="runs", show_default=True, help="Where a run that is named is kept.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@click.option("--verbose", is_flag=True, help="Show tracebacks.")
def _lineage(run: str, storage: str, as_json: bool, verbose: bool) -> None:
    """Draw what a RUN, a name or a URL, was made of: corpus, pre-training, search, suite."""
    _named("jobs.promote:show_lineage")(run, storage, as_json)


_STORAGE = click.option("--storage", default="runs", show_default=True, help="Where a run that is named is kept.")


@click.command("checkpoints")
@click.argument("run")
@_STORAGE
@click.option("--verify", is_flag=True, help="Read every byte, and hold it against its SHA-256.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@click.option("--verbose", is_flag=True, help="Show tracebacks.")
def _checkpoints(run: str, storage: str, verify: bool, as_json: bool, verbose: bool) -> None:
    """List the checkpoints of a RUN, a name or a URL: step, ranks, size, loss, and whether they are whole."""
    _named("jobs.checkpoints:checkpoint_listing")(run, storage, verify=verify, as_json=as_json)


@click.command("export")
@click.argument("run")
@_STORAGE
@click.option("--step", type=int, help="That of the checkpoint; without it, the newest good one.")
@click.option("--to", help="Folder or URL to write to; without it, in the run.")
@click.option("--push-to-hub", "hub", metavar="OWNER/NAME", help="Upload it to the Hugging Face hub as well.")
@click.option("--verbose", is_flag=True, help="Show what transformers says, and tracebacks.")
def _export(run: str, storage: str, step: int | None, to: str | None, hub: str | None, verbose: bool) -> None:
    """Make a Hugging Face folder of a checkpoint of a RUN, a name or a URL."""
    quiet(verbose)
    _named("jobs.export:export")(run, storage, step=step, to=to, hub=hub)


@click.command("generate")
@click.argument("model")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@_STORAGE
@click.option("--prompt", help="Text to go on from; without it, and without a file, that of standard input.")
@click.option("--file", help="JSON Lines to answer, each with a `prompt` or `messages`: a path or URL.")
@click.option("--output", help="JSON Lines to write the answers of --file to: a path or URL.")
@click.option("--chat", is_flag=True, help="A conversation, line by line.")
@click.option(
    "--engine",
    type=click.Choice(["auto", "transformers", "vllm"]),
    default="auto",
    show_default=True,
    help="What answers a file; auto is vLLM where its extra is installed and there is a GPU.",
)
@click.option("--verbose", is_flag=True, help="Show what transformers says, and tracebacks.")
def _generate(
    model: str,
    overrides: Sequence[str],
    storage: str,
    prompt: str | None,
    file: str | None,
    output: str | None,
    chat: bool,
    engine: str,
    verbose: bool,
) -> None:
    """Try a MODEL: the name of a run, a URL, or a Hugging Face folder. KEY=VALUE sets how: method=sample top_p=0.9."""
    from llmcore.config.generation import GenerationSettings
    from llmcore.config.loading import load_settings

    if sum([prompt is not None, file is not None, chat]) > 1:
        raise click.UsageError("got several of --prompt, --file and --chat; expected one, or none for standard input")
    if (file is None) != (output is None):
        raise click.UsageError("--file says what to answer and --output where to: expected both, or none")
    settings = load_settings(GenerationSettings, overrides)
    quiet(verbose)
    try:
        if chat:
            _named("jobs.generate:converse")(model, storage, settings)
        elif file is not None:
            _named("jobs.generate:answer_file")(model, storage, settings, file, output, engine)
        else:
            _named("jobs.generate:answer_prompt")(model, storage, settings, prompt)
    except KeyboardInterrupt:
        click.echo(err=True)  # a terminal has shown ^C on this line
        raise InterruptedRunError("interrupted; answers to a file are written when all are there") from None


@click.command("plan")
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--device", help="The GPU that it is for: H100, A100, L4, …; without it, what does not depend on one.")
@click.option("--num-devices", type=click.IntRange(1), help="How many; without it, one a worker.")
@click.option("--mfu", default="0.3:0.5", show_default=True, help="Share of the device's peak, or a range of them.")
@click.option("--like", metavar="RUN", help="An earlier run, a name or a URL: as fast as that was.")
@click.option(
    "--prices", type=click.Path(path_type=Path), help="Prices of devices.  [default: configs/plan/prices.yaml]"
)
@click.option("--vocab-size", type=click.IntRange(1), help="Of tokens that are not prepared yet.")
@click.option("--sequence-length", type=click.IntRange(1), help="Tokens in one of their rows.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@click.option("--html", type=click.Path(path_type=Path), help="Also write a page to this file.")
@click.option("--verbose", is_flag=True, help="Show what transformers says, and tracebacks.")
def _plan(
    config: Path,
    overrides: Sequence[str],
    device: str | None,
    num_devices: int | None,
    mfu: str,
    like: str | None,
    prices: Path | None,
    vocab_size: int | None,
    sequence_length: int | None,
    as_json: bool,
    html: Path | None,
    verbose: bool,
) -> None:
    """What the trainings of a CONFIG will need and cost: memory, time, money. KEY=VALUE sets a dotted key of it."""
    from jobs.plan import PlanOptions

    quiet(verbose)
    options = PlanOptions(device, num_devices, mfu, like, prices, vocab_size, sequence_length, as_json, html)
    _named("jobs.plan:plan")(config, overrides, options)


@click.command("benchmark")
@click.argument("name")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the figures to this file.")
@click.option("--verbose", is_flag=True, help="Show what Ray, DeepSpeed and transformers say, and tracebacks.")
def _benchmark(name: str, json_file: Path | None, verbose: bool) -> None:
    """Measure ours and its peer, interleaved in one run."""
    quiet(verbose)
    options = RunOptions(verbose=verbose, inside_ray_job=inside_ray_job())
    _named("jobs.benchmark:run")(name, json_file=json_file, options=options)


def _named(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


for _name, _job in JOBS.items():
    commands.add_command(_job_command(_name, _job))
commands.add_command(_report)  # which takes names of runs as well
commands.add_command(_runs)
commands.add_command(_promote)
commands.add_command(_lineage)
commands.add_command(_checkpoints)
commands.add_command(_export)
commands.add_command(_generate)
commands.add_command(_plan)
commands.add_command(_benchmark)
