"""What holds for every test."""

import signal

from hypothesis import settings

# Machines are shared: how long an example takes says how busy they are. A test that hangs has pytest's own timeout.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")

# Who starts the suite in the background has this signal ignored, and so would have all that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
