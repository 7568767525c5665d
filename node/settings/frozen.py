"""The form of every table of a configuration file: frozen, and closed against unknown keys."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator, model_validator

from ainode.node.settings.values import refuse_no_text


class Frozen(BaseModel):
    """A table of a configuration file: frozen, and closed against unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_what_pydantic_takes(cls, value: object, field: ValidationInfo) -> object:
        """Refuse true and false where a number is due, which would be 1 and 0, and text that can be no path."""
        if isinstance(value, bool) and cls.model_fields[str(field.field_name)].annotation in {int, float}:
            message = "true and false are no numbers; give a number"
            raise ValueError(message)
        refuse_no_text(value)
        return value


def refuse_half_pair(certificate: object, key: object, subject: str = "") -> None:
    """Raise ValueError if a certificate has no key, or a key no certificate."""
    if bool(certificate) != bool(key):
        raise ValueError(f"{subject}one of two files is missing; give tls_certificate and tls_key, or neither")


class Certified(Frozen):
    """A table that names the certificate of the node and the key of the certificate, both in PEM, or neither."""

    tls_certificate: Path | None = None
    tls_key: Path | None = None

    @model_validator(mode="after")
    def _refuse_half_certificate(self) -> Self:
        refuse_half_pair(self.tls_certificate, self.tls_key)
        return self
