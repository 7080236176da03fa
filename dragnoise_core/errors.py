"""The one error that users meet."""


class DragNoiseError(ValueError):
    """Something the user can mend. The message names the thing, the value and the remedy."""
