"""Saved workflows, as the template browser opens them, and what the browser would make of them."""

import json
from pathlib import Path

from find_host import PACK

EXAMPLES = sorted((PACK / "example_workflows").glob("*.json"))
NOTES = {"MarkdownNote", "Note"}  # known to the browser alone
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}


def read_workflow(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def real_nodes(workflow: dict) -> list[dict]:
    """The nodes that the server runs."""
    return [node for node in workflow["nodes"] if node["type"] not in NOTES]


def input_definitions(definition: dict) -> dict[str, tuple]:
    """A node's inputs by name, in the browser's order: (type or list of choices, options)."""
    entries = {**definition["input"].get("required", {}), **definition["input"].get("optional", {})}
    return {name: (entry[0], entry[1] if len(entry) > 1 else {}) for name, entry in entries.items()}


def fits(workflow: dict, definitions: dict) -> bool:
    """Whether the host's own training node is the one that the workflow was made for: it has changed its outputs."""
    return all(
        [entry["type"] for entry in node["outputs"]] == definitions[node["type"]]["output"]
        for node in workflow["nodes"]
        if node["type"] == "TrainLoraNode"
    )


def widget_values(node: dict, definition: dict) -> dict:
    """The saved values by input. They are saved by position, some followed by a companion that is no input.

    Inputs that a newer host has added at the end keep their defaults.
    """
    values, left = {}, list(node.get("widgets_values", []))
    for name, (kind, options) in input_definitions(definition).items():
        if not isinstance(kind, list) and kind not in WIDGETS:
            continue
        if not left:
            values[name] = options["default"]
            continue
        values[name] = left.pop(0)
        if options.get("control_after_generate", name in ("seed", "noise_seed")):
            assert left.pop(0) in ("fixed", "increment", "decrement", "randomize")
        if options.get("image_upload"):
            assert left.pop(0) == "image"
    # Widgets that only show something save what they show.
    assert not any(left), f"{node['type']} saves more values than it has: {left}"
    return values


def to_prompt(workflow: dict, definitions: dict, **changes) -> dict:
    """The prompt that the browser sends, {id: (class, inputs)}; `changes` replace every value of that input's name."""
    links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in real_nodes(workflow):
        values = widget_values(node, definitions[node["type"]])
        values.update({name: value for name, value in changes.items() if name in values})
        values.update({entry["name"]: links[entry["link"]] for entry in node["inputs"] if entry["link"] is not None})
        prompt[str(node["id"])] = (node["type"], values)
    return prompt
