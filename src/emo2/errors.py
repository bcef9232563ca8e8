"""What a user did wrong, in one sentence: what was found, what was expected, what to do."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake the user can mend; the command prints its sentence and leaves with code 2."""
