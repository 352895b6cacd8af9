"""Files from strangers: read without running, calling or importing anything that they name."""
