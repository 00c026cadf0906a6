"""What the jobs share: the terminal, the options of a start, and the wiring into Ray."""
