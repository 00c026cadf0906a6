"""A job on a cluster: what travels, under which name, and how it is watched."""
