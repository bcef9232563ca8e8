"""Data sets: what the training loop feeds on."""
