"""The commands of `python -m cluster`, each imported when it is needed."""
