"""The one error that users meet, and how text from strangers is shown in it."""

import reprlib
from typing import Any

LONGEST_MESSAGE, LONGEST_QUOTE = 600, 80

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict, _SHORT.maxtuple = 3, 4, 4, 4
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = LONGEST_QUOTE


class DragNoiseError(ValueError):
    """Something the user can mend. The message names the thing, the value and the remedy; it is one `printable` line.

    Messages hold file names, values and other libraries' words, any of which may come from a stranger, and they go to
    terminals, log files and browsers.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def printable(text: str, longest: int = LONGEST_MESSAGE) -> str:
    """Return `text` as one line that every terminal, log and encoder takes: what is not printable is escaped.

    That covers control characters (terminal escapes, line breaks), the ones that turn the direction of writing, and
    lone surrogates. Longer texts lose their middle: the thing and the remedy stand at the ends.
    """
    return _without_middle(escaped(" ".join(_without_middle(text, longest).split())), longest)


def escaped(text: str) -> str:
    """Return `text` with everything that cannot be printed written as Python writes it: \\x1b, \\ud800."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _without_middle(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    end = longest // 3
    return f"{text[: longest - end - 5]} ... {text[-end:]}"


def quoted(value: Any) -> str:
    """Return a stranger's value as Python would write it, escaped, in about 80 characters at most."""
    text = _SHORT.repr(value)
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}..."
