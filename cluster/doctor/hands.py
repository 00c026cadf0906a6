"""The doctor's hands: a process on each node that runs what it is given, and is not waited for where that hangs."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.doctor.node import Node

__all__ = ["Answer", "Hands"]

_LONGEST_TROUBLE = 300
_AT_ONCE = 32


@dataclass(frozen=True)
class Answer:
    """What a function returned on a node, or why there is nothing.

    Attributes:
        value: What it returned; None where it did not.
        trouble: Empty where it returned; else its error in a line, or that no answer came in time.
        seconds: From asking to here.
    """

    value: Any
    trouble: str
    seconds: float


class Hands:
    """A Ray actor on each of some nodes. They take no CPU that Ray counts, so that a busy cluster can be looked at.

    They are threaded: a function that hangs on a node keeps nobody else's there from running.
    """

    def __init__(self, nodes: Sequence[Node], *, with_gpu: bool = False) -> None:
        """Starts them and does not wait. `with_gpu`: each has one GPU of its node where that has any."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        hand = ray.remote(_Hand)
        self._actors = {
            node: hand.options(
                num_cpus=0,
                num_gpus=min(1.0, node.num_gpus) if with_gpu else 0,
                max_concurrency=_AT_ONCE,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
            ).remote()
            for node in nodes
        }

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Where they are."""
        return tuple(self._actors)

    def keep(self, nodes: Sequence[Node]) -> None:
        """Give up those on other nodes."""
        self._actors = {node: actor for node, actor in self._actors.items() if node in nodes}

    def ask(self, calls: Mapping[Node, tuple[Any, ...]], *, within_s: float) -> dict[Node, Answer]:
        """Run a function with its arguments on each of some nodes, all at once; each is picklable by its module.

        After `within_s` seconds no more is waited for: what has not answered is an Answer with its trouble.
        """
        import ray

        began = time.monotonic()
        asked = {node: self._actors[node].run.remote(*call) for node, call in calls.items()}
        waiting, answers = dict(asked), {}
        while waiting and (left_s := began + within_s - time.monotonic()) > 0:
            done, _ = ray.wait(list(waiting.values()), timeout=left_s)
            for node in [node for node, ref in waiting.items() if ref in done]:
                answers[node] = _answer(waiting.pop(node), time.monotonic() - began)
        late = Answer(None, f"no answer within {within_s:g} s", within_s)
        return {node: answers.get(node, late) for node in asked}

    def ask_all(self, function: Callable[..., Any], *arguments: Any, within_s: float) -> dict[Node, Answer]:
        """Run one function on all nodes; see `ask`."""
        return self.ask(dict.fromkeys(self.nodes, (function, *arguments)), within_s=within_s)

    def let_go(self) -> None:
        """End them, those that hang too."""
        import ray

        for actor in self._actors.values():
            ray.kill(actor)


class _Hand:
    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


def _answer(ref: Any, seconds: float) -> Answer:
    """The answer of a call that has ended. Whatever it raised is what the node has to say."""
    import ray

    try:
        return Answer(ray.get(ref), "", seconds)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause if isinstance(error.cause, BaseException) else error
        return Answer(None, _in_a_line(f"{type(cause).__name__}: {cause}"), seconds)
    except ray.exceptions.RayError as error:
        return Answer(None, _in_a_line(f"its process ended: {error}"), seconds)


def _in_a_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_TROUBLE else f"{line[:_LONGEST_TROUBLE]} …"
