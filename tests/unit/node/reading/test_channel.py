import enum
import inspect
import pickle

import pytest

from ainode.node import domain
from ainode.node.reading.channel import NotAnAnswer, answer_bytes, answer_in

ENUMERATIONS = sorted(
    (kind for _, kind in inspect.getmembers(domain, inspect.isclass) if issubclass(kind, enum.Enum)),
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", ENUMERATIONS)
def test_an_enumeration_is_answered_where_python_writes_the_name_of_its_member(
    kind: type[enum.Enum], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind, "__reduce_ex__", lambda member, _: (getattr, (kind, member.name)), raising=False)
    assert b"getattr" in pickle.dumps(next(iter(kind)))
    assert answer_in(answer_bytes(tuple(kind))) == tuple(kind)


def test_an_answer_of_a_class_of_a_handler_is_refused_with_the_name_of_the_class() -> None:
    with pytest.raises(NotAnAnswer, match=r"fractions\.Fraction is no noun of the node"):
        answer_in(b"\x80\x04\x8c\x09fractions\x8c\x08Fraction\x93.")
