"""The cookies of the console: of a session, of a login form, and of a browser in which a person has logged in."""

import secrets
from typing import Final, Literal

from fastapi import Request, Response

from ainode.node.console.entry.callers import Networks, is_encrypted

Purpose = Literal["session", "form", "browser"]
_BROWSER_S: Final = 180 * 86_400
_RANDOM_BYTES: Final = 32


class Cookies:
    """Reads and writes the cookies; no script of a page can read them, and no other site makes a browser send them."""

    def __init__(self, port: int, proxies: Networks) -> None:
        self._port, self._proxies = port, proxies

    def get(self, request: Request, purpose: Purpose) -> str:
        """Return the value of a cookie, '' if the browser sends none."""
        return request.cookies.get(self._name(request, purpose), "")

    def set(self, request: Request, response: Response, purpose: Purpose, value: str) -> None:
        """Give the browser a cookie; a session's ends with the browser."""
        response.set_cookie(
            self._name(request, purpose),
            value,
            max_age=_BROWSER_S if purpose == "browser" else None,
            path="/",
            secure=is_encrypted(request.scope, self._proxies),
            httponly=True,
            samesite="lax",
        )

    def remove(self, request: Request, response: Response, purpose: Purpose) -> None:
        """Have the browser forget a cookie."""
        is_secure = is_encrypted(request.scope, self._proxies)
        response.delete_cookie(self._name(request, purpose), path="/", secure=is_secure, httponly=True, samesite="lax")

    def form_token(self, request: Request) -> str:
        """Return the token of a login form: the browser's, or a new one; every form of the browser has the same."""
        return self.get(request, "form") or secrets.token_urlsafe(_RANDOM_BYTES)

    def _name(self, request: Request, purpose: Purpose) -> str:
        """Return the name of a cookie; browsers share cookies among the ports of a machine, and nodes must not.

        A browser takes a name that begins with __Host- over TLS alone, and from no other host (RFC 6265bis 4.1.3.2).
        """
        prefix = "__Host-" if is_encrypted(request.scope, self._proxies) else ""
        return f"{prefix}ainode_{purpose}_{self._port}"
