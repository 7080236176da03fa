"""How long the picker takes from a pointer event to paint: `python tests/browser/measure_picker.py`.

64 pairs on a 2048 x 2048 picture with a painted mask; the time of the handler and of drawing, the slowest of three
kinds of gesture, and the time between two frames while dragging. A frame at 60 Hz has 16.7 ms.
"""

import functools
import http.server
import statistics
import sys
import threading

from conftest import FLAGS, ROOT, Files, chromium, missing
from picker_page import plain_page

PREPARE = """() => {
    const pairs = Array.from({ length: 64 }, (_, index) => {
        const [x, y] = [150 + 240 * (index % 8), 150 + 240 * Math.floor(index / 8)];
        return { handle: [x, y], target: [x + 120, y + 60] };
    });
    picker.model.load(JSON.stringify({ version: 1, width: 2048, height: 2048, pairs }));
    picker.actions.invertMask();
    window.took = [];
    const { stage } = picker;
    stage.surface.addEventListener("pointermove", () => (window.moved = performance.now()), { capture: true });
    const frame = () => {
        const before = window.moved;
        requestAnimationFrame(frame);
        if (!before) return;
        window.moved = 0;
        // Runs in the same frame as the drawing that the move asked for; what follows it is this frame's paint.
        const channel = new MessageChannel();
        channel.port1.onmessage = () => window.took.push(performance.now() - before);
        channel.port2.postMessage(0);
    };
    requestAnimationFrame(frame);
}"""


def measure(picker, start, end, steps: int = 60) -> list[float]:
    picker.js("() => (window.took = [])")
    picker.drag(start, end, steps=steps)
    picker.frame()
    return sorted(picker.js("() => took"))


def main() -> int:
    if missing():
        sys.stdout.write(f"NOT MEASURED: {missing()}\n")
        return 1
    from playwright.sync_api import sync_playwright

    handler = functools.partial(Files, directory=ROOT)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, sync_playwright() as playwright:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=chromium(), headless=True, args=FLAGS)
        url = f"http://127.0.0.1:{server.server_address[1]}"
        sys.stdout.write(
            f"Chromium {browser.version}, drawing in software; from pointer event to the end of its frame, ms\n"
        )
        with plain_page(browser, url, picture=(2048, 2048)) as picker:
            picker.js(PREPARE)
            gestures = {"move a target": ((270, 210), (900, 1000)), "move a pair": ((1000, 1670), (1100, 1800))}
            for name, (start, end) in gestures.items():
                report(name, measure(picker, start, end))
            picker.js("() => picker.actions.setTool('erase')")
            report("erase the mask", measure(picker, (200, 300), (1800, 1700)))
            picker.js("() => { picker.actions.setTool('points'); picker.stage.zoom(4); picker.isPanning = true; }")
            report("pan, zoomed in", measure(picker, (1000, 1000), (1100, 1100)))
        browser.close()
        server.shutdown()
    return 0


def report(name: str, took: list[float]) -> None:
    median, high = statistics.median(took), took[int(0.95 * (len(took) - 1))]
    sys.stdout.write(f"{name:16} median {median:5.1f}   95 % under {high:5.1f}   ({len(took)} moves)\n")


if __name__ == "__main__":
    sys.exit(main())
