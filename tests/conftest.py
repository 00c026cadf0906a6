"""What holds for every test."""

from hypothesis import settings

# Machines are shared: how long an example takes says how busy they are. A test that hangs has pytest's own timeout.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")
