"""The real server in a process of its own, driven as a browser does: HTTP and a websocket."""

import asyncio
import json
import os
import queue
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from find_host import PACK, find_host, host_python

TIMEOUT = 120


class Refused(Exception):
    """The server's answer to a prompt that it does not queue."""


@dataclass
class Run:
    """What the server said about one prompt."""

    outputs: dict = field(default_factory=dict)
    started: list = field(default_factory=list)
    cached: list = field(default_factory=list)
    progress: list = field(default_factory=list)
    previews: int = 0
    paths: list = field(default_factory=list)
    error: dict | None = None
    interrupted: bool = False


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class RealHost:
    """ComfyUI with only this pack and the testing pack: on the CPU, unless COMFYUI_ARGUMENTS says with what to start it.

    Use as a context manager.
    """

    def __init__(self, base: Path, pack_name="comfyui-dragnoise", environment=None, folder=None):
        self.base, self.port, self.folder = base, free_port(), folder
        # One thread: several servers and tests share few cores.
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
        self.names = [pack_name, "testing_pack"]
        custom = base / "custom_nodes"
        custom.mkdir(parents=True, exist_ok=True)
        for name, target in zip(self.names, (PACK, Path(__file__).parent / "testing_pack"), strict=True):
            if not (custom / name).exists():
                (custom / name).symlink_to(target, target_is_directory=True)
        for name in ("input", "output", "temp", "user"):
            (base / name).mkdir(exist_ok=True)

    def __enter__(self):
        host = find_host()
        options = [
            *os.environ.get("COMFYUI_ARGUMENTS", "--cpu").split(),
            "--base-directory",
            self.base,
            "--port",
            self.port,
            "--disable-auto-launch",
        ]
        options += ["--disable-all-custom-nodes", "--whitelist-custom-nodes", *self.names]
        with open(self.base / "server.log", "ab") as log:
            command = [host_python(host), host / "main.py", *options]
            self.process = subprocess.Popen(
                [str(part) for part in command], stdout=log, stderr=log, env=self.environment, cwd=self.folder or host
            )
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                self.get("/system_stats")
                break
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(self.log()[-3000:]) from None
                time.sleep(0.2)
        self.client, self.messages = uuid.uuid4().hex, queue.Queue()
        connected = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._listen(connected)), daemon=True).start()
        connected.wait(TIMEOUT)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(TIMEOUT)

    def log(self) -> str:
        return (self.base / "server.log").read_text(errors="replace")

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=TIMEOUT) as answer:
            return json.load(answer)

    def post(self, path, value):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", json.dumps(value).encode())
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            return answer.read()

    async def _listen(self, connected):
        async with aiohttp.ClientSession() as session:
            address = f"ws://127.0.0.1:{self.port}/ws?clientId={self.client}"
            async with session.ws_connect(address, max_msg_size=0) as socket:
                connected.set()
                async for message in socket:
                    self.messages.put(message.data)

    def run(self, prompt: dict, during=lambda kind, data: None) -> Run:
        """Queue a prompt, {id: (class, inputs)}, and listen until it ends; `during` hears every message."""
        nodes = {key: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in prompt.items()}
        try:
            queued = json.loads(self.post("/prompt", {"prompt": nodes, "client_id": self.client}))
        except urllib.error.HTTPError as error:
            raise Refused(error.read().decode()) from None
        if queued["node_errors"]:
            raise Refused(json.dumps(queued["node_errors"]))
        run = Run()
        while True:
            message = self.messages.get(timeout=TIMEOUT)
            if isinstance(message, bytes):
                kind = int.from_bytes(message[:4], "big")
                run.previews += kind in (1, 4)
                continue
            message = json.loads(message)
            kind, data = message["type"], message["data"]
            if kind == "dragnoise_path":
                run.paths.append(data)
            if data.get("prompt_id") != queued["prompt_id"]:
                continue
            during(kind, data)
            if kind == "executed":
                run.outputs[data["node"]] = data["output"]
            elif kind == "executing" and data["node"]:
                run.started.append(data["node"])
            elif kind == "execution_cached":
                run.cached.extend(data["nodes"])
            elif kind == "progress":
                run.progress.append((data["node"], data["value"], data["max"]))
            elif kind in ("execution_error", "execution_interrupted"):
                run.error, run.interrupted = data, kind == "execution_interrupted"
                return run
            elif kind == "execution_success":
                return run
