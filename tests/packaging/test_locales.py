"""Node texts in other languages: nothing missing, nothing left in English, the terms that the field uses."""

import ast
import json
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INTERFACE = json.loads((ROOT / "tests" / "host" / "node_interface.json").read_text())
TERMS = {
    "zh": ("控制点", "目标点", "瓶颈特征", "运动监督", "点跟踪"),
    "zh-TW": ("控制點", "目標點", "瓶頸特徵", "運動監督", "點追蹤"),
    "ja": ("ハンドル点", "目標点", "ボトルネック特徴", "動き監督", "点追跡"),
    "ko": ("핸들 점", "목표 점", "병목 특징", "모션 감독", "점 추적"),
}


def node_texts(language):
    return json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))


def leaves(value, path=()):
    if isinstance(value, str):
        yield path, value
    else:
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))


def test_the_languages():
    assert {path.name for path in (ROOT / "locales").iterdir()} == {"en", *TERMS}


def test_the_english_texts_are_those_of_the_nodes():
    sources = [file.read_text() for file in (ROOT / "nodes").rglob("*.py")]
    written = {
        node.value for source in sources for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)
    }
    texts = [text for path, text in leaves(node_texts("en")) if path[-1] in ("tooltip", "description", "display_name")]
    assert len(texts) > 100 and [text for text in texts if text not in written] == []


@pytest.mark.parametrize("language", ["en", *TERMS])
def test_every_node_input_and_output_has_its_name_and_its_tooltip(language):
    texts = node_texts(language)
    assert set(texts) == set(INTERFACE)
    for node, interface in INTERFACE.items():
        assert texts[node]["display_name"] and texts[node]["description"]
        assert set(texts[node]["inputs"]) == set(interface["inputs"]), node
        assert set(texts[node].get("outputs", {})) == set(map(str, range(len(interface["outputs"])))), node
        for each in (*texts[node]["inputs"].values(), *texts[node].get("outputs", {}).values()):
            assert each.keys() == {"name", "tooltip"} and all(each.values())


@pytest.mark.parametrize("language", TERMS)
def test_nothing_is_left_in_english_and_the_fields_terms_are_used(language):
    english = dict(leaves(node_texts("en")))
    texts = dict(leaves(node_texts(language)))
    same = {path for path, text in texts.items() if text == english[path] and text != "VAE"}
    assert not same
    everything = " ".join(texts.values())
    assert [term for term in TERMS[language] if term not in everything] == []


@pytest.mark.parametrize("language", ["en", *TERMS])
def test_no_text_holds_what_the_hosts_translation_takes_for_markup(language):
    for path, text in leaves(node_texts(language)):
        assert not re.search(r"[{}|@$<>]", text), path


def test_help_pages_in_other_languages_are_those_that_the_command_writes():
    expected = runpy.run_path(str(ROOT / ".ci" / "localised_help.py"))["pages"]()
    docs = ROOT / "js" / "docs"
    written = {path.relative_to(docs): path.read_text(encoding="utf-8") for path in docs.glob("*/*.md")}
    assert written == expected, "run python .ci/localised_help.py"


@pytest.mark.parametrize("language", [path.stem for path in (ROOT / ".ci" / "help").iterdir()])
@pytest.mark.parametrize("node", INTERFACE)
def test_a_page_translated_in_full_has_the_sections_rows_and_names_of_the_english_one(language, node):
    english, other = (
        re.split(r"^#+ ", (ROOT / "js" / "docs" / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
        for name in (f"{node}.md", f"{node}/{language}.md")
    )
    assert len(english) == len(other) > 2
    for section, translated in zip(english[2:], other[2:], strict=True):
        if section.startswith(("Inputs", "Outputs")):
            continue  # these come from the node's own texts
        for what in (r"\d{2}_\w+", r"photo\.(?:png|json)", r"^[|-]"):
            found = [re.findall(what, text, re.MULTILINE) for text in (section, translated)]
            assert found[0] == found[1], section
