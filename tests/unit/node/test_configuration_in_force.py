"""The configuration as a person reads it: what differs between two is said, and no secret with it."""

from dataclasses import replace

from ainode.node.routes import Route, RouteMode
from ainode.node.settings import DatabaseTable, Peer, ReaderTable, Settings
from ainode.node.settings.in_force import changes

PACS = Peer(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)
WEB = Peer(name="web", ae_title="WEB", host="127.0.0.1", port=105)
SPINE, CHEST = Route(name="spine", handler="spine_radiograph"), Route(name="chest", handler="ct_pneumonia")
BEFORE = Settings(peers=(PACS, WEB), routes=(SPINE,))


def test_what_is_new_gone_or_changed_is_said_by_table_and_key() -> None:
    after = Settings(
        reader=ReaderTable(precision="bf16"),
        peers=(PACS.model_copy(update={"port": 4242}),),
        routes=(Route(name="spine", handler="spine_radiograph", min_instances=2), CHEST),
    )
    assert list(changes(BEFORE, after)) == [
        "[[route]] chest: new",
        "[[peer]] web: gone",
        "[reader] precision: f32 before, bf16 now",
        "[[peer]] pacs port: 104 before, 4242 now",
        "[[route]] spine min_instances: 1 before, 2 now",
    ]
    assert list(changes(BEFORE, BEFORE)) == []


def test_a_destination_that_gets_no_more_answers_is_said_and_one_that_another_live_route_has_is_not() -> None:
    live = Route(name="live", handler="one", modality=("DX",), destinations=("pacs", "web"))
    shadow = Route(name="next", handler="two", modality=("DX",), destinations=("pacs",), mode=RouteMode.SHADOW)
    before = BEFORE.model_copy(update={"routes": (live, shadow)})
    as_shadow, as_live = replace(live, mode=RouteMode.SHADOW), replace(shadow, mode=RouteMode.LIVE)
    after = BEFORE.model_copy(update={"routes": (as_shadow, as_live)})
    lost = "[[route]] live: web got its answers before, and now gets no answer about the images that it takes"
    assert list(changes(before, after)) == [
        "[[route]] live mode: live before, shadow now",
        "[[route]] next mode: shadow before, live now",
        lost,
    ]
    whole = BEFORE.model_copy(update={"routes": (as_shadow, replace(as_live, destinations=("web", "pacs")))})
    assert not [line for line in changes(before, whole) if "got its answers" in line]
    assert list(changes(before, BEFORE.model_copy(update={"routes": (shadow,)})))[-1] == (
        "[[route]] live: pacs, web got its answers before, and now gets no answer about the images that it takes"
    )


def test_the_order_of_routes_is_a_change_and_a_changed_secret_is_one_that_is_not_shown() -> None:
    first, second = (BEFORE.model_copy(update={"routes": routes}) for routes in ((SPINE, CHEST), (CHEST, SPINE)))
    assert list(changes(first, second)) == ["the order of the tables"]
    databases = (DatabaseTable(url=f"postgresql+psycopg://me:{word}@host/name") for word in ("one", "another"))
    (line,) = changes(*(Settings(database=table) for table in databases))
    assert line == "a value that is not shown, such as a password in an address"
