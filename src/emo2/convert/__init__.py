"""Public checkpoints to ours and back, and the proof that they give the same numbers (docs/checkpoints.md)."""
