"""The pages about models: cards, test figures, live figures, shadows, earlier answers."""

import csv
import io
import json
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from xml.etree.ElementTree import fromstring

import pytest
import sqlalchemy as sa
from integration.console.conftest import Browser
from support.answers import an_answer, many, put_answers, verdict
from support.node import ROOT
from support.web_bench import Bench

from ainode.node.audit.messages import Message
from ainode.node.console.days import last_days
from ainode.node.console.models.page import Models, Overview
from ainode.node.disk import sha256_of
from ainode.node.domain import UID, Correction, JobState, Judgement, Opinion
from ainode.node.keeping.answer_search import AnswerFilter, AnswerSearch
from ainode.node.keeping.judgements import Judgements
from ainode.node.keeping.ledger import Ledger
from ainode.node.keeping.records import Job
from ainode.node.keeping.schema import jobs
from ainode.node.reading.cards import evaluation_command
from ainode.node.reading.weights import HandlerWeights

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module", autouse=True)
def _answers(bench: Bench) -> None:
    """Put answers of a hundred days, and of a shadow with other weights on the last ten studies."""
    rows = list(many(400, NOW, days=100))
    other = {"route": "skin next", "handler": "skin_next", "weights_sha256": "b" * 64}
    shadows = [
        an_answer(1000 + number, NOW - HOUR, 0.9, study_instance_uid=row["study_instance_uid"], **other)
        for number, row in enumerate(rows[-10:])
    ]
    formula = an_answer(2000, NOW - HOUR, 0.75, route="=HYPERLINK(1)", headline="@SUM(1)", handler="hostile")
    marked = an_answer(2001, NOW - HOUR, 0.75, route="<script>alert(1)</script>", handler="hostile")
    put_answers(bench.engine, [*rows, *shadows, formula, marked])


def svgs(page: str) -> list[str]:
    return re.findall(r"<svg .*?</svg>", page, flags=re.DOTALL)


def words(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


PAGES = ("models", "models/skin_lesion", "models/skin_lesion/live", "compare?first=skin&second=skin+next", "answers")


@pytest.mark.parametrize("path", PAGES)
def test_a_page_about_models_has_no_style_or_script_in_it_and_whole_charts(viewer: Browser, path: str) -> None:
    answer = viewer.get(f"/console/{path}")
    assert answer.status_code == 200
    assert not re.search(r"style=|<script>|javascript:|onclick", answer.text)
    for svg in svgs(answer.text):
        fromstring(svg)  # noqa: S314 - our own


def test_every_model_stands_in_the_list_with_its_status_its_test_and_what_it_answered(viewer: Browser) -> None:
    page = words(viewer.get("/console/models").text)
    for name in ("ct_pneumonia", "ct_tumor", "lung_nodule", "pancreas_tumor", "skin_lesion", "spine_radiograph"):
        assert name in page
    assert "Is the skin lesion in this picture malignant" in page
    assert "research weights" in page
    assert "0.886 (0.852 to 0.915, n 652)" in page
    assert "Test AUC, lung 0.985 (0.954 to 1.000, n 179); shortcuts 0.998" in page
    assert "Test AUC, pancreas 0.791 (0.737 to 0.843, n 240); shortcuts 0.603" in page


def test_models_that_no_route_names_and_that_answered_nothing_are_folded(viewer: Browser) -> None:
    page = viewer.get("/console/models").text
    used, _, folded = page.partition("<details><summary>")
    assert 'href="/console/models/skin_lesion"' in used
    assert 'href="/console/models/pancreas_tumor"' not in used
    assert re.match(r"\d+ models that no route names</summary>", folded)
    assert 'href="/console/models/pancreas_tumor"' in folded


def test_a_model_whose_weights_make_a_part_of_the_answers_of_another_says_so_on_both_cards(
    viewer: Browser, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handler has told which weights it reads with: here, a spine route that outlines nodules too."""
    weights = HandlerWeights(("spine_radiograph/detector", "nodule_outline/implanted"), "52afff217cdd")
    monkeypatch.setattr(bench.parts.readers, "known_weights", lambda _: weights)
    page = words(viewer.get("/console/models").text)
    assert "Reads with nodule_outline , too: their figures are on their cards" in page
    assert "A part of the answers of spine_radiograph" in page
    assert "its readings are those of spine_radiograph" in page
    for name in ("spine_radiograph", "nodule_outline"):
        card = words(viewer.get(f"/console/models/{name}").text)
        assert "spine_radiograph answers with weights of spine_radiograph, nodule_outline" in card
        assert "52afff217cdd" in card


def test_a_model_that_outlines_or_measures_has_what_it_is_judged_by_in_the_list_and_every_measure_on_its_page(
    viewer: Browser,
) -> None:
    page = words(viewer.get("/console/models").text)
    for figure in (
        "Test Dice 0.787 (0.763 to 0.809, n 165)",
        "Test Dice 0.406 (0.323 to 0.484, n 138) Test Middle in the tumor, share of slices 0.522",
        "Test Nodules of 6 mm and more, marked at 4 false marks a scan 0.930 (0.873 to 0.979, n 100)",
        "Test, synthetic Largest angle off by, in degrees 1.156",
    ):
        assert figure in page
    assert "Dice of the lungs 0.981 (0.977 to 0.985) 3" in words(viewer.get("/console/models/lung_infection").text)


def test_a_test_without_an_auc_is_shown_by_what_it_measured(viewer: Browser, bench: Bench) -> None:
    folder = bench.settings.data / "weights" / "cards" / "spleen"
    (folder / "metrics").mkdir(parents=True)
    (folder / "card.toml").write_text('name = "spleen"\ntask = "Where is the spleen"\n')
    figures = {"model": "spleen", "dice": {"value": 0.96, "low": 0.95, "high": 0.97, "n": 9}}
    (folder / "metrics" / "first.json").write_text(json.dumps(figures))
    put_answers(bench.engine, [an_answer(3000, NOW - HOUR, route="spleen", handler="spleen", model="spleen")])
    try:
        page = words(viewer.get("/console/models").text).partition(" spleen ")[2]
        assert "Test Dice 0.960 (0.950 to 0.970, n 9)" in page.partition("Card and test")[0]
    finally:
        shutil.rmtree(folder)


def test_a_handler_whose_name_is_no_model_has_the_card_of_the_model_that_it_reads_with(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    route = replace(bench.settings.routes[0], name="spine-angles", handler="spine_angles")
    settings = bench.settings.model_copy(update={"routes": (*bench.settings.routes, route)})
    survey = Models(replace(bench.parts, web=replace(bench.parts.web, settings=settings)))
    entries, recent = survey.weights()[0], last_days(30, NOW.date())

    def named(name: str) -> list[Overview]:
        return [model for model in survey.overview(entries, recent) if model.name == name]

    (untold,) = named("spine_angles")
    assert untold.untold_handler == "spine_angles"
    weights = HandlerWeights(("spine_vertebrae/synthetic",), "52afff217cdd")
    monkeypatch.setattr(bench.parts.readers, "known_weights", lambda handler: weights if "angles" in handler else None)
    assert not named("spine_angles")
    (told,) = named("spine_vertebrae")
    assert told.routes == ("spine-angles",)
    assert told.card.task.startswith("Where are the vertebrae")
    assert not told.untold_handler


def test_answers_refusals_and_failures_are_counted_apart_and_each_share_names_what_it_is_of(
    viewer: Browser, bench: Bench
) -> None:
    bench.ledger.open(Job("broken", UID("1.2.9"), "skin", "skin_lesion", {}, NOW, NOW, ()))
    bench.ledger.move("broken", JobState.READING)
    bench.ledger.move("broken", JobState.FAILED, reason="it broke", at=NOW - HOUR)
    number = r"(\d+) {} \(\d+ % of (\d+)\)"
    parts = ", ".join(map(number.format, ("answered", "declined", "failed")))
    card = words(viewer.get("/console/models").text).partition(" skin_lesion: ")[2]
    match = re.search(rf"(\d+) readings ended: {parts}, \d+ positive \(\d+ % of (\d+) answered\)", card)
    assert match, card
    total, answered, _, declined, _, failed, _, of_answered = map(int, match.groups())
    assert {total, answered + declined + failed, *map(int, match.groups()[2:7:2])} == {total}
    assert (failed, of_answered) == (1, answered)
    live = words(viewer.get("/console/models/skin_lesion/live").text)
    assert re.search(rf"Answered {answered} of {total} .* Failed 1 of {total} ", live)


SHORTCUT = "nine numbers that know no anatomy (noise, grays, fill and aspect of the picture) reach AUC 0.945"


@pytest.mark.parametrize(
    ("model", "sentences"),
    [
        ("ct_tumor", (SHORTCUT, "12 of 12 real chest CT were called malignant, two healthy ones included")),
        ("ct_tumor", ("test lung: shortcuts that know no anatomy reach AUC 0.998 beside 0.985",)),
        ("skin_lesion", ("a sensitivity of 0.575", "any color photograph gets a number")),
        ("spine_radiograph", ("116 of 116 real whole-spine films were called abnormal",)),
        ("lung_nodule", ("AUC 0.880 beside 0.884 on the test part", "0.020 (-0.001 to 0.042)")),
        ("ct_pneumonia", ("three ill chests got 0.78, 0.33 and 0.29, a healthy one 0.29",)),
    ],
)
def test_the_page_of_a_model_begins_with_the_worst_that_is_known_of_it(
    viewer: Browser, model: str, sentences: tuple[str, ...]
) -> None:
    page = words(viewer.get(f"/console/models/{model}").text)
    limits = page.partition(" Limits ")[2].partition(" Not for ")[0]
    assert all(sentence in limits for sentence in sentences), limits


def test_a_card_says_what_the_model_is_not_for_and_which_bytes_the_node_serves(viewer: Browser) -> None:
    page = words(viewer.get("/console/models/skin_lesion").text)
    shipped = ROOT / "weights" / "skin_lesion_cells.safetensors"
    for text in (
        "any clinical decision",
        "earlier weights: AUC 0.818, sensitivity 0.575 at another hospital",
        sha256_of(shipped),
        "CC BY-NC 4.0",
        "652 cases of 446 independent groups",
        "logistic regression on 16 x 16 pixels",
    ):
        assert text in page


def test_the_figures_of_a_site_are_shown_with_their_curves_and_told_from_the_bytes_served(
    viewer: Browser, bench: Bench
) -> None:
    folder = bench.folder / "weights" / "cards" / "our_model"
    (folder / "metrics").mkdir(parents=True)
    (folder / "card.toml").write_text('task = "ours"\nnot_for = ["<b>nothing</b>"]\n')
    estimate = {"value": 0.8, "low": 0.7, "high": 0.9, "n": 50}
    curves = {
        "roc": [[0, 0], [0.5, 0.9], [1, 1]],
        "calibration": [{**estimate, "predicted": 0.5}],
        "confusion": {"names": ["no", "yes"], "counts": [[5, 1], [2, 4]]},
        "losses": {"": {"epoch": [0, 1], "val_loss": [1, 0.5], "accuracy": [0, 1]}},
    }
    metrics = {"model": "our_model", "weights": {"ours": "ff"}, "auc": estimate, "curves": curves}
    (folder / "metrics" / "ours.json").write_text(json.dumps(metrics))
    (folder / "metrics" / "wrong.json").write_text("[]")
    page = viewer.get("/console/models/our_model").text
    assert "&lt;b&gt;nothing&lt;/b&gt;" in page
    assert "other bytes than the node serves now" in page
    assert "wrong.json is no metrics.json" in page
    titles = [fromstring(svg).findtext("{http://www.w3.org/2000/svg}title") for svg in svgs(page)]  # noqa: S314
    assert titles == [
        *("ours against baselines", "ROC of ours", "Calibration of ours", "Confusion of ours", "Losses of ours"),
    ]


def test_figures_without_curves_name_the_command_that_makes_them(viewer: Browser, bench: Bench) -> None:
    folder = bench.folder / "weights" / "cards" / "plain_model"
    (folder / "metrics").mkdir(parents=True)
    (folder / "card.toml").write_text('task = "ours"\n')
    (folder / "metrics" / "ours.json").write_text('{"model": "plain_model"}')
    assert (
        "ainode evaluate plain_model --external TRUTHS.csv --data DIR --out OUT"
        in viewer.get("/console/models/plain_model").text
    )


def test_a_model_of_a_site_is_measured_by_the_command_that_takes_it(viewer: Browser, bench: Bench) -> None:
    folder = bench.folder / "weights" / "cards" / "hip"
    folder.mkdir(parents=True)
    (folder / "card.toml").write_text('task = "ours"\n')
    page = viewer.get("/console/models/hip").text
    assert "ainode evaluate hip --external TRUTHS.csv --data DIR --out OUT" in page
    assert "with --record the command does" in page
    assert evaluation_command("skin_lesion") == "ainode evaluate skin_lesion --data DIR --out OUT"


@pytest.mark.parametrize("name", ["absent", "..%2f..%2fweights", "a%00b"])
def test_a_model_that_is_not_there_is_no_page(viewer: Browser, name: str) -> None:
    assert viewer.get(f"/console/models/{name}").status_code in {400, 404, 422}


def test_a_manifest_that_cannot_be_read_is_told_and_spares_the_pages(viewer: Browser, bench: Bench) -> None:
    manifest = bench.folder / "weights" / "manifest.toml"
    manifest.parent.mkdir(exist_ok=True)
    manifest.write_text("[[weights]]\n")
    try:
        answer = viewer.get("/console/models")
    finally:
        manifest.unlink()
    assert answer.status_code == 200
    assert "name is missing" in answer.text


def test_the_live_figures_tell_volume_drift_refusals_and_times(viewer: Browser) -> None:
    page = viewer.get("/console/models/skin_lesion/live").text
    assert len(svgs(page)) == 3
    text = words(page)
    assert re.search(r"Volume: \d+ studies, answered or declined", text)
    assert re.search(r"Population stability index 0\.\d+; without a change below 0\.\d+ in 95 of 100 cases", text)
    assert re.search(r"Kolmogorov-Smirnov distance 0\.\d+, p 0\.\d+", text)
    assert re.search(r"Median \d\.\d s 95th percentile \d\.\d s", text)
    assert re.search(r"too-small \d+ \d+\.\d %", text)


def test_a_period_without_answers_says_what_to_do(viewer: Browser) -> None:
    page = viewer.get("/console/models/skin_lesion/live?since=2020-01-01&until=2020-01-31").text
    assert "Nothing was answered in this period" in page


@pytest.mark.parametrize(
    "query",
    [
        "since=yesterday",
        "since=2026-02-30",
        "since=0001-01-01",
        "until=9999-12-31",
        "since=2026-02-01&until=2026-01-01",
    ],
)
@pytest.mark.parametrize("path", ["models/skin_lesion/live", "compare"])
def test_a_date_that_is_none_is_refused_with_what_is_wrong(viewer: Browser, path: str, query: str) -> None:
    answer = viewer.get(f"/console/{path}?{query}")
    assert answer.status_code == 422
    assert "date" in answer.text or "ends before it begins" in answer.text


def test_a_shadow_stands_beside_the_live_route_with_the_studies_on_which_they_differ(viewer: Browser) -> None:
    page = viewer.get("/console/compare?first=skin&second=skin+next").text
    share, total, count = re.search(r"([\d.]+) % of the newest (\d+) studies .* (\d+) differ", words(page)).groups()  # type: ignore[union-attr]
    assert (int(total), float(share)) == (10, 100 * (10 - int(count)) / 10)
    assert page.count("/console/studies/") == int(count) > 0
    assert "No route has <code>mode" in page
    text = words(page)
    assert "Too few studies to decide by: both" in text
    assert re.search(r"Cohen's kappa -?[01]\.\d\d \(-?[01]\.\d\d to [01]\.\d\d\) over \d+ verdicts?\.", text)
    assert re.search(r"median [+-]0\.\d{3}, from [+-]\d\.\d{3} to [+-]\d\.\d{3} on \d+ studies", text)
    assert re.search(r"skin next skin_lesion 0\.1\.0 \d+\.\d \(\d+\.\d to \d+\.\d\) \d+ \d+", text)


def test_routes_that_answer_several_questions_are_compared_on_each(viewer: Browser, bench: Bench) -> None:
    """Of 25 chests the effusion is the same by both routes, the mass otherwise on 5 whose effusion is present."""
    for number in range(3000, 3025):
        for side, route in enumerate(("chest", "chest next")):
            mass = "present" if number < 3005 and side else "absent"
            findings = [
                {"finding": "Effusion", "verdict": verdict("present", 0.8 + 0.05 * side)},
                {"finding": "Mass", "verdict": verdict(mass, 0.7 if mass == "present" else 0.2)},
            ]
            job = Job(f"{2 * number + side:032x}", UID(f"1.2.{number}"), route, "chest", {}, NOW, NOW, ())
            Ledger(bench.engine).open(job)
            with bench.engine.begin() as connection:
                result = json.dumps({"findings": findings})
                connection.execute(sa.update(jobs).where(jobs.c.id == job.id).values(result=result))
            changes = {"route": route, "model": "chest", "handler": "chest", "study_instance_uid": f"1.2.{number}"}
            put_answers(bench.engine, [an_answer(2 * number + side, NOW - HOUR, 0.8, **changes)])
    text = words(viewer.get("/console/compare?first=chest&second=chest+next").text)
    assert "80.0 % of the newest 25 studies" in text
    assert "Effusion 25 100.0 (86.7 to 100.0) % none: both routes gave one answer alone +0.050" in text
    assert "Mass 25 80.0 (60.9 to 91.1) % 0.00 (-0.78 to 0.78) +0.000" in text
    assert text.count("Mass: absent 0.2000 Mass: present 0.7000") == 5


def test_the_pages_of_a_search_have_every_answer_once_and_keep_the_conditions(viewer: Browser) -> None:
    address, jobs = "/console/answers?presence=absent&high=0.4", []
    while address:
        page = viewer.get(address).text
        jobs += re.findall(r'/console/studies/([\d.]+)"', page)
        older = re.search(r'rel="next" href="([^"]+)"', page)
        address = unescape(older[1]) if older else ""
    (count,) = re.findall(r"(\d+) answers\.", page)
    assert len(jobs) == len(set(jobs)) == int(count) > 50


def test_a_part_of_a_page_is_enough_where_htmx_asks(viewer: Browser) -> None:
    part = viewer.get("/console/answers?presence=refused", headers={"HX-Request": "true"}).text
    assert "<html" not in part
    assert "declined: too-small" in part


def test_a_range_of_probabilities_that_ends_before_it_begins_is_told_so(viewer: Browser) -> None:
    answer = viewer.get("/console/answers?low=0,9&high=0.2")
    assert answer.status_code == 422
    assert "No probability is from 0.9 to 0.2; exchange the two." in answer.text


def test_a_score_of_white_space_is_no_condition(viewer: Browser) -> None:
    for text in ("%0a", "%20.%0a", "%09"):
        assert viewer.get(f"/console/answers?low={text}").status_code == 200


def test_a_probability_that_is_none_is_told_by_its_label_and_leads_back_to_the_search(viewer: Browser) -> None:
    page = viewer.get("/console/answers?low=80&high=x").text
    assert "Probability from: a probability is a number from 0 to 1, such as 0.8." in page
    assert "Probability to: a probability is a number from 0 to 1, such as 0.8." in page
    assert '<a href="/console/answers">Back to the page before</a>' in page
    page = viewer.get("/console/answers?low=80&study=1.2.3&presence=absent").text
    assert '<a href="/console/answers?study=1.2.3&amp;presence=absent">Back to the page before</a>' in page
    part = viewer.get("/console/answers?low=80", headers={"HX-Request": "true"}).text
    assert "Probability from: a probability is a number" in part


def test_a_probability_may_have_a_decimal_comma(viewer: Browser) -> None:
    counts = {
        re.findall(r"(\d+) answers\.", viewer.get(f"/console/answers?low={low}").text)[0] for low in ("0.5", "0,5")
    }
    assert len(counts) == 1


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("answers?presence=maybe", "Answer: it is none of the list; choose one of it."),
        ("answers?page=x", "Page: it is no whole number; give one such as 1."),
        ("answers?page=0", "Page: it is less than 1; give a larger number."),
        ("?page=100001", "Page: it is more than 100000; give a smaller number."),
        (f"unread?route={'r' * 65}", "Route: it has more than 64 letters; shorten it."),
        (
            "studies/x",
            "Study Instance UID: it is not written as such a value is; correct it, or load the page again.",
        ),
    ],
)
def test_no_page_shows_the_words_of_a_library(viewer: Browser, address: str, words: str) -> None:
    answer = viewer.get(f"/console/{address}")
    assert answer.status_code == 422
    assert words in answer.text
    assert "String should" not in answer.text
    assert "Input should" not in answer.text


@pytest.mark.parametrize("query", ["low=x", "low=2.5", "low=1.1", "low=nan", "presence=maybe", "page=0", "since=x"])
def test_a_condition_that_does_not_fit_is_refused(viewer: Browser, query: str) -> None:
    assert viewer.get(f"/console/answers?{query}").status_code == 422


def test_the_csv_has_every_answer_and_a_spreadsheet_runs_none_of_it(viewer: Browser) -> None:
    answer = viewer.get("/console/answers.csv?weights=" + "a" * 10)
    assert answer.headers["Content-Type"].startswith("text/csv")
    assert "attachment" in answer.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    (page,) = re.findall(r"(\d+) answers\.", viewer.get("/console/answers?weights=" + "a" * 10).text)
    assert len(rows) == int(page) > 300
    (hostile,) = [row for row in rows if "HYPERLINK" in row["route"]]
    assert (hostile["route"], hostile["headline"], hostile["probability"]) == ("'=HYPERLINK(1)", "'@SUM(1)", "0.75")
    assert datetime.fromisoformat(hostile["at"]).tzinfo is not None
    assert not {name for name in rows[0] if re.search("patient|name|birth|accession", name)}


def test_whoever_takes_the_table_stands_in_the_audit_trail(viewer: Browser, messages: list[Message]) -> None:
    messages.clear()
    viewer.get("/console/answers.csv?presence=present")
    (message,) = messages
    assert message.event.meaning == "Export"
    assert message.participants[0].user_id == "the viewer"
    assert [subject.identifier for subject in message.subjects] == ["/console/answers.csv"]


def test_judgements_of_persons_are_figures_of_the_model(viewer: Browser, bench: Bench) -> None:
    assert "nobody judged" in words(viewer.get("/console/models").text)
    positive = AnswerFilter(handler="skin_lesion", presence="present")
    answers, _ = AnswerSearch(bench.engine).page(positive, offset=0, limit=10)
    for number, answer in enumerate(answers):
        opinion = Opinion.ACCEPT if number < 7 else Opinion.REJECT
        reason = "" if opinion is Opinion.ACCEPT else "other"
        judgement = Judgement(answer.job, "", opinion, "the reader", Correction(), reason)
        Judgements(bench.engine).keep(judgement, NOW, statement="lesion", presence="present", has_addendum=False)
    assert "Agreed this month 70 % (40 to 89, n = 10)" in words(viewer.get("/console/models").text)
    page = viewer.get("/console/models/skin_lesion/live").text
    assert "70 % (40 to 89, n = 10)" in words(page)
    assert len(svgs(page)) == 4


def test_a_route_named_as_a_script_is_text(viewer: Browser) -> None:
    page = viewer.get("/console/answers?route=" + "%3Cscript%3Ealert(1)%3C/script%3E").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


@pytest.mark.parametrize("path", [*PAGES, "answers.csv"])
def test_nobody_sees_a_model_without_a_login(nobody: Browser, path: str) -> None:
    assert nobody.get(f"/console/{path}").status_code == 303


def test_no_address_of_a_card_leaves_its_folder(viewer: Browser, bench: Bench) -> None:
    (bench.folder / "weights" / "card.toml").write_text('task = "beside the cards"')
    for name in ("..", "%2e%2e", "cards"):
        assert "beside the cards" not in viewer.get(f"/console/models/{name}").text
