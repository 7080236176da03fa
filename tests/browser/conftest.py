"""A headless Chromium and a server for the repository's files. Without Chromium these tests are skipped, loudly."""

import functools
import http.server
import os
import shutil
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# For picker_page and host_page, and for find_host.
sys.path += [str(Path(__file__).parent), str(ROOT / "tests" / "host")]
from frontends import Frontend, find_frontends  # noqa: E402

FRONTENDS = find_frontends()
NO_HOST = pytest.param(None, marks=pytest.mark.skip(reason="NO COMFYUI FOUND: name some in COMFYUI_PATHS"))
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


def missing() -> str:
    """What keeps these tests from running, or nothing."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "playwright is not installed (pip install playwright)"
    if not chromium():
        return "no chromium found (apt-get install chromium, or name one in CHROMIUM_PATH)"
    return ""


def chromium() -> str | None:
    named = os.environ.get("CHROMIUM_PATH")
    return named or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def pytest_collection_modifyitems(config, items):
    """Say in one line, not in a hundred, that these tests do not run here."""
    reason = missing()
    ours = [item for item in items if Path(item.path).is_relative_to(Path(__file__).parent)]
    if not reason or not ours:
        return
    ours[0].add_marker(pytest.mark.skip(reason=f"ALL {len(ours)} BROWSER TESTS SKIPPED: {reason}"))
    config.hook.pytest_deselected(items=ours[1:])
    items[:] = [item for item in items if item not in ours[1:]]


class Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def end_headers(self):
        self.send_header("Cache-Control", "no-store")
        super().end_headers()


@pytest.fixture(scope="session")
def files_url():
    handler = functools.partial(Files, directory=ROOT)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def servers(tmp_path_factory):
    """A running ComfyUI and its folder, by host and frontend's files; each is started once."""
    from host_page import running_host

    with ExitStack() as stack:

        @functools.cache
        def start(host: Path, files: Path | None) -> tuple[str, Path]:
            base = tmp_path_factory.mktemp("base") / "comfy"
            return stack.enter_context(running_host(host, base, files)), base

        yield start


@pytest.fixture(scope="session", params=FRONTENDS or [NO_HOST], ids=str)
def page(request, browser, servers):
    """ComfyUI's page in one frontend and renderer, as HostPage."""
    from host_page import HostPage

    frontend: Frontend = request.param
    try:
        files = frontend.files()
    except OSError as error:
        pytest.skip(f"NEWEST FRONTEND SKIPPED: {error}")
    url, base = servers(frontend.host, files)
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    yield HostPage(context.new_page(), url, base, frontend)
    context.close()


@pytest.fixture
def host(page):
    """The page with an empty graph; fails when our own files reported an error."""
    page.clear()
    yield page
    errors, page.errors = page.errors, []
    assert not errors, errors


@pytest.fixture
def screenshots():
    """The folder that pictures for looking at go to, from DRAGNOISE_SCREENSHOTS; None when nobody asks for them."""
    folder = os.environ.get("DRAGNOISE_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
    return folder and Path(folder)
