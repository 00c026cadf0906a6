"""The jobs: one file each, wiring llmcore into Ray Data, Ray Train and Ray Tune; `python -m jobs --help` lists them."""
