import dataclasses
import enum
import typing

from ainode.node.domain import OutOfScope, Reading
from ainode.node.reading.channel import answer_bytes, answer_in
from ainode.node.reading.plain import plain
from ainode.node.reading.rehearsal import rehearsed_reading


def nouns(hint: object) -> set[type]:
    """Return the classes of the node that a value of a type can hold, at any depth."""
    kinds: set[type] = set()
    waiting = [hint]
    while waiting:
        kind = waiting.pop()
        waiting += typing.get_args(kind)
        if (
            isinstance(kind, type)
            and kind not in kinds
            and (dataclasses.is_dataclass(kind) or issubclass(kind, enum.Enum))
        ):
            kinds.add(kind)
            waiting += typing.get_type_hints(kind).values() if dataclasses.is_dataclass(kind) else ()
    return kinds


def nouns_in(value: object) -> set[type]:
    """Return the classes of the node that a value holds."""
    if dataclasses.is_dataclass(value):
        return {type(value)}.union(*(nouns_in(getattr(value, field.name)) for field in dataclasses.fields(value)))
    if isinstance(value, enum.Enum):
        return {type(value)}
    return set().union(*map(nouns_in, value)) if isinstance(value, tuple) else set()


def test_the_rehearsal_holds_every_noun_that_an_answer_with_a_result_can_hold() -> None:
    assert nouns_in(rehearsed_reading()) == nouns(Reading) - {OutOfScope}


def test_the_rehearsal_arrives_as_it_was_sent() -> None:
    assert answer_in(answer_bytes(plain(rehearsed_reading(), (Reading,), "reading"))) == rehearsed_reading()
