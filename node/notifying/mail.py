"""A notification as an e-mail, by SMTP with STARTTLS or over TLS."""

import json
import os
import platform
import smtplib
import ssl
from contextlib import ExitStack, suppress
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Final

from ainode.node import tls
from ainode.node.domain import Occasion
from ainode.node.errors import ArchiveRefused, ArchiveUnreachable, ConfigError
from ainode.node.keeping.notices import Notice
from ainode.node.notifying.cut_off import cut_off
from ainode.node.settings import Subscription

# RFC 5321 4.2.3: the greeting of a server that is ready.
_READY: Final = 220
# RFC 5321 4.2.1: a code that begins with 5 is an answer for good.
_LASTING: Final = range(500, 600)


def send(subscription: Subscription, notice: Notice) -> None:
    """Hand a notice to the mail server.

    Raises: ArchiveUnreachable if another attempt can help, ArchiveRefused if not; ConfigError if a credential is
    missing.
    """
    message = message_of(subscription, notice)
    try:
        session = _session(subscription)
        try:
            with cut_off(session, subscription.answer_s):
                session.send_message(message)
        finally:
            _leave(session)
    except (OSError, smtplib.SMTPException, ValueError) as error:
        raise _translated(subscription, error) from error


def connect(subscription: Subscription) -> None:
    """Open a session with TLS and log in, where that is configured; nothing is sent.

    Raises: as `send`.
    """
    try:
        _leave(_session(subscription))
    except (OSError, smtplib.SMTPException, ValueError) as error:
        raise _translated(subscription, error) from error


def message_of(subscription: Subscription, notice: Notice) -> EmailMessage:
    """Return the e-mail: the same bytes, and the same Message-ID, each time that the same is sent."""
    values = json.loads(notice.body)
    message = EmailMessage()
    about = values.get("route") or values.get("queue") or values.get("kind", "")
    if notice.occasion is Occasion.TEST:
        about = "nothing has happened"
    message["Subject"] = " ".join(f"ainode: {notice.occasion.value.replace('_', ' ')}: {about}".split())
    message["From"], message["To"] = subscription.sender, ", ".join(subscription.recipients)
    message["Date"] = format_datetime(notice.created_at)
    message["Message-ID"] = f"<{notice.id}@ainode>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no vacation answers it
    message.set_content("\n".join(_lines(values)))
    return message


def _lines(values: dict[str, object]) -> list[str]:
    patient = values.pop("patient", {})
    rows = {**values, **(patient if isinstance(patient, dict) else {})}
    return [f"{name}: {value}" for name, value in rows.items() if value not in (None, "")]


def _session(subscription: Subscription) -> smtplib.SMTP:
    """Return an open session.

    Raises: OSError, SMTPException; ConfigError if a file or a credential is missing.
    """
    user, password = credentials(subscription)
    name, limit_s = platform.node() or "localhost", subscription.answer_s
    if subscription.security == "tls":
        context = tls.notifying(subscription)
        session: smtplib.SMTP = smtplib.SMTP_SSL(local_hostname=name, timeout=limit_s, context=context)
    else:
        session = smtplib.SMTP(local_hostname=name, timeout=limit_s)
    # Whom TLS has to prove. A session that connects as it is made keeps the name itself, and its greeting has no limit.
    session._host = subscription.host  # type: ignore[attr-defined] # noqa: SLF001
    with ExitStack() as failed, cut_off(session, limit_s):
        failed.callback(session.close)
        code, words = session.connect(subscription.host, subscription.mail_port)
        if code != _READY:
            raise smtplib.SMTPConnectError(code, words)
        if subscription.security == "starttls":
            session.starttls(context=tls.notifying(subscription))
        if user:
            session.login(user, password)
        failed.pop_all()
    return session


def _leave(session: smtplib.SMTP) -> None:
    """Take leave; what the server took before is taken, whatever it says to that."""
    with suppress(OSError, smtplib.SMTPException):
        session.quit()
    session.close()


def credentials(subscription: Subscription) -> tuple[str, str]:
    """Return user and password, '' for both where none are configured.

    Raises: ConfigError if the environment does not have them.
    """
    names = [name for name in (subscription.user_env, subscription.password_env) if name]
    for name in names:
        if not os.environ.get(name):
            raise ConfigError(f"notification {subscription.name}: the environment has no {name}, which node.toml names")
    user, password = (os.environ[name] for name in names) if names else ("", "")
    return user, password


def _translated(subscription: Subscription, error: Exception) -> ArchiveRefused | ArchiveUnreachable:
    """Return the error of the node; the words of a server may hold what nobody is to read in a log."""
    name = f"{subscription.name} at {subscription.remote_host}"
    if isinstance(error, ssl.SSLError):
        return ArchiveUnreachable(f"{name}: no TLS ({tls.failure_reason(error)}); look at `security` and ca_file")
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = sorted({code for code, _ in error.recipients.values()})
        words = f"{name}: the mail server takes none of the recipients ({', '.join(map(str, codes))})"
        is_lasting = all(code in _LASTING for code in codes)
        return ArchiveRefused(words, archive_status=None) if is_lasting else ArchiveUnreachable(words)
    if isinstance(error, smtplib.SMTPAuthenticationError):  # mended in the environment, or at the server
        return ArchiveUnreachable(f"{name}: the mail server does not take user and password ({error.smtp_code})")
    if isinstance(error, smtplib.SMTPResponseException):
        words = f"{name}: the mail server answered with {error.smtp_code}"
        is_lasting = error.smtp_code in _LASTING
        return ArchiveRefused(words, archive_status=None) if is_lasting else ArchiveUnreachable(words)
    reason = getattr(error, "strerror", "") or type(error).__name__
    return ArchiveUnreachable(f"{name}: no mail server took it ({reason})")
