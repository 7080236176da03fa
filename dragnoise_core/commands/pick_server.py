"""The server of the picker's page: it gives the local browser fixed files and the picture, and takes the points."""

import io
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from PIL import Image

from ..errors import DragNoiseError
from ..points import MAX_TEXT_BYTES, DragPoints

HERE = Path(__file__).parent
TEXT = "; charset=utf-8"
TYPES = {".html": "text/html" + TEXT, ".js": "text/javascript" + TEXT, ".css": "text/css" + TEXT, ".png": "image/png"}
PLAIN = "text/plain" + TEXT
LOOK_EVERY = 0.5  # seconds between two checks that the page is still there


def picker_folder() -> Path:
    """Return js/point_picker: beside this file where it was installed, else at the root of the checkout."""
    places = (HERE / "point_picker", HERE.parents[1] / "js" / "point_picker")
    for place in places:
        if (place / "view" / "point_picker.js").is_file():
            return place
    raise DragNoiseError(f"the picker's files are missing from {places[0]}; install dragnoise again.")


def page_files(picture: Image.Image) -> dict[str, bytes]:
    """Return all that the page may read, by its path; nothing else on this machine is ever served."""
    files = {path.name: path.read_bytes() for path in (HERE / "pick_page").iterdir()}
    for part in ("model", "texts", "view"):
        for path in (picker_folder() / part).iterdir():
            files[f"point_picker/{part}/{path.name}"] = path.read_bytes()
    png = io.BytesIO()
    picture.save(png, "PNG", compress_level=1)
    return {**files, "picture.png": png.getvalue()}


class PickServer(ThreadingHTTPServer):
    """A server for one page, on loopback. A context manager; `points` is None until the page hands them over.

    The address holds a secret, so that no other page and no other user of this machine can read the picture or send
    points. start: points as JSON for the page to begin with, or "".
    """

    daemon_threads = True

    def __init__(self, picture: Image.Image, start: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.size = page_files(picture), picture.size
        self.files["points"] = start.encode()
        self.secret = secrets.token_urlsafe(16)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/{self.secret}/page.html"
        self.points: DragPoints | None = None
        self.pages = 0
        self.changed = threading.Condition()

    def __enter__(self) -> "PickServer":
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.shutdown()
        self.server_close()

    def wait_for_page(self, seconds: float) -> bool:
        """Wait until a page is open or has handed its points over; return whether that happened in time."""
        with self.changed:
            return self.changed.wait_for(lambda: self.pages > 0 or self.points is not None, seconds)

    def wait_for_change(self) -> None:
        """Wait until no page is open or one has handed its points over."""
        with self.changed:
            self.changed.wait_for(lambda: self.pages == 0 or self.points is not None)

    def page_opened(self, count: int) -> None:
        """Add `count` to the number of open pages: 1 or -1."""
        with self.changed:
            self.pages += count
            self.changed.notify_all()

    def hand_over(self, text: str) -> None:
        """Take the page's points. Raises DragNoiseError when they are incomplete."""
        if not text:
            raise DragNoiseError("no point pair; place at least one handle and its target.")
        points = DragPoints.parse(text, *self.size)
        with self.changed:
            self.points = points
            self.changed.notify_all()


class _Handler(BaseHTTPRequestHandler):
    server: PickServer

    def do_GET(self) -> None:
        name = self._name()
        if name == "alive":
            self._stay()
        elif name in self.server.files:
            content_type = TYPES.get(Path(name).suffix, PLAIN)
            self._answer(200, self.server.files[name], content_type)
        else:
            self._answer(404, b"not found")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if self._name() != "points" or not length.isdecimal():
            return self._answer(404, b"not found")
        if int(length) > MAX_TEXT_BYTES:
            return self._answer(413, b"too many points")
        try:
            text = self.rfile.read(int(length)).decode()
        except UnicodeDecodeError:
            return self._answer(400, b"the points are not text")
        try:
            self.server.hand_over(text)
        except DragNoiseError as error:
            return self._answer(400, str(error).encode())
        self._answer(200, b"")

    def _name(self) -> str | None:
        secret, _, name = self.path.lstrip("/").partition("/")
        return name if secrets.compare_digest(secret.encode(), self.server.secret.encode()) else None

    def _stay(self) -> None:
        """Hold the connection for as long as the page is open."""
        self._head(200, "text/event-stream")
        self.wfile.flush()
        self.server.page_opened(1)
        try:
            self.connection.settimeout(LOOK_EVERY)
            while self.server.points is None:
                try:
                    if not self.connection.recv(1):
                        break
                except TimeoutError:
                    continue
        except ConnectionError:
            pass  # the page was closed
        finally:
            self.server.page_opened(-1)

    def _answer(self, status: int, body: bytes, content_type: str = PLAIN) -> None:
        self._head(status, content_type, len(body))
        self.wfile.write(body)

    def _head(self, status: int, content_type: str, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Log nothing: standard error is for the person."""
