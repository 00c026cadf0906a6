"""`python -m jobs`, and the console script `llmcore`: runs a command and turns its end into an exit code."""

import logging
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

from cluster.connect import inside_ray_job
from cluster.pinned import check_pinned
from jobs.cli import commands
from jobs.runtime.console import mention
from jobs.runtime.endings import in_one_line, own_error
from jobs.runtime.interrupt import interrupt_on_sigterm
from llmcore.errors import InterruptedRunError, UserError
from llmcore.logs import as_json
from llmcore.redaction import redact

__all__ = ["main"]

_GOES_ON = "the same command goes on where it stopped"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. 0 done, 1 it failed, 2 what the user gave is wrong, 3 its budget is spent, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    received = interrupt_on_sigterm()
    try:
        if inside_ray_job():
            check_pinned(Path.cwd())
        with commands.make_context("llmcore", given) as context:  # `main` of click would hide an interrupt
            commands.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as end:
        return end.exit_code
    except BrokenPipeError:  # who read our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the flush at exit fails once more
        return 1
    except (Exception, KeyboardInterrupt) as error:
        return _end(error, verbose="--verbose" in given, signal_name=next(iter(received), None))
    return 0


def _end(error: BaseException, *, verbose: bool, signal_name: str | None) -> int:
    """Say in one message why it ended; the exit code."""
    own = own_error(error)
    trace = verbose and not isinstance(own or error, UserError | click.ClickException)
    if trace:
        print(redact("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    if own is not None:
        message, code = str(own), own.exit_code
    elif isinstance(error, click.ClickException):
        message, code = error.format_message(), error.exit_code
    elif isinstance(error, KeyboardInterrupt | click.Abort):
        by = f" by {signal_name}" if signal_name else ""
        message, code = f"interrupted{by}; {_GOES_ON}", InterruptedRunError.exit_code
        if not by:
            print(file=sys.stderr)  # a terminal has shown ^C on this line
    else:
        hint = "" if trace else "; --verbose shows where it happened"
        message, code = f"{in_one_line(error)}{hint}", 1
    stack = error if as_json() and code == 1 and not trace else None
    mention(f"error: {message}", error=stack, level=logging.ERROR)
    return code


if __name__ == "__main__":
    sys.exit(main())
