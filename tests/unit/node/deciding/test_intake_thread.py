import pytest

from ainode.node.deciding.intake_thread import Errands

ODD = "SECRET"


def errand() -> None:
    raise KeyError(ODD)


def test_what_breaks_an_errand_is_logged_without_the_value_it_broke_on(caplog: pytest.LogCaptureFixture) -> None:
    errands = Errands()
    errands.run(errand)
    errands._threads.shutdown(wait=True)
    assert "KeyError" in caplog.text
    assert "SECRET" not in caplog.text
