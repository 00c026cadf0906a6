"""Gives back what training held when who drove it is gone.

Ray Train's placement groups do not end with the actor that made them: a cleaner of Train's asks the dashboard whether
that is alive, and never frees them where there is no dashboard. Here the table of placement groups is enough.
"""

import threading
from contextlib import suppress
from typing import Any

from ray.exceptions import RayError

__all__ = ["FreeDeadGroups", "free_dead_groups"]

_LOOK_EVERY_S = 1.0


class FreeDeadGroups:
    """A thread that removes placement groups whose creator is dead, as long as the block lasts, and once at its end."""

    def __init__(self) -> None:
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True, name="free-groups")

    def __enter__(self) -> "FreeDeadGroups":
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._done.set()
        self._thread.join()
        free_dead_groups()

    def _look(self) -> None:
        while not self._done.wait(_LOOK_EVERY_S):
            with suppress(RayError, RuntimeError):  # the head node may be away for a moment
                free_dead_groups()


def free_dead_groups() -> int:
    """Removes those of this job; returns how many there were.

    The table that Ray shows leaves out who made a group, so it is read as the head node keeps it.
    """
    import ray
    from ray._private.state import state
    from ray.core.generated.gcs_pb2 import PlacementGroupTableData
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    found, job = 0, bytes.fromhex(ray.get_runtime_context().get_job_id())
    for told in state._connect_and_get_accessor().get_placement_group_table():
        group = PlacementGroupTableData.FromString(told)
        is_there = group.state != PlacementGroupTableData.REMOVED
        # Of what a driver made itself, as Tune does, the actor that made it is none, and counts as dead.
        by_actor = bool(group.creator_actor_id) and not ray.ActorID(group.creator_actor_id).is_nil()
        is_ours = group.creator_job_id == job and by_actor and not group.is_detached
        if is_there and is_ours and group.creator_actor_dead:
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(group.placement_group_id)))
            found += 1
    return found
