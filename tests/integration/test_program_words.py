"""Who writes a program sees on the terminal why it failed; no log, document or file of the node has a word of it."""

import json
import logging
from pathlib import Path

import pytest
from support.programs import environment_of, request_of, shell, write_program
from typer.testing import CliRunner

from ainode.node import testing
from ainode.node.commands.cli import app
from ainode.node.errors import HandlerError
from ainode.node.offline.readings import reading_of
from ainode.node.reading import confinement
from ainode.node.settings import ReaderTable

pytestmark = pytest.mark.skipif(bool(confinement.missing()), reason="; ".join(confinement.missing()))

PATIENT = "Mustermann"
FAILING = shell(
    f"echo step 1; printf '\\033[2Jno module named lungs, of {PATIENT}\\n' >&2; sh -c 'echo child >&2'; exit 7"
)
OWN = "the last words of the program tool (its own;"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "node.toml").write_text(f'[node]\ndata = "{tmp_path / "data"}"\n', encoding="utf-8")
    (tmp_path / "routes.toml").write_text("", encoding="utf-8")
    return tmp_path


def read_by_hand(site: Path, program: str, limits: str = "time_limit_s = 20") -> tuple[int, str, str]:
    """Return exit code, standard output and standard error of `ainode read`."""
    write_program(site / "data" / "models", program, limits=limits)
    (image,) = testing.write([testing.noise(64, 64, Modality="DX")], site / "study", study="words")
    words = ["read", str(image), "--out", str(site / "out"), "--model", "tool", "--config", str(site / "node.toml")]
    done = CliRunner().invoke(app, words)
    return done.exit_code, done.stdout, done.stderr


def test_the_last_words_of_a_program_that_fails_are_on_the_terminal_alone(
    site: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    code, output, errors = read_by_hand(site, FAILING)
    assert code == 1
    assert f"{OWN} they may name a patient" in errors
    assert "  | step 1\n" in errors
    assert f"  | [2Jno module named lungs, of {PATIENT}\n  | child\n" in errors
    assert "the program ended with code 7" in errors
    assert PATIENT not in output + caplog.text
    files = [path for path in site.rglob("*") if path.is_file() and path.name != "program"]
    assert not [path for path in files if PATIENT.encode() in path.read_bytes()]


def test_a_program_that_is_ended_at_a_limit_is_heard_as_well(site: Path) -> None:
    code, _, errors = read_by_hand(site, shell("echo loading >&2; sleep 60"), "time_limit_s = 10")
    assert code == 1
    assert "  | loading\n" in errors
    assert "the program was ended after 10 s" in errors


def test_a_program_that_prints_without_end_is_ended_as_before_and_its_last_lines_are_shown(site: Path) -> None:
    code, _, errors = read_by_hand(
        site, shell("i=0; while [ $i -lt 30000 ]; do i=$((i+1)); echo line $i; done; exit 4")
    )
    assert code == 1
    assert errors.count("  | line ") == 20
    assert "  | line 30000\n" in errors


def test_a_program_that_reads_the_study_says_nothing(site: Path) -> None:
    code, output, errors = read_by_hand(site, shell("echo fine; echo '{}' > $out/result.json"))
    assert code == 0, errors
    assert OWN not in output + errors


def test_the_kit_shows_the_words_once_and_keeps_none_of_them(site: Path) -> None:
    write_program(site / "data" / "models", FAILING)
    testing.write([testing.noise(64, 64, Modality="DX")], site / "study", study="words")
    words = ["model", "test", "tool", "--data", str(site / "study"), "--out", str(site / "kit")]
    done = CliRunner().invoke(app, [*words, "--config", str(site / "node.toml")])
    assert done.exit_code == 1
    assert done.stderr.count(OWN) == 1
    assert PATIENT in done.stderr
    assert PATIENT not in done.stdout
    report = (site / "kit" / "model-test.json").read_text("utf-8")
    assert json.loads(report)
    assert PATIENT not in report


def test_without_a_person_who_asked_nobody_hears_a_program_and_the_reason_says_how_to(site: Path) -> None:
    write_program(site / "models", FAILING)
    with pytest.raises(HandlerError) as failure:
        reading_of(request_of(site), "tool", environment_of(site), ReaderTable())
    assert "`ainode read` and `ainode model test` show on the terminal what it printed last" in str(failure.value)
    assert PATIENT not in str(failure.value)
