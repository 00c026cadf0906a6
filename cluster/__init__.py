"""Where jobs run: connecting to a cluster, and what it has."""
