"""One file a benchmark; each has `measure(options)`, which runs ours and its peers in turn."""
