"""A notification as a signed POST.

`Ainode-Signature` is `sha256=` and the HMAC-SHA256, in hexadecimal digits, of timestamp, `.` and body; the key is the
secret's UTF-8. `Ainode-Timestamp` is in seconds since 1970, `Ainode-Id` is the same each time that the same is sent.
"""

import hashlib
import hmac
import http.client
import os
import ssl
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from ainode.node import tls
from ainode.node.errors import ArchiveRefused, ArchiveUnreachable, ConfigError
from ainode.node.keeping.notices import Notice
from ainode.node.notifying.cut_off import cut_off
from ainode.node.settings import Subscription

_TAKEN: Final = range(200, 300)
# RFC 9110 15.5: the same bytes have the same fault again, or nobody will ever take them there.
_LASTING: Final = frozenset({400, 410, 413, 415, 422})


def send(subscription: Subscription, notice: Notice, now: datetime) -> None:
    """Post a notice.

    Raises: ArchiveUnreachable if another attempt can help, ArchiveRefused if not; ConfigError if the secret is missing.
    """
    receiver = f"{subscription.name} at {subscription.remote_host}"
    body, timestamp = notice.body.encode(), str(int(now.timestamp()))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "ainode",
        "Ainode-Id": notice.id,
        "Ainode-Timestamp": timestamp,
        "Ainode-Signature": signature(secret_of(subscription), timestamp, body),
    }
    path = urlsplit(subscription.address).path or "/"
    connection = _connection(subscription)
    try:
        with cut_off(connection, subscription.answer_s):
            connection.request("POST", path, body, headers)
            status = connection.getresponse().status
    except ssl.SSLError as error:
        raise ArchiveUnreachable(
            f"{receiver}: no TLS ({tls.failure_reason(error)}); look at ca_file and tls_certificate"
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "strerror", "") or "no answer in time, or none that is HTTP"
        raise ArchiveUnreachable(f"{receiver}: {reason}") from error
    finally:
        connection.close()
    if status in _LASTING:
        raise ArchiveRefused(f"{receiver}: refused with status {status}", archive_status=None)
    if status not in _TAKEN:
        raise ArchiveUnreachable(f"{receiver}: answered with status {status}")


def connect(subscription: Subscription) -> None:
    """Open a connection and close it; nothing is sent.

    Raises: ArchiveUnreachable; ConfigError if the secret or a file is missing.
    """
    secret_of(subscription)
    connection = _connection(subscription)
    try:
        connection.connect()
    except OSError as error:
        raise ArchiveUnreachable(
            f"{subscription.name} at {subscription.remote_host}: {tls.failure_reason(error)}"
        ) from error
    finally:
        connection.close()


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Return the value of `Ainode-Signature`."""
    return f"sha256={hmac.new(secret.encode(), f'{timestamp}.'.encode() + body, hashlib.sha256).hexdigest()}"


def secret_of(subscription: Subscription) -> str:
    """Return the key that signs.

    Raises: ConfigError if the environment does not have it.
    """
    if secret := os.environ.get(subscription.key_env):
        return secret
    raise ConfigError(f"notification {subscription.name}: the environment has no {subscription.key_env}, which signs")


def _connection(subscription: Subscription) -> http.client.HTTPConnection:
    address = urlsplit(subscription.address)
    host, port, limit_s = address.hostname or "", address.port, subscription.answer_s
    if address.scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=limit_s)
    return http.client.HTTPSConnection(host, port, timeout=limit_s, context=tls.notifying(subscription))
