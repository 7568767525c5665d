"""`[[notification]]` of node.toml: whom the node tells what, beside the documents that it delivers."""

from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, field_validator, model_validator

from ainode.node.domain import Occasion
from ainode.node.settings.frozen import Frozen, refuse_half_pair
from ainode.node.settings.values import NAME, PRINTED, Host, Seconds, Url

# RFC 5321 4.1.2, less what no hospital uses: no quoted names, no comments.
_MAILBOX: Final = r"^([A-Za-z0-9._%+'-]+@[A-Za-z0-9.-]+)?$"
_Mailbox = Annotated[str, StringConstraints(strip_whitespace=True, max_length=254, pattern=_MAILBOX)]
_Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=1000, pattern=PRINTED)]
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_FILES: Final = frozenset({"ca_file", "crl_files", "tls_certificate", "tls_key"})
_MAIL: Final = frozenset({"host", "port", "security", "user_env", "password_env", "sender", "recipients"})
_OF_ALL: Final = frozenset({"name", "to", "on", "routes", "min_probability", "queue_minutes", "include", "link"})
_OF: Final = {
    "webhook": {"address", "key_env", "answer_s"} | _FILES,
    "mail": _MAIL | {"answer_s"} | _FILES,
    "folder": {"folder"},
}
"""by the way of a notification: the keys that only this way has"""
_MAIL_PORTS: Final = {"starttls": 587, "tls": 465, "none": 25}
Attribute = Literal[
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyDate", "StudyDescription"
]
"""what of a header may be named in a notification, where the configuration names it"""


class Subscription(Frozen):
    """`[[notification]]`: who is told, of what, and by which way."""

    name: Annotated[str, StringConstraints(pattern=NAME, max_length=64)]
    to: Literal["webhook", "mail", "folder"]
    on: Annotated[tuple[Occasion, ...], Field(min_length=1)]
    routes: tuple[str, ...] = ()
    """of answers, failures and dead letters; without one, of every route"""
    min_probability: Annotated[float, Field(ge=0, le=1)] = 0.0
    """of answers: of the strongest verdict"""
    queue_minutes: Annotated[float, Field(ge=1, le=43_200)] = 60.0
    include: tuple[Attribute, ...] = ()
    """attributes of the patient and the study that an answer, a failure or a dead letter names; none by default"""
    link: Url = ""
    """how people address the console, where that is not the address of `[web]`"""
    address: Url = ""
    key_env: _Text = ""
    """the environment variable with the key that signs: a file holds no secret"""
    host: Host = ""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    security: Literal["starttls", "tls", "none"] = "starttls"
    user_env: _Text = ""
    password_env: _Text = ""
    sender: _Mailbox = ""
    recipients: tuple[_Mailbox, ...] = ()
    folder: _Text = ""
    answer_s: Annotated[Seconds, Field(le=600)] = 10.0
    """how long one attempt may take"""
    ca_file: _Text = ""
    crl_files: tuple[_Text, ...] = ()
    tls_certificate: _Text = ""
    tls_key: _Text = ""
    """PEM files as those of a [[peer]]"""

    @property
    def remote_host(self) -> str:
        """Return the host that is told, with its port where one is configured; '' of a folder.

        The path of a webhook may be a secret, and so is in no words.
        """
        address = urlsplit(self.address)
        host, port = address.hostname or self.host, address.port or self.port
        host = f"[{host}]" if ":" in host else host
        return f"{host}:{port}" if port else host

    @property
    def tells_of_live_routes(self) -> bool:
        """Return whether the notification waits for what only live routes have: answers, or documents given up."""
        return any(occasion.is_answer or occasion is Occasion.DEAD_LETTER for occasion in self.on)

    @property
    def mail_port(self) -> int:
        """Return the port of the mail server."""
        return self.port or _MAIL_PORTS[self.security]

    @field_validator("on")
    @classmethod
    def _refuse_tests(cls, occasions: tuple[Occasion, ...]) -> tuple[Occasion, ...]:
        """Refuse what is no news: a test goes to the notification that a person names."""
        if Occasion.TEST in occasions:
            raise ValueError('"test" is what `ainode notify test NAME` sends, and happens never; leave it out')
        return occasions

    @model_validator(mode="after")
    def _refuse_keys_of_another_way(self) -> Self:
        fields = type(self).model_fields
        allowed = _OF_ALL | _OF[self.to]
        foreign = [key for key in fields if key not in allowed and getattr(self, key) != fields[key].default]
        if foreign:
            raise ValueError(f'notification {self.name!r}: {", ".join(foreign)} is not of to = "{self.to}"; remove it')
        if bool(self.user_env) != bool(self.password_env):
            raise ValueError(f"notification {self.name!r}: give user_env and password_env, or neither")
        refuse_half_pair(self.tls_certificate, self.tls_key, f"notification {self.name!r}: ")
        return self

    @model_validator(mode="after")
    def _refuse_half_a_way(self) -> Self:
        """Refuse a way without an end, without a key that signs, or on which strangers can read along."""
        address = urlsplit(self.address)
        needs = {
            "webhook": ("give `address` and `key_env`", self.address and self.key_env),
            "mail": ("give host, sender and recipients", self.host and self.sender and all(self.recipients or ("",))),
            "folder": ("give `folder`, by its whole path", self.folder.startswith("/")),
        }
        remedy, is_whole = needs[self.to]
        if not is_whole:
            raise ValueError(f'notification {self.name!r}: to = "{self.to}" has no end; {remedy}')
        is_open = address.scheme == "http" or (self.to == "mail" and self.security == "none")
        if is_open and (address.hostname or self.host) not in _LOOPBACK:
            raise ValueError(
                f"notification {self.name!r}: leaves this machine in plain text; give an https address, or security "
                '= "starttls" or "tls"'
            )
        return self
