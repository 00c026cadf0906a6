"""What runs in the sandbox's own processes: a bare interpreter, so it imports the standard library alone."""
