from datetime import datetime

from cluster.guardian import belongs, session_prefix

STARTED = datetime(2026, 3, 4, 5, 6, 7, 123456)
LOG = "/tmp/ray/session_2026-03-04_05-06-08_000001_4711/logs/raylet.out"


def test_the_session_of_the_driver_is_known_by_its_number_and_time() -> None:
    earliest = session_prefix(STARTED)
    assert belongs(LOG, 4711, earliest)
    assert belongs(f"python agent.py --session-dir={LOG.rpartition('/logs')[0]} --log-dir=x", 4711, earliest)


def test_what_is_another_drivers_is_left_alone() -> None:
    earliest = session_prefix(STARTED)
    assert not belongs(LOG, 711, earliest)
    assert not belongs(LOG, 4712, earliest)
    assert not belongs(LOG.replace("05-06-08", "05-06-06"), 4711, earliest)  # the number was used before
    assert not belongs("/home/me/session_notes_4711.txt", 4711, "session_z")
    assert not belongs("sleep 4711", 4711, earliest)
