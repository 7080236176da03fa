"""Writes the nodes' help pages in other languages from locales/: `python .ci/localised_help.py`.

A page has the node's name, what it does, and every input and output. The host shows it in place of the English page.
No pictures: the host looks for those of all pages in js/docs, which is not where a link from here would lead.
"""

import json
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
        for node, texts in nodes.items():
            found[Path(node) / f"{language}.md"] = page(texts, *heads)
    return found


def page(texts: dict, inputs: str, outputs: str, name: str, meaning: str) -> str:
    lines = [f"# {texts['display_name']}", "", texts["description"], ""]
    for title, kind in ((inputs, "inputs"), (outputs, "outputs")):
        if kind in texts:
            lines += [f"## {title}", "", f"| {name} | {meaning} |", "| --- | --- |"]
            lines += [f"| {each['name']} | {each['tooltip']} |" for each in texts[kind].values()] + [""]
    return "\n".join(lines)


if __name__ == "__main__":
    for path, text in pages().items():
        target = ROOT / "js" / "docs" / path
        target.parent.mkdir(exist_ok=True)
        target.write_text(text, encoding="utf-8")
