"""What needs a Ray, but no command line. A package, so that the Ray its tests share ends with them."""
