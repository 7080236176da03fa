"""Makes the pictures of workflows, help pages and README anew: `make pictures`, or with workflows' numbers, only those.

Every workflow that needs no downloaded model is run on the newest host in the real page, and its pictures are what came
out; of the others the graph is shown. Needs ComfyUI and Chromium, as the tests here do, and some minutes.
"""

import shutil
import sys
import tempfile
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from conftest import FLAGS, FRONTENDS, ROOT, chromium, missing
from host_page import HostPage, running_host
from PIL import Image
from playwright.sync_api import sync_playwright
from test_layout import MEASURE, SETTLE, SHOW_ALL
from workflow_files import EXAMPLES, read_workflow

HELP, README = ROOT / "js" / "docs", ROOT / ".github"
# Of workflows that run without a download: pictures in a row, and the side of each in pixels.
RESULTS = {
    "01_start_here": (2, 256),
    "02_step_by_step": (2, 256),
    "04_generated_picture": (2, 256),
    "05_with_mask": (3, 220),
    "06_drag_as_frames": (4, 160),
    "08_middle_block_study": (2, 256),
    "09_drag_after_drag": (3, 220),
}
TWINS = {"12_identity_lora_older": "11_identity_lora"}  # the same, for older hosts
GRAPH_WIDTH = 640
MOST_RUNNING = 20  # frames of the animation that show the run
FILES = {"ckpt_name": "checkpoints", "lora_name": "loras"}
RESULTS_SHOWN = """() => app.graph.nodes.filter((node) => node.type === "PreviewImage").every((node) =>
    document.querySelector(`[data-node-id="${node.id}"] img`)?.naturalWidth)"""
EMPTY_PICKER = """() => {
    picker.model.load("");
    app.canvas.ds.scale = 0.75;
    app.canvas.ds.offset = [-690, 90];
    app.canvas.setDirty(true, true);
}"""


def main(wanted: list[str]) -> int:
    if missing() or not FRONTENDS:
        sys.stdout.write(f"NO PICTURES MADE: {missing() or 'no ComfyUI found; name some in COMFYUI_PATHS'}\n")
        return 1
    chosen = [path for path in EXAMPLES if (not wanted or path.stem[:2] in wanted) and path.stem not in TWINS]
    with host_page(is_vue=True) as page:
        # Graphs first, while no message of a finished run hangs over them.
        for path in sorted(chosen, key=lambda path: path.stem in RESULTS):
            made = results(page, path) if path.stem in RESULTS else [graph(page, path)]
            columns, side = RESULTS.get(path.stem, (1, 0))
            save(joined(made, columns, side), path.with_suffix(".jpg"))
            of_help(path.stem, made)
            if path.stem == "01_start_here":
                pickers = [picker(page)]
                save(pickers[0], HELP / "points.jpg")
                FirstDrag(page).save()
    for twin, stem in TWINS.items():
        shutil.copy(EXAMPLES[0].with_name(f"{stem}.jpg"), EXAMPLES[0].with_name(f"{twin}.jpg"))
    if any(path.stem == "01_start_here" for path in chosen):
        with host_page(is_vue=False) as page:
            open_workflow(page, EXAMPLES[0])
            page.run(seconds=600)
            page.wait_for_picture(256, 256)
            save(joined([picker(page), *pickers], 2, 0), README / "picker.jpg")
    return 0


@contextmanager
def host_page(is_vue: bool):
    """The newest frontend's page on a server of its own."""
    frontend = next(each for each in reversed(FRONTENDS) if each.is_vue == is_vue)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        base = Path(folder) / "comfy"
        with running_host(frontend.host, base, frontend.files()) as url:
            shutil.copy(frontend.host / "input" / "example.png", base / "input")
            (base / "input" / "photos").mkdir()
            # Graphs are only shown: that the files have the right names is enough.
            for node in (node for path in EXAMPLES for node in read_workflow(path)["nodes"]):
                names = [entry["name"] for entry in node["inputs"] if "widget" in entry]
                for name, value in zip(names, node.get("widgets_values", []), strict=False):
                    if name in FILES:
                        file = base / "models" / FILES[name] / value
                        file.parent.mkdir(parents=True, exist_ok=True)
                        file.touch()
            browser = playwright.chromium.launch(executable_path=chromium(), headless=True, args=FLAGS)
            context = browser.new_context(viewport={"width": 1400, "height": 900})
            yield HostPage(context.new_page(), url, base, frontend)
            browser.close()


def open_workflow(page: HostPage, path: Path) -> None:
    page.clear()
    page.load(read_workflow(path))
    page.page.wait_for_function("(count) => app.graph.nodes.length === count", arg=len(read_workflow(path)["nodes"]))
    page.js(SHOW_ALL)
    page.js(SETTLE)


def results(page: HostPage, path: Path) -> list[Image.Image]:
    """The pictures that the workflow's previews show after a run, from left to right."""
    open_workflow(page, path)
    outputs = page.run(seconds=600)["outputs"]
    previews = [node for node in read_workflow(path)["nodes"] if node["type"] == "PreviewImage"]
    shown = sorted(previews, key=lambda node: node["pos"])
    return [page.picture(image) for node in shown for image in outputs[str(node["id"])]["images"]]


def graph(page: HostPage, path: Path) -> Image.Image:
    """The workflow's nodes, as the page shows them."""
    open_workflow(page, path)
    found = page.js(MEASURE)
    boxes = [each["box"] for each in found["nodes"] + found["groups"]]
    ends = [pick(box[side] for box in boxes) for side, pick in enumerate((min, min, max, max))]
    scale, offset = page.js("() => [app.canvas.ds.scale, [...app.canvas.ds.offset]]")
    corners = [(end + offset[side % 2]) * scale for side, end in enumerate(ends)]
    picture = screenshot(page, [corner + margin for corner, margin in zip(corners, (-8, -8, 8, 8), strict=True)])
    return picture.resize((GRAPH_WIDTH, round(picture.height * GRAPH_WIDTH / picture.width)), Image.LANCZOS)


def picker(page: HostPage) -> Image.Image:
    """The picker of the open workflow, with its node."""
    page.look_at(1, (-760, -180))
    left, top, right, bottom = page.js(
        """() => {
            const { left, top, right, bottom } = picker.stage.surface.closest(".dragnoise-picker").getBoundingClientRect();
            return [left, top, right, bottom];
        }"""
    )
    return screenshot(page, (left, top, right, bottom))


class FirstDrag:
    """From the picture in the picker of start-here to the dragged one, as frames of an animation."""

    def __init__(self, page: HostPage):
        self.page, self.frames, self.durations = page, [], []
        page.js(EMPTY_PICKER)
        page.settle(0.75)
        self.take(900)
        start, end = (112, 132), (146, 132)
        page.mouse.move(*page.at(start))
        page.mouse.down()
        for part in (0.25, 0.5, 0.75, 1):
            page.mouse.move(*page.at([a + (b - a) * part for a, b in zip(start, end, strict=True)]), steps=3)
            page.frame()
            self.take(220)
        page.mouse.up()
        self.take(800)
        page.js("() => app.queuePrompt(0, 1)")
        page.page.wait_for_function("() => app.runningNodeId || app.extensionManager.queue?.runningTasks?.length")
        before = len(self.frames)
        while page.js("() => Boolean(app.runningNodeId || app.extensionManager.queue?.runningTasks?.length)"):
            self.take(250)
            page.page.wait_for_timeout(1500)
        # A slow machine takes more of them than anybody wants to see.
        every = slice(before, None, -(-(len(self.frames) - before) // MOST_RUNNING) or 1)
        self.frames[before:], self.durations[before:] = self.frames[every], self.durations[every]
        page.page.wait_for_function(RESULTS_SHOWN)
        self.take(3000)

    def take(self, milliseconds: int) -> None:
        picture = screenshot(self.page, (60, 90, 1400, 800))
        self.frames.append(picture.resize((804, 426), Image.LANCZOS))
        self.durations.append(milliseconds)

    def save(self) -> None:
        path = README / "first_drag.webp"
        self.frames[0].save(
            path, save_all=True, append_images=self.frames[1:], duration=self.durations, loop=0, quality=70, method=4
        )
        sys.stdout.write(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1024:.0f} KiB\n")


def of_help(stem: str, made: list[Image.Image]) -> None:
    """Put what the help pages show beside them."""
    if stem == "01_start_here":
        save(joined(made, 2, 256), HELP / "edit.jpg")
    if stem == "05_with_mask":
        save(made[0], HELP / "overlay.jpg")
    if stem == "06_drag_as_frames":
        save(joined(made, 4, 160), HELP / "frames.jpg")
    if stem == "08_middle_block_study":
        save(joined(made, 4, 160), HELP / "study.jpg")


def screenshot(page: HostPage, box) -> Image.Image:
    left, top, right, bottom = box
    clip = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    return Image.open(BytesIO(page.page.screenshot(clip=clip))).convert("RGB")


def joined(pictures: list[Image.Image], columns: int, side: int, gap: int = 4) -> Image.Image:
    """`pictures` in rows of `columns`; side: their width and height, 0 leaves them as they are."""
    pictures = [picture.resize((side, side), Image.LANCZOS) if side else picture for picture in pictures]
    width, height = (max(picture.size[axis] for picture in pictures) + gap for axis in (0, 1))
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * width - gap, rows * height - gap), "white")
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (number % columns * width, number // columns * height))
    return sheet


def save(picture: Image.Image, path: Path) -> None:
    picture.save(path, quality=88)
    sys.stdout.write(f"{path.relative_to(ROOT)}: {picture.width} x {picture.height}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
