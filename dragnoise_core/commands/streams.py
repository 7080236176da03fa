"""Standard output and standard error, which may be closed, full, or unable to write every character."""

import contextlib
import os
import sys
from typing import TextIO

from ..errors import DragNoiseError, escaped


def silence(stream: TextIO) -> None:
    """Discard all further output, and what Python still buffers and would fail to write when it ends."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class Tolerant:
    """A text stream for what can be done without: once it is closed or full, it stays silent."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream, self.encoding = stream, getattr(stream, "encoding", None) or "ascii"

    def write(self, text: str) -> int:
        """Write what the stream takes; the rest is dropped."""
        try:
            if self.stream is not None:
                self.stream.write(text)
                self.stream.flush()
        except (OSError, ValueError):
            silence(self.stream)
            self.stream = None
        return len(text)

    def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def isatty(self) -> bool:
        """Return what the stream says; without a stream, False."""
        return self.stream is not None and self.stream.isatty()


def say(text: str) -> None:
    """Write lines of the report to standard output; characters that its encoding lacks are escaped.

    If the reader has gone, the report is dropped and the work goes on. Raises DragNoiseError when it cannot be
    written for another reason, such as a full disk.
    """
    if sys.stdout is None:
        return
    encoding = sys.stdout.encoding or "utf-8"
    text = "\n".join(map(escaped, text.split("\n"))) + "\n"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except OSError as error:
        silence(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            raise DragNoiseError(f"the report cannot be written ({error.strerror}); free some space.") from error
