"""A command that changes what a node works with leaves a record in the audit trail."""

from collections.abc import Mapping
from types import MappingProxyType

from ainode.node.audit.messages import SOFTWARE_CONFIGURATION, USER_ATTRIBUTES, alert
from ainode.node.audit.recorder import record_command
from ainode.node.settings import Settings

_NOTHING: Mapping[str, str] = MappingProxyType({})


def record_change(settings: Settings, subject: str, words: str, details: Mapping[str, str] = _NOTHING) -> None:
    """Record a change of models, weights or routes; `subject` is a kind and a name, such as `weights:skin_lesion`."""
    record_command(settings, alert(SOFTWARE_CONFIGURATION, f"urn:ainode:{subject}", words, details))


def record_person(settings: Settings, subject: str, words: str) -> None:
    """Record a change of who may do what; `subject` is `person:` or `token:` and a name."""
    record_command(settings, alert(USER_ATTRIBUTES, f"urn:ainode:{subject}", words))
