"""`dragnoise pick`: the point picker in the local browser, and its points as JSON."""

import webbrowser
from argparse import Namespace
from pathlib import Path

from ..errors import DragNoiseError
from ..images import load_image
from ..points import DragPoints
from .edit_command import read_points_file
from .pick_server import PickServer
from .streams import say
from .terminal import note

FIRST_VISIT, RELOAD = 300, 3  # seconds


def run_pick(options: Namespace) -> None:
    """Open the picker on a picture, wait for its Done and print the points.

    Raises DragNoiseError when the page is closed before that, or not opened within five minutes.
    """
    picture = load_image(options.image)
    start = read_points_file(Path(options.points), picture.size).to_json() if options.points else ""
    with PickServer(picture, start) as server:
        note(f"Pick points at {server.url} and press Done there.")
        webbrowser.open(server.url)
        points = wait_for_points(server)
    say(points.to_json())


def wait_for_points(server: PickServer, first_visit: float = FIRST_VISIT, reload: float = RELOAD) -> DragPoints:
    """Return what the page hands over. Seconds to wait for the page to open, and to open again when it was closed."""
    if not server.wait_for_page(first_visit):
        raise DragNoiseError(f"no browser opened {server.url} within {first_visit:g} seconds; open it by hand.")
    while server.points is None:
        server.wait_for_change()
        if server.points is None and not server.wait_for_page(reload):
            raise DragNoiseError("the page was closed before Done; pick the points again.")
    return server.points
