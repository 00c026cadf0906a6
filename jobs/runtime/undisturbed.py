"""Imported first, and only, by the process from which stages are forked: signals are not for it.

Without it no stage could be begun, and what becomes of those at work would not be known.
"""

import os
import signal

os.setpgid(0, 0)
# Not ignored: what comes to a stage before it can hear it waits for it.
signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
