"""Writes the nodes' help pages in other languages from locales/: `python .ci/localised_help.py`.

A page has the node's name, what it does, and every input and output; in a language that has a file in .ci/help, also
the other sections of the English page: `---` there stands for the inputs and outputs. The host shows the page in place
of the English one.
No pictures: the host looks for those of all pages in js/docs, which is not where a link from here would lead.
"""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEADS = {
    "zh": ("输入", "输出", "名称", "说明"),
    "zh-TW": ("輸入", "輸出", "名稱", "說明"),
    "ja": ("入力", "出力", "名前", "説明"),
    "ko": ("입력", "출력", "이름", "설명"),
}


def pages() -> dict[Path, str]:
    """Return the text of every page, by its path from js/docs."""
    found = {}
    for language, heads in HEADS.items():
        nodes = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
        more = sections(language)
        for node, texts in nodes.items():
            found[Path(node) / f"{language}.md"] = page(texts, more.get(node, ("", "")), *heads)
    return found


def sections(language: str) -> dict[str, tuple[str, str]]:
    """Return what stands before and after a page's inputs and outputs, by node; nothing in languages without a file."""
    file = ROOT / ".ci" / "help" / f"{language}.md"
    if not file.exists():
        return {}
    found = {}
    for part in re.split(r"^# ", file.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        node, _, text = part.partition("\n")
        before, after = re.split(r"^---$", text, flags=re.MULTILINE)
        found[node] = before.strip(), after.strip()
    return found


def page(texts: dict, more: tuple[str, str], inputs: str, outputs: str, name: str, meaning: str) -> str:
    before, after = more
    lines = [f"# {texts['display_name']}", "", texts["description"], ""]
    lines += [before, ""] if before else []
    for title, kind in ((inputs, "inputs"), (outputs, "outputs")):
        if kind in texts:
            lines += [f"## {title}", "", f"| {name} | {meaning} |", "| --- | --- |"]
            lines += [f"| {each['name']} | {each['tooltip']} |" for each in texts[kind].values()] + [""]
    lines += [after, ""] if after else []
    return "\n".join(lines)


if __name__ == "__main__":
    for path, text in pages().items():
        target = ROOT / "js" / "docs" / path
        target.parent.mkdir(exist_ok=True)
        target.write_text(text, encoding="utf-8")
