"""Models: built from settings or a folder, run on packed rows, saved as Hugging Face folders."""
