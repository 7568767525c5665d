"""The answer of a reading in a few words, from its result.json; whoever wants them needs nothing of what reads."""

import json

from ainode.node.domain import probability_text


def headline(summary: str) -> str:
    """Return the strongest verdict of a result.json in words; without a verdict, name and value of the first score."""
    values = json.loads(summary) if summary else {}
    if sentence := values.get("verdict", {}).get("headline"):
        return str(sentence)
    return (
        ", ".join(f"{name} {probability_text(value, 3)}" for name, value in list(values.get("scores", {}).items())[:1])
        or "no score"
    )
