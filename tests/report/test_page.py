"""The report's page on made-up artifacts: what it says, what it hides, and that nothing of a patient is in it."""

import json
import re
from html.parser import HTMLParser

import polars as pl
import pytest
from report_world import LABEL, MODELS, make, world

from fusionctl import report
from fusionctl.data.phenotypes import phenotypes
from fusionctl.errors import InputError, UsageError
from fusionctl.report import summary
from fusionctl.report.names import METRIC_NAMES
from fusionctl.settings import ReportSettings, Runtime
from fusionctl.stages import report as stage
from fusionctl.workdir import Draft

PHENOTYPES = [p.name for p in phenotypes()][:6]
FILES = {"html": "report.html", "md": "results.md", "csv": "results.csv", "latex": "results.tex"}


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return world(tmp_path_factory.mktemp("large"), seeds=2)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Several labels, and an uncertainty loss."""
    models = ("attention", "attention+uncertainty", "ehr", "cxr")
    inputs, samples = world(tmp_path_factory.mktemp("many"), labels=PHENOTYPES, models=models)
    content = stage.gather(inputs)
    content["metrics"]["task"] = "phenotyping"
    return content, samples


@pytest.fixture(scope="module")
def page(large):
    return report.render(stage.gather(large[0]))


class Reader(HTMLParser):
    """Checks that tags nest, and collects tags, attributes and texts."""

    VOID = {"meta", "br", "line", "path", "circle"}

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_page_is_self_contained(page):
    reader = Reader(page)
    forbidden = {"script", "link", "img", "iframe", "object", "embed", "form", "base", "use", "foreignobject"}
    assert not forbidden & set(reader.tags)
    assert "http:" not in page and "https:" not in page and "url(" not in page and "@import" not in page
    names = {name for name, _ in reader.attributes}
    assert not [n for n in names if n.startswith("on") or n in ("src", "srcset", "xlink:href")]
    assert all(value.startswith("#") for name, value in reader.attributes if name == "href")
    policy = re.search(r'Security-Policy" content="([^"]+)"', page)[1]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert page.index("Content-Security-Policy") < page.index("<style>")


def test_links_lead_to_sections(page):
    attributes = Reader(page).attributes
    targets = {value for name, value in attributes if name == "id"}
    links = {value[1:] for name, value in attributes if name == "href"}
    assert links == targets
    wanted = {"results", "comparisons", "seeds", "discrimination", "calibration", "decision-curves", "subgroups"}
    assert wanted | {"robustness", "cohort", "training", "settings", "what-this-page-rests-on"} == targets


def ids(inputs, samples):
    """Every identifier of the cohort, as it would stand in a text."""
    found = {str(i) for name in ("stay_id", "subject_id", "hadm_id") for i in samples[name]}
    films = pl.read_parquet(inputs["extract"].file("films.parquet"))
    return found | set(films["dicom_id"]) | {str(i) for i in films["study_id"]}


def test_no_identifier_and_no_path_in_anything_written(large, tmp_path):
    inputs, samples = large
    draft = Draft(tmp_path)
    stage.run(draft, ReportSettings(format="html,md,csv,latex"), inputs, runtime=Runtime())
    assert {p.name for p in tmp_path.iterdir()} == {*FILES.values(), "tables.json"}
    known = ids(inputs, samples)
    lengths = {len(i) for i in known}
    for path in tmp_path.iterdir():
        text = path.read_text(encoding="utf-8")
        windows = {text[i : i + n] for n in lengths for i in range(len(text) - n + 1)}
        assert not windows & known
        assert "someone" not in text and str(inputs["extract"].path) not in text


def test_the_scan_for_identifiers_would_find_one(large):
    inputs, samples = large
    text = f"<p>{samples['stay_id'][0]}</p>"
    assert any(i in text for i in ids(inputs, samples))


@pytest.mark.parametrize(("asked", "written"), [("html,md", ["html", "md"]), ("csv, latex ,csv", ["csv", "latex"])])
def test_only_the_formats_asked_for_are_written(large, tmp_path, asked, written):
    stage.run(Draft(tmp_path), ReportSettings(format=asked), large[0], runtime=Runtime())
    assert {p.name for p in tmp_path.iterdir()} == {*(FILES[name] for name in written), "tables.json"}


@pytest.mark.parametrize("asked", ["pdf", "html,pdf", "", ","])
def test_an_unknown_format_is_refused_before_anything_is_read(asked, tmp_path):
    with pytest.raises(UsageError, match="--format must be some of html, md, csv, latex, separated by commas; got"):
        stage.run(Draft(tmp_path), ReportSettings(format=asked), {}, runtime=Runtime())


def test_same_inputs_same_bytes(large, page):
    assert report.render(stage.gather(large[0])) == page


def test_numbers_of_the_page_are_those_of_the_evaluation(large, page):
    metrics = large[0]["evaluate"].json("metrics.json")
    entry = metrics["subsets"]["paired"]["models"]["cxr"]["metrics"]["auprc"]
    assert f"<td>{entry['value']:.3f}<small>{entry['low']:.3f}–{entry['high']:.3f}</small></td>" in page
    missing, n = metrics["subsets"]["unpaired"]["n"], metrics["subsets"]["all"]["n"]
    assert f"no prediction for {missing} of {n} stays" in page
    pair = metrics["subsets"]["all"]["comparisons"][0]["metrics"]["auroc"]
    assert f"<small>p {pair['p']:.3f}, Holm {pair['p_holm']:.3f}</small>" in page
    brier = metrics["calibration"]["ehr"][LABEL]["brier"]
    assert f"<td>{brier['value']:.3f}<small>{brier['low']:.3f}–{brier['high']:.3f}</small></td>" in page
    spread = metrics["seeds"]["attention"]["subsets"]["all"]["auroc"]
    assert f"<td>{spread['mean']:.3f}<small>± {spread['sd']:.3f}, " in page
    assert "<td>11.6\u00a0M<small>11,629,776</small></td>" in page


def test_columns_stand_in_the_papers_order(page):
    header = re.search(r'<section id="results">.*?<thead>(.*?)</thead>', page, re.DOTALL)[1]
    assert re.findall(r">([^<]+)</th>", header) == ["Model", *METRIC_NAMES.values(), "Parameters"]


def test_the_summary_is_short_and_comes_before_everything(page):
    head = page[page.index("<header>") : page.index("</header>")]
    found = re.findall(r"<li>(.*?)</li>", head[: head.index("<nav")])
    assert 4 <= len(found) <= 7 and all(len(sentence) < 400 for sentence in found)
    assert found[0].startswith("Highest AUROC on all stays: Attention fusion")
    assert found[0].endswith("the best of 3 models, ensembles left out, found on these same stays, so it flatters.")
    assert "patients: of AUROC, F1, differences percentile intervals; of AUPRC percentile intervals moved by" in head
    assert "How to read these numbers" in head


@pytest.mark.parametrize(("sensitivity", "words"), [("synthetic", "Synthetic data"), ("open", "Open data")])
def test_banner_comes_first_and_the_paper_never(large, many, sensitivity, words):
    for content in (stage.gather(large[0]), many[0]):
        content = json.loads(json.dumps({**content, "sensitivity": sensitivity}))
        content["metrics"]["subsets"]["all"]["n"] = 50_000
        texts = [write(content) for _, write in report.FORMATS.values()]
        body = texts[0].split("<body>")[1]
        assert words in body[:300] and body.index(words) < body.index("<h1>")
        for text in texts:
            assert not [words for words in ("Rasekh", "5,243", "ViT", "The paper", "23,8") if words in text]
        assert all(
            report.INCOMPARABLE in text for name, text in zip(report.FORMATS, texts, strict=True) if name != "csv"
        )


def enlarged(content):
    """The content with as many test stays as the paper."""
    content = json.loads(json.dumps(content))
    content["metrics"]["subsets"]["all"]["n"] = 12_000
    return {**content, "sensitivity": "credentialed"}


def test_paper_stands_beside_credentialed_data_of_its_size_only(large):
    content = enlarged(stage.gather(large[0]))
    text = report.render(content)
    assert 'class="banner"' not in text and "Contrastive + ViT" in text and "23,871,824" in text
    assert "Table 2 of the paper" in text and "23.1" in text
    ours = content["metrics"]["subsets"]["all"]["models"]["attention"]["metrics"]["auroc"]["value"]
    assert f"<td>{ours - 0.857:+.3f}</td>".replace("-", "−") in text
    excerpt = report.render({**stage.gather(large[0]), "sensitivity": "credentialed"})
    assert "Not shown: the paper has 5,243 test stays" in excerpt and "Contrastive + ViT" not in excerpt


def test_clahe_tells_which_system_of_the_paper_a_model_is(large):
    content = enlarged(stage.gather(large[0]))
    for clahe, system in ((False, "Attention"), (True, "Attention + CLAHE")):
        text = report.csv_text({**content, "clahe": clahe})
        mine = [row for row in text.splitlines() if "Here (Attention fusion)" in row]
        assert mine and all(f"Table 2 of the paper and here,{system}," in row for row in mine)


def test_the_paper_of_phenotypes_has_tables_3_4_and_7(many):
    content = enlarged(many[0])
    text = report.render(content)
    assert "Table 3 of the paper" in text and "Table 4 of the paper" in text and "Image only" in text
    assert "0.793" in text[text.index('id="uncertainty-loss-by-label"') :]  # renal failure, Table 7
    assert "Table 2" not in text
    noise = report.markdown(content)
    assert "|  | The paper | 0.590 (0.581–0.612) |" in noise  # Table 6, attention


def test_one_made_up_source_makes_the_page_incomparable(large, tmp_path):
    mixed = make(tmp_path, "extract", 1, sources={"mimic_root": "credentialed", "cxr_root": "synthetic"})
    pure = make(tmp_path, "preprocess", 2)
    assert stage.least_like_the_paper([mixed, pure]) == "synthetic"
    assert stage.least_like_the_paper([pure]) == "credentialed"


def test_page_without_optional_parts(large):
    content = stage.gather({**large[0], "robustness": None, "pretrain-ehr": [], "films": None})
    for key in ("subgroups", "gaps", "taskwise"):
        content["metrics"][key] = []
    for key in ("seeds", "sigmas", "calibration", "decision"):
        content["metrics"][key] = {}
    text = report.render({**content, "training": []})
    Reader(text)
    anchors = {value for name, value in Reader(text).attributes if name == "id"}
    assert anchors == {"results", "comparisons", "discrimination", "cohort", "settings", "what-this-page-rests-on"}


def test_texts_are_escaped(large):
    content = stage.gather(large[0])
    content["artifacts"][0]["settings"]["evil"] = {"value": "<script>alert(1)</script>", "source": "config"}
    text = report.render(content)
    assert "<script>" not in text and "&lt;script&gt;" in text
    assert "<script>alert(1)</script>" in report.csv_text(content)


def test_settings_that_are_not_the_default_come_first(page):
    settings = page[page.index('id="settings"') :]
    assert settings.index("preset small") < settings.index("Every setting")


def test_small_cohort_hides_counts_and_still_renders(tmp_path):
    inputs, _ = world(tmp_path, n=60, seed=0, resamples=400, models=("attention", "cxr"))
    content = stage.gather(inputs)
    texts = [write(content) for _, write in report.FORMATS.values()]
    Reader(texts[0])
    subset = content["metrics"]["subsets"]["all"]
    positives, n = subset["positives"][LABEL], subset["n"]
    paired = n - content["metrics"]["subsets"]["unpaired"]["n"]
    assert 0 < positives < 10 < n and 0 < paired < 10 <= n - paired  # the case that is tested
    for text in texts:
        assert "with the outcome (" not in text and f"{100 * positives / n:.1f}\u00a0%" not in text
        assert not re.search(rf"\b{n - paired} (of|stays)", text)
        assert "of 400 resamples" not in text
    for anchor in ("discrimination", "calibration", "decision-curves"):
        assert f'id="{anchor}"' not in texts[0]  # steps of the curves would count the outcomes
    assert "&lt;10 stays" in texts[0] and "≥10 stays" in texts[0]
    assert "no prediction for some stays" in texts[0] and "no prediction for these stays" in texts[0]
    assert any(m["labels"][LABEL]["undefined"] for m in content["metrics"]["subsets"]["unpaired"]["models"].values())
    assert "resamples that drew one class only are left out" in texts[0]
    assert "AUROC, all stays" in texts[0] and "AUROC, stays with a film" not in texts[0]  # robustness


def test_wrong_task_is_refused(large, tmp_path):
    metrics = large[0]["evaluate"].json("metrics.json")
    other = make(tmp_path, "evaluate", 1, files={"metrics.json": {**metrics, "task": "phenotyping"}})
    with pytest.raises(InputError, match="is of the task phenotyping, not mortality"):
        stage.run(Draft(tmp_path), ReportSettings(), {**large[0], "evaluate": other}, runtime=Runtime())


def test_an_evaluation_of_an_earlier_version_is_refused(large, tmp_path):
    old = make(tmp_path, "evaluate", 1, files={"metrics.json": {"task": "mortality", "subsets": {}}})
    with pytest.raises(InputError, match="evaluate/1c0ffee00001 was made by an earlier version") as error:
        stage.gather({**large[0], "evaluate": old})
    assert error.value.hint == "run again: fusionctl evaluate"


def test_several_labels_get_their_mean_and_each_a_curve_on_request(many):
    text = report.render(many[0])
    Reader(text)
    assert "mean prevalence of 6 labels" in text and "ROC: all stays, mean of 6 labels" in text
    assert "with the outcome (" not in text
    folds = re.findall(r"<summary>(.*?)</summary>", text)
    for title in (
        "Curves of every label, all stays",
        "All stays: every metric of every label",
        "Calibration of every label",
    ):
        assert title in folds
    label = PHENOTYPES[0]
    entry = many[0]["metrics"]["subsets"]["all"]["models"]["ehr"]["labels"][label]["metrics"]["auroc"]
    section = text[text.index('id="results-by-label"') :]
    assert f"{entry['value']:.3f}<small>{entry['low']:.3f}" in section


def test_the_uncertainty_loss_is_shown_by_label_smallest_sigma_first(many):
    text = report.markdown(many[0])
    section = text[text.index("## Uncertainty loss by label") :]
    lines = [line for line in section.splitlines() if line.startswith(f"| {PHENOTYPES[0]}")]
    assert lines and "| 0.500 |" in lines[0]
    order = [section.index(f"| {name} |") for name in PHENOTYPES]
    assert order == sorted(order)


def test_seeds_are_named_where_artifacts_differ_in_nothing_else(large):
    content = stage.gather(large[0])
    names = [artifact["name"] for artifact in content["artifacts"]]
    assert {"fuse: Attention fusion, seed 0", "fuse: Attention fusion, seed 1", "fuse: Time series alone"} <= set(names)
    assert content["parameters"] == dict.fromkeys(MODELS, 11_629_776)


def test_training_times_are_those_of_one_training(large):
    """The mean over seeds below the results; each one's own beside its artifact."""
    content = stage.gather(large[0])
    assert content["seconds"] == {**dict.fromkeys(MODELS, 240.0), MODELS[0]: 300.0}
    text = report.markdown(content).replace("\u00a0", " ")
    assert "| Attention fusion | 5.0 min |" in text
    assert "| 0 | cpu | 4.0 min |" in text and "| 1 | cpu | 6.0 min |" in text


def test_an_own_ensemble_is_no_finding_and_its_family_is_told(large):
    content = stage.gather(large[0])
    subset = content["metrics"]["subsets"]["all"]
    own = [pair for pair in subset["comparisons"] if pair["own_ensemble"]]
    assert [(pair["a"], pair["b"]) for pair in own] == [("attention ensemble", "attention")]
    said = next(s for s in summary.findings(content) if s.startswith("Between models"))
    assert f" {len(subset['comparisons']) - 1} " in said
    assert "An ensemble against the seeds it is made of is corrected apart." in report.markdown(content)
    subset["comparisons"] = own
    assert not [s for s in summary.findings(content) if s.startswith("Between models")]


def test_a_gap_is_named_only_if_the_corrected_test_rejects(large):
    content = stage.gather(large[0])
    best = "attention"
    gap = {"by": "age", "model": best, "metric": "auroc", "largest": "18-44", "smallest": "80+"}
    for p, words in ((0.04, "distinguishable from chance is by age, 0.200"), (0.06, "no gap in AUROC is")):
        content["metrics"]["gaps"] = [{**gap, "gap": {"value": 0.2, "p": 0.01, "p_holm": p}}]
        (said,) = (s for s in summary.findings(content) if s.startswith("Subgroups"))
        assert words in said


def test_what_rests_on_few_outcomes_is_not_said(large):
    content = stage.gather(large[0])
    metrics = content["metrics"]
    assert any("calibration slope" in s and "(no interval)" in s for s in summary.findings(content)) == (
        min(metrics["subsets"]["all"]["positives"].values()) >= 100
    )
    for positives, there in ((99, False), (100, True)):
        metrics["subsets"]["all"]["positives"][LABEL] = positives
        assert any("calibration slope" in s for s in summary.findings(content)) == there
    metrics["subsets"]["all"]["positives"][LABEL] = 12
    one = [{"n": 30, "positives": 12, "predicted": 0.3, "observed": 0.4}]
    for entry in metrics["calibration"].values():
        entry[LABEL] |= {"curve": one, "curve_after": one}
    text = report.render(content)
    section = text[text.index('id="calibration"') : text.index('id="decision-curves"')]
    assert "Too few outcomes for a curve" in section and "<svg" not in section


def test_a_value_that_no_draw_varies_is_shown_without_interval(large):
    content = stage.gather(large[0])
    never = dict.fromkeys(("value", "low", "high"), 0.0)
    content["metrics"]["subsets"]["all"]["models"]["ehr"]["metrics"]["binary_f1"] = never
    assert "0.000 (0.000–0.000)" not in report.markdown(content)
    assert "| 0.000 |" in report.markdown(content)


def test_how_to_read_says_what_is_so(page, many):
    head = page[page.index("How to read") : page.index("</header>")]
    assert "seventeen to nineteen" in head and "threshold at each stay that has the outcome" in head
    assert "before temperature scaling" in page
    content = json.loads(json.dumps(many[0]))
    label = content["metrics"]["subsets"]["all"]["models"]["ehr"]["labels"][PHENOTYPES[0]]
    label["undefined"] = 3
    assert "in a resample the mean leaves out the labels of which one class only was drawn" in report.markdown(content)
    assert "corrected over the labels of one pair and one metric, not over the pairs" in report.markdown(content)
