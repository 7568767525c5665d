from concurrent.futures import ThreadPoolExecutor

import pytest

from ainode.node.app import _log_failure

ODD = "SECRET"


def errand() -> None:
    raise KeyError(ODD)


def test_what_breaks_an_errand_is_logged_without_the_value_it_broke_on(caplog: pytest.LogCaptureFixture) -> None:
    with ThreadPoolExecutor(1) as errands:
        errands.submit(errand).add_done_callback(_log_failure)
    assert "KeyError" in caplog.text
    assert "SECRET" not in caplog.text
