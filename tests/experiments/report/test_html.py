import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from experiments.report.html import write_report
from experiments.result import CutPrompts


@pytest.fixture(scope="module")
def html(arms, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    provenance = {"git_commit": "abc123", "seed": 7, "command": "python run.py experiment=demo"}
    write_report(arms, folder, "bits: w8a8\nname: <script>", provenance)
    assert [path.name for path in folder.iterdir()] == ["report.html"]
    return (folder / "report.html").read_text(encoding="utf-8")


def test_nothing_is_loaded_from_elsewhere(html):
    without_data = re.sub(r'"data:image/png;base64,[A-Za-z0-9+/=]+"', '""', html)
    assert not re.search(r"https?:|//\w|url\(|@import|<link|<script|src=\"[^\"]", without_data)


def test_holds_what_was_run_and_what_came_out(html, arms):
    for text in ("python run.py experiment=demo", "abc123", "41.2", "[38.9, 44.0]", "not comparable with tiny"):
        assert text in html
    for arm in arms:
        assert arm.command in html
    assert html.count("data:image/png;base64,") == 5  # animation, grid, three figures


def test_text_is_escaped(html):
    assert "name: &lt;script&gt;" in html and "&lt;all&gt;" in html


def test_names_and_prompts_are_text_wherever_they_stand(arms, tmp_path):
    prompt = "<script>alert(1)</script>"
    named = [
        replace(
            arm,
            variant="<script>alert(2)",
            prompts=[prompt] * 3,
            prompts_cut=[CutPrompts("a <script>reader", 5, 3, [prompt])],
            command=f"python run.py {prompt}",
            quantization_map=[{"layer": "<script>layer"}],
            conditions=replace(arm.conditions, reference="<script>folder", model="<script>model"),
        )
        for arm in arms
    ]
    facts = {"command": prompt, "<script>fact": prompt}
    text = write_report(named, tmp_path, prompt, facts, {"<script>figure": b""}).read_text()
    assert "<script" not in text
    for said in ("alert(1)", "alert(2)", "layer", "folder", "model", "fact", "figure", "reader"):
        assert f"&lt;script&gt;{said}" in text, said


def test_tags_are_balanced(html):
    depth = []

    class Balance(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "img"):
                depth.append(tag)

        def handle_endtag(self, tag):
            assert depth.pop() == tag

    Balance().feed(html)
    assert depth == []
