from dataclasses import replace
from datetime import datetime

from cluster.guardian import Target

ANY = Target.of(4711, since=datetime(2026, 3, 4, 5, 6, 7, 123456))
SESSION = "session_2026-03-04_05-06-08_000001_4711"
LOG = f"/tmp/ray/{SESSION}/logs/raylet.out"


def test_a_session_of_the_driver_is_known_by_its_number_and_time() -> None:
    assert ANY.owns(LOG)
    assert ANY.owns(f"python agent.py --session-dir=/tmp/ray/{SESSION} --log-dir=x")
    assert ANY.owns(f"/tmp/ray/{SESSION}")


def test_what_is_another_drivers_is_left_alone() -> None:
    assert not ANY.owns(LOG.replace("_4711", "_711"))
    assert not ANY.owns(LOG.replace("_4711", "_47110"))
    assert not ANY.owns(LOG.replace("05-06-08", "05-06-06"))  # the number was used before
    assert not ANY.owns("/home/me/session_notes_4711.txt")
    assert not ANY.owns("sleep 4711")


def test_a_named_session_is_the_only_one() -> None:
    named = replace(ANY, session=SESSION)
    assert named.owns(LOG)
    assert not named.owns(LOG.replace("05-06-08", "05-06-09"))  # the same driver has connected again
