"""UIDs in the sentences that a person reads."""

from ainode.node.console.identifiers import named, uids_of

LONG = "1.2.826.0.1.3680043.8.498.10414677571135041658196697841728866400"
SENTENCE = f"series {LONG}: 3 of 120 slices are missing in /spool/{LONG}/1.dcm, version 0.1.0"


def test_a_uid_with_a_name_is_that_name_and_a_long_uid_without_a_name_is_its_end() -> None:
    rest = f": 3 of 120 slices are missing in /spool/{LONG}/1.dcm, version 0.1.0"
    assert named(SENTENCE, {LONG: "3 (CT, 120 images)"}) == f"series 3 (CT, 120 images){rest}"
    assert named(SENTENCE) == f"series …28866400{rest}"
    assert named("series 1.2.3.4: broken.") == "series 1.2.3.4: broken."
    assert named(f"series {LONG}.") == "series …28866400."


def test_the_uids_that_a_sentence_does_not_show_are_known_beside_it() -> None:
    assert uids_of(SENTENCE) == (LONG,)
    assert uids_of("series 1.2.3.4: broken", {"1.2.3.4": "3"}) == ("1.2.3.4",)
    assert uids_of("series 1.2.3.4: broken") == ()
