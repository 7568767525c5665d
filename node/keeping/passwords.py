"""Passwords: which of them are accepted, and how they are kept (argon2id)."""

import base64
import unicodedata
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from ainode.node.errors import ConfigError

# NIST SP 800-63B-4 3.1.1.2: 15 characters where the password is the only factor, no rules of composition.
MIN_LENGTH: Final = 15
# The same section asks for 64 at least; a bound keeps the work of a login small.
_MAX_LENGTH: Final = 256
_MIN_DIFFERENT: Final = 5
_MIN_UNKNOWN: Final = 8
_ROWS: Final = ("0123456789", "abcdefghijklmnopqrstuvwxyz", "qwertyuiopasdfghjklzxcvbnm", "qwertzuiopasdfghjklyxcvbnm")
_WORDS: Final = ("administrator", "password", "passwort", "welcome", "ainode", "admin")
# OWASP Password Storage Cheat Sheet: 46 MiB, one pass, one lane. Memory of this size is mapped, and given back at once
# (mallopt(3), more than 32 MiB), whereas the C library keeps the 19 MiB of the sheet's other choice for each thread.
_MEMORY_KIB: Final = 47_104
_PASSES: Final = 1
_SALT_BYTES: Final = 16
_HASH_BYTES: Final = 32
_HASHER: Final = PasswordHasher(_PASSES, _MEMORY_KIB, parallelism=1, hash_len=_HASH_BYTES, salt_len=_SALT_BYTES)


def refuse_weak(password: str, name: str) -> None:
    """Return if a person of this name may have the password.

    Raises: ConfigError with what is wrong and what to do; no message repeats the password.
    """
    text = _normal(password)
    if len(text) < MIN_LENGTH:
        raise ConfigError(f"the password has {len(text)} characters; give {MIN_LENGTH} or more, such as four words")
    if len(text) > _MAX_LENGTH:
        raise ConfigError(f"the password is longer than {_MAX_LENGTH} characters; give a shorter password")
    if not text.isprintable():
        raise ConfigError("the password has a control character; leave it out")
    plain = text.casefold()
    if len(set(plain)) < _MIN_DIFFERENT or any(_is_along(plain, row) for row in _ROWS):
        raise ConfigError("the password repeats a few characters or follows the keyboard; give four words of your own")
    for word in (name.casefold(), *_WORDS):
        plain = plain.replace(word, "")
    if len(plain) < _MIN_UNKNOWN:
        raise ConfigError("the password is little more than the name and a common word; give four words of your own")


def _is_along(text: str, row: str) -> bool:
    """Return whether a text goes along a row of characters, forwards or backwards, and begins again at its end."""
    line = row * (len(text) // len(row) + 2)
    return text in line or text in line[::-1]


def password_hash(password: str) -> str:
    """Return what is kept of a password: parameters, salt and hash in one line."""
    return _HASHER.hash(_normal(password))


def is_password(stored_hash: str, password: str) -> bool:
    """Return whether a password is the one of the hash; '' takes as long as any hash, and has no password."""
    try:
        return _HASHER.verify(stored_hash or _nobody(), _normal(password[:_MAX_LENGTH])) and bool(stored_hash)
    except (VerificationError, InvalidHashError):
        return False


def _nobody() -> str:
    """Return a hash with the parameters of every other hash, which no password has."""
    salt, digest = (base64.b64encode(bytes(size)).decode().rstrip("=") for size in (_SALT_BYTES, _HASH_BYTES))
    return f"$argon2id$v=19$m={_MEMORY_KIB},t={_PASSES},p=1${salt}${digest}"


def _normal(password: str) -> str:
    """Return the password in one form, however a keyboard composes its letters (NIST SP 800-63B-4 3.1.1.2)."""
    return unicodedata.normalize("NFC", password)
