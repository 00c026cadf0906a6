"""Imported first, and only, by the process from which stages are forked: signals are not for it.

Without it no stage could be begun, and what becomes of those at work would not be known.
"""

import os
import signal

os.setpgid(0, 0)
for _signum in (signal.SIGINT, signal.SIGTERM):
    signal.signal(_signum, signal.SIG_IGN)
