"""The commands about routes: `compare` two on the same studies, `route live` and `route back`."""

from typing import TYPE_CHECKING, Annotated

import typer

from ainode.node.terminal import Config, settings_of

if TYPE_CHECKING:
    from pathlib import Path

    from ainode.node.commands.route_changes import Exchange
    from ainode.node.keeping.route_comparison import RouteComparison
    from ainode.node.routes import RouteMode
    from ainode.node.settings import Settings

compare_app = typer.Typer()
route_app = typer.Typer(no_args_is_help=True, help="Let a shadow route go live in the place of another, and back.")

_LAST = 200
Last = Annotated[int, typer.Option(min=1, help="so many of the newest studies that both routes answered")]


def _comparison(settings: "Settings", live: str, shadow: str, last: int) -> "RouteComparison":
    from ainode.node.errors import ConfigError
    from ainode.node.keeping import database
    from ainode.node.keeping.gone_routes import studies_of_gone_routes
    from ainode.node.keeping.paired_answers import newest_pairs
    from ainode.node.keeping.route_comparison import compared

    engine = database.existing(settings.database_url)
    names = [route.name for route in settings.routes]
    known = {*names, *studies_of_gone_routes(engine, names)}
    if missing := [name for name in (live, shadow) if name not in known]:
        raise ConfigError(f"routes.toml has no route {missing[0]!r}; it has {', '.join(names)}")
    return compared(newest_pairs(engine, (live, shadow), most=last))


def _gone_line(settings: "Settings") -> str:
    """Return where the answers of routes stand that routes.toml has no more, as after a new name; '' of none."""
    from ainode.node.domain import counted
    from ainode.node.keeping import database
    from ainode.node.keeping.gone_routes import studies_of_gone_routes

    names = [route.name for route in settings.routes]
    gone = studies_of_gone_routes(database.existing(settings.database_url), names)
    counts = ", ".join(f"{name} {counted(count, 'study', 'studies')}" for name, count in gone.items())
    return f"answers of routes that are gone stand under the old name, which can be compared: {counts}" if gone else ""


def _modes(settings: "Settings") -> dict[str, "RouteMode"]:
    return {route.name: route.mode for route in settings.routes}


@compare_app.command()
def compare(
    live: Annotated[str, typer.Argument(metavar="LIVE", help="a route of routes.toml")],
    shadow: Annotated[str, typer.Argument(metavar="SHADOW", help="the route to compare, such as one with a new model")],
    last: Last = _LAST,
    config: Config = None,
) -> None:
    """Compare two routes on the newest studies that both answered: agreement, probabilities, refusals, seconds.

    Intervals are of 95 %, by study. Synthetic studies do not count.
    """
    from ainode.node import logs
    from ainode.node.commands.comparison_lines import comparison_lines

    settings = settings_of(config)
    comparison = _comparison(settings, live, shadow, last)
    elsewhere = "" if comparison.studies else _gone_line(settings)
    for line in filter(None, (*comparison_lines(comparison, _modes(settings)), elsewhere)):
        print("\n".join(map(logs.printable, line.split("\n"))))


@route_app.command("live")
def route_live(
    shadow: Annotated[str, typer.Argument(metavar="SHADOW", help='a route with mode = "shadow"')],
    instead_of: Annotated[
        str, typer.Option(help="the live route that becomes a shadow; else the one of its images")
    ] = "",
    anyway: Annotated[bool, typer.Option("--anyway", help="also after too few studies, or without an answer")] = False,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="a destination of the live route that is to get no more answers"),
    ] = None,
    last: Last = _LAST,
    config: Config = None,
) -> None:
    """Let a shadow route answer in the place of a live one, which becomes a shadow; `route back` undoes it.

    routes.toml is written anew with its comments, and the former file stays beside it. Where the new one states none,
    it has the destinations, priority, rules of urgency and report_out_of_scope of the other. Refused where both routes
    have read fewer than 20 of the same studies, the documents of the new one would stay in the node, or a notification
    or worklist names the other alone; and where a destination of the other would get no answers any more, unless
    `--without` names it.
    """
    from ainode.node.commands.comparison_lines import comparison_lines
    from ainode.node.commands.handing_over import carried, differences, unnamed, unsent, untested
    from ainode.node.commands.recording import record_change
    from ainode.node.commands.route_changes import exchange, go_live, routes_of, text_of
    from ainode.node.errors import ConfigError
    from ainode.node.settings.route_text import literal

    settings, path = settings_of(config), _routes_file(config)
    change = exchange(settings, shadow, instead_of)
    change.refuse_unknown(without or ())
    former_route = change.to_shadow.name
    comparison, stated = _comparison(settings, former_route, shadow, last), routes_of(text_of(path))
    for line in comparison_lines(comparison, _modes(settings)):
        print(line)
    for line in change.to_live.other_conditions(change.to_shadow):
        print(f"the routes take other images: {line}")
    for line in differences(stated[shadow], stated[former_route]):
        print(f"the routes differ: {line}")
    silences = list(unnamed(settings, shadow, former_route))
    reasons = [reason for reason in (comparison.shortage, _unreadiness(settings, change), *silences) if reason]
    lines = [f"not done: {reason}" for reason in reasons if not anyway]
    lines += ["--anyway does it all the same"] if lines else []
    if lost := unsent(change.live, change.to_shadow, without or ()):
        lines.append(f"not done: {lost}; or give --without NAME for each that is to get no more answers")
    if lines:
        raise ConfigError("\n".join(lines))
    former = go_live(path, change, settings)
    details = {"in the place of": former_route} | ({"without": ", ".join(without)} if without else {})
    record_change(settings, f"route:{shadow}", "went live", details)
    print(f"{path}: {shadow} is live, {former_route} is a shadow; the former file is {former.name}")
    for key, value in carried(stated[shadow], stated[former_route]).items():
        print(f"{key} = {literal(value)} is that of {former_route}, since {shadow} stated none")
    for line in filter(None, [*silences, untested(settings, shadow, former_route)]):
        print(f"still to do: {line}")
    print(f"type `ainode reload` for it; `ainode route back {shadow}` undoes it")


@route_app.command("back")
def route_back(
    name: Annotated[str, typer.Argument(metavar="NAME", help="a route that `route live` made live")],
    config: Config = None,
) -> None:
    """Let a route that went live become a shadow again, and the one before it live."""
    from ainode.node.commands.handing_over import unnamed, unsent, untested
    from ainode.node.commands.recording import record_change
    from ainode.node.commands.route_changes import go_back

    settings, path = settings_of(config), _routes_file(config)
    other, is_whole = go_back(path, name, settings)
    record_change(settings, f"route:{name}", "went back to shadow", {"in the place of": other} if other else {})
    words = f"{other} is live" if other else f"no other route changes: see that one is live in the place of {name}"
    rest = "" if is_whole else "; what else was changed since stays"
    print(f"{path}: {name} is a shadow, {words}{rest}")
    if other:
        routes = {route.name: route for route in settings.routes}
        silence = unsent(routes[other], routes[name])
        for line in filter(None, [silence, *unnamed(settings, other, name), untested(settings, other, name)]):
            print(f"still to do: {line}")
    print("type `ainode reload` for it")


@compare_app.command("self-test")
def self_test(
    route: Annotated[
        list[str] | None, typer.Argument(metavar="ROUTE...", help="routes; else all of the table `self_test`")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="take this answer as the golden one")] = False,
    config: Config = None,
) -> None:
    """Test routes of the node that runs, as each night: a synthetic study is sent, and its documents come back.

    Nothing leaves for any other destination. Exit 1 if a test failed.
    """
    from ainode.node.errors import ConfigError
    from ainode.node.proving import golden
    from ainode.node.proving.self_test import tested

    settings = settings_of(config)
    names = tuple(route or settings.self_test.routes)
    if unknown := [name for name in names if name not in settings.self_test.routes]:
        raise ConfigError(f"[self_test] routes does not name {unknown[0]!r}; add it, and type `ainode reload`")
    if not names:
        raise ConfigError("[self_test] names no route; give `routes` in node.toml, and type `ainode reload`")
    are_passed = True
    for name in names:
        if again:
            golden.forget(settings, name)
        record, words = tested(settings, name)
        are_passed = are_passed and record.is_passed
        print(f"{name}: {'passed' if record.is_passed else 'FAILED'} after {record.seconds:.1f} s: {words}", flush=True)
    raise typer.Exit(0 if are_passed else 1)


def _routes_file(config: "Path | None") -> "Path":
    """Return the routes.toml of a site.

    Raises: ConfigError if the node runs the routes that ship.
    """
    from ainode.node.errors import ConfigError
    from ainode.node.settings import sources

    origin = sources(config)
    if config is None or origin.routes.parent != origin.node.parent:
        raise ConfigError(
            "the routes that ship are not changed; `ainode init FOLDER` writes some of your own, give --config"
        )
    return origin.routes


def _unreadiness(settings: "Settings", change: "Exchange") -> str:
    """Return why a route that goes live would answer nothing, or keep its documents; '' where it is ready."""
    from ainode.node.diagnosis.checks import READY, route_lines

    ((name, state, words),) = route_lines(settings.model_copy(update={"routes": (change.live,)}))
    return "" if state == READY else f"{name} would be {state}: {words}"
