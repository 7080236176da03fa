"""A ComfyUI server with this pack in it, and driving the picker in its page."""

import io
import json
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from find_host import host_python
from frontends import Frontend
from picker_page import PickerPage
from PIL import Image, ImageDraw

ROOT = Path(__file__).parents[2]
SETTINGS = {"Comfy.TutorialCompleted": True, "Comfy.Workflow.Persist": True, "Comfy.SnapToGrid.GridSize": 10}
# The picker's stage, where tests find places on it; the product keeps it to itself.
CAPTURE = """async () => {
    const { Stage } = await import("/extensions/dragnoise/point_picker/view/stage.js");
    const { connect } = Stage.prototype;
    window.stages = [];
    Stage.prototype.connect = function () {
        stages.push(this);
        window.picker = { stage: this, model: this.model, mask: this.mask };
        return connect.call(this);
    };
}"""


@contextmanager
def running_host(host: Path, base: Path, frontend: Path | None = None):
    """A server on a free port, its files under `base`, this pack alone in it; yields its address.

    frontend: the folder with the files of another frontend than the host's own.
    """
    (base / "custom_nodes").mkdir(parents=True)
    (base / "custom_nodes" / "dragnoise").symlink_to(ROOT)
    (base / "input").mkdir()
    for name, size in {"wide.png": (96, 64), "other.png": (96, 64), "tall.png": (40, 80)}.items():
        picture = Image.new("RGB", size, (90, 150, 90))
        ImageDraw.Draw(picture).rectangle((8, 8, 24, 24), fill=(250, 240, 220))
        picture.save(base / "input" / name)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [host_python(host), "main.py", "--cpu", "--port", str(port), "--base-directory", str(base)]
    command += ["--database-url", f"sqlite:///{base}/comfyui.db", "--cache-none"]
    command += ["--disable-all-custom-nodes", "--whitelist-custom-nodes", "dragnoise"]
    command += ["--front-end-root", str(frontend)] if frontend else []
    with open(base / "host.log", "w") as log, subprocess.Popen(command, cwd=host, stdout=log, stderr=log) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(lambda: get(url, "/object_info/DragNoisePoints"), 300, base / "host.log")
            yield url
        finally:
            process.terminate()


def wait_for(answer, seconds: float, log: Path):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            found = answer()
            if found:
                return found
        except (urllib.error.URLError, ConnectionError):
            pass
        time.sleep(0.3)
    raise TimeoutError(log.read_text()[-3000:])


def get(url: str, path: str):
    with urllib.request.urlopen(url + path) as response:
        return json.loads(response.read())


def post(url: str, path: str, value) -> None:
    body = json.dumps(value).encode()
    urllib.request.urlopen(urllib.request.Request(url + path, body, {"Content-Type": "application/json"})).close()


class HostPage(PickerPage):
    """ComfyUI's page. `errors` holds what our own files reported."""

    def __init__(self, page, url: str, base: Path, frontend: Frontend):
        self.page, self.url, self.base, self.frontend = page, url, base, frontend
        self.mouse, self.keyboard = page.mouse, page.keyboard
        self.errors = []
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: self._note(f"{error} {error.stack}"))
        page.on("console", lambda message: message.type == "error" and self._note(f"{message.text} {message.location}"))
        self.load_page()

    def _note(self, text: str) -> None:
        if "/extensions/dragnoise" in text or "DragNoise" in text:
            self.errors.append(text)

    def load_page(self) -> None:
        post(self.url, "/settings", {**SETTINGS, "Comfy.VueNodes.Enabled": self.frontend.is_vue})
        self.page.goto(self.url, timeout=60_000)
        # The page puts the last workflow back at the end of its start: what is added before that stands beside it.
        self.page.wait_for_function(
            """() => {
                const manager = window.app?.extensionManager;
                return manager?.workflow?.activeWorkflow && !manager.spinner && app.graph && !app.configuringGraph;
            }"""
        )
        self.page.wait_for_function("() => window.LiteGraph?.registered_node_types.DragNoisePoints")
        self.js(CAPTURE)

    def clear(self) -> None:
        self.js(
            """() => {
                const root = app.rootGraph ?? app.graph;
                if (app.canvas.graph !== root) app.canvas.setGraph(root);
                root.clear();
                stages.length = 0;
                app.canvas.ds.scale = 1;
                app.canvas.ds.offset = [0, 0];
            }"""
        )

    def look_at(self, scale: float = 1, offset=(0, 0)) -> None:
        """Show the graph at a zoom and place, and wait until the picker stands there."""
        self.js(
            """([scale, offset]) => {
                Object.assign(app.canvas.ds, { scale, offset });
                app.canvas.setDirty(true, true);
            }""",
            [scale, list(offset)],
        )
        self.settle(scale)

    def settle(self, scale: float = 1) -> None:
        """Wait until the picker is drawn at `scale` and has kept its place for ten frames."""
        self.js(
            """(scale) => new Promise((done) => {
                let [still, place] = [0, ""];
                const look = () => {
                    const { left, top, width } = picker.stage.surface.getBoundingClientRect();
                    const now = [left, top, width].join();
                    const isThere = Math.abs(width / picker.stage.surface.clientWidth - scale) < 1e-3;
                    still = isThere && now === place ? still + 1 : 0;
                    place = now;
                    still < 10 ? requestAnimationFrame(look) : done();
                };
                look();
            })""",
            scale,
        )

    def add(self, kind: str, position=(0, 0), **values) -> str:
        """Add a node to the graph that is open, set its widgets; returns its id."""
        return self.js(
            """([kind, position, values]) => {
                const node = LiteGraph.createNode(kind);
                node.pos = position;
                (app.canvas.graph ?? app.graph).add(node);
                for (const widget of node.widgets ?? []) if (widget.name in values) widget.value = values[widget.name];
                app.canvas.setDirty(true, true);
                return node.id;
            }""",
            [kind, list(position), values],
        )

    def link(self, source, output: int, target, name: str) -> None:
        self.js(
            """([source, output, target, name]) => {
                const graph = app.canvas.graph ?? app.graph;
                const node = graph.getNodeById(target);
                graph.getNodeById(source).connect(output, node, node.inputs.findIndex((input) => input.name === name));
            }""",
            [source, output, target, name],
        )

    def unlink(self, target, name: str) -> None:
        self.js(
            """([target, name]) => {
                const node = app.graph.getNodeById(target);
                node.disconnectInput(node.inputs.findIndex((input) => input.name === name));
            }""",
            [target, name],
        )

    def wait_for_picker(self) -> None:
        self.page.wait_for_function(
            "() => window.stages?.length && stages.at(-1).surface.isConnected && stages.at(-1).view.width > 0"
        )
        self.js(
            "() => { const stage = stages.at(-1); window.picker = { stage, model: stage.model, mask: stage.mask }; }"
        )

    def wait_for_picture(self, width: int, height: int) -> None:
        self.page.wait_for_function(
            "([w, h]) => picker.stage.picture && picker.model.stage.width === w && picker.model.stage.height === h",
            arg=[width, height],
        )

    def wait_for_message(self, text: str) -> None:
        """Wait until the picker says `text`."""
        said = "(text) => picker.stage.surface.parentElement.querySelector('[role=status]').textContent.includes(text)"
        self.page.wait_for_function(said, arg=text)

    def with_picture(self, name: str = "wide.png", size=(96, 64)) -> tuple[str, str]:
        """A graph of LoadImage and DragNoisePoints, the picture seen; returns their ids."""
        loader = self.add("LoadImage", (40, 120), image=name)
        points = self.add("DragNoisePoints", (480, 120))
        self.link(loader, 0, points, "image")
        self.wait_for_picker()
        self.wait_for_picture(*size)
        return loader, points

    def prompt(self) -> dict:
        """What would be sent to Python: {id: {class_type, inputs}}."""
        return self.js("async () => (await app.graphToPrompt()).output")

    def prompt_of(self, kind: str) -> list[dict]:
        return [node["inputs"] for node in self.prompt().values() if node["class_type"] == kind]

    def stored(self) -> dict:
        """The workflow as it would be saved."""
        return self.js("async () => (await app.graphToPrompt()).workflow")

    def load(self, workflow: dict) -> None:
        self.js("() => (stages.length = 0)")
        self.js("(workflow) => app.loadGraphData(workflow)", workflow)

    def nodes(self) -> list:
        return self.js("() => app.graph.nodes.map((node) => node.type)")

    def run(self, seconds: float = 60, press: bool = False, start=None) -> dict:
        """Queue the graph, with `press` through the page's Run button, and wait; returns the history's entry.

        start: what else is to be called to queue it.
        """
        done = set(get(self.url, "/history"))
        if start:
            start()
        elif press:
            self.page.get_by_role("button", name="Run").first.click()
        else:
            self.js("() => app.queuePrompt(0, 1)")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            new = {key: entry for key, entry in get(self.url, "/history").items() if key not in done}
            if new:
                return next(iter(new.values()))
            self.page.wait_for_timeout(200)
        raise TimeoutError("the run did not end")

    def wait_until_idle(self) -> None:
        """Wait until the page itself has heard that nothing runs any more."""
        self.page.wait_for_function("() => !app.runningNodeId && !app.extensionManager.queue?.runningTasks?.length")

    def picture(self, image: dict) -> Image.Image:
        """The picture that an output names."""
        with urllib.request.urlopen(f"{self.url}/view?{urllib.parse.urlencode(image)}") as response:
            return Image.open(io.BytesIO(response.read())).convert("RGB")

    def focus_graph(self) -> None:
        """Click on an empty place of the graph, so that keys are the graph's."""
        self.mouse.click(1250, 700)
