"""The studio: licence-clean film of made-up people who speak, with exact labels (design §8)."""
