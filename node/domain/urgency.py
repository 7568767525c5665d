"""Which answers are urgent: pure."""

from dataclasses import dataclass

from ainode.node.domain.findings import Finding, OutOfScope, Result
from ainode.node.domain.verdict import Presence


@dataclass(frozen=True, slots=True)
class UrgentRule:
    """`[route.urgent]` of routes.toml: a finding that leaves before the pictures of its study are drawn."""

    presence: tuple[Presence, ...] = (Presence.PRESENT,)
    min_probability: float = 0.0
    concepts: tuple[str, ...] = ()
    """Code Values of findings, or of what their verdicts are about; without one, of any finding"""

    def __post_init__(self) -> None:
        """Refuse a probability that is none, and a rule that nothing fits."""
        if not 0 <= self.min_probability <= 1:
            message = "min_probability is no probability; give 0 to 1"
            raise ValueError(message)
        if not self.presence:
            message = 'presence is empty, so that nothing is urgent; give ["present"], or remove the table'
            raise ValueError(message)


def is_urgent(answer: Result | OutOfScope, rule: UrgentRule | None) -> bool:
    """Return whether an answer has a finding that a rule is about; a refusal has none."""
    if rule is None or not isinstance(answer, Result):
        return False
    return any(_fits(finding, rule) for finding in answer.findings)


def _fits(finding: Finding, rule: UrgentRule) -> bool:
    """Return whether a finding fits; a candidate without a verdict has a probability of 0."""
    verdict = finding.verdict
    codes = {finding.concept.value, *([verdict.about.value] if verdict and verdict.about else [])}
    probability = verdict.probability if verdict else 0.0
    is_meant = not rule.concepts or not codes.isdisjoint(rule.concepts)
    return finding.presence in rule.presence and probability >= rule.min_probability and is_meant
