"""Free text of headers in a form that patterns can match."""

import unicodedata


def unaccented(text: str) -> str:
    """Return a text in lower case without accents; a sharp s becomes ss."""
    decomposed = unicodedata.normalize("NFKD", text.lower().replace("ß", "ss"))
    return "".join(character for character in decomposed if not unicodedata.combining(character))
