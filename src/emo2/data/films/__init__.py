"""Real films to training sets: shots cut, faces followed, flow measured, what is unsure left out with reasons."""
