"""Free text of headers: in a form that patterns can match, and in a reason that somebody reads."""

import re
import unicodedata
from typing import Final

# What codes, numbers, times and UIDs are made of, and the units of modality values. Of these a code string alone may
# have blanks, and has 16 characters at most (PS3.5 6.2): longer ones are somebody's words. A slash parts several.
_CODE: Final = re.compile(r"(?=.{1,64}$)[A-Z0-9_ ]{1,16}(/[A-Z0-9_ ]{1,16})*|[A-Z0-9_./%+-]{1,64}")


def unaccented(text: str) -> str:
    """Return a text in lower case without accents; a sharp s becomes ss."""
    decomposed = unicodedata.normalize("NFKD", text.lower().replace("ß", "ss"))
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def as_code(text: object) -> str:
    """Return the text of a value that should be a code or a number, unless it looks like a person's words."""
    words = str(text)
    return words if _CODE.fullmatch(words) else "no code" if words else "absent"
