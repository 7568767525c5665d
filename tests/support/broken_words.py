"""Words of a page that the browser breaks in their middle; identifiers and hashes may break anywhere."""

from playwright.sync_api import Page

# A word, or a name as `ct_chest`, whose letters do not stand on one line. The parts of a UID, a path or an address have
# a dot, a slash or a colon beside them; a hash is hexadecimal. What is longer than 30 letters may not fit a phone.
_BROKEN = r"""() => {
  const texts = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT), broken = [];
  while (texts.nextNode()) {
    const node = texts.currentNode, parent = node.parentElement;
    if (parent.closest("pre, svg, textarea, select, .hidden, script") || !parent.checkVisibility()) continue;
    for (const word of node.data.matchAll(/(?<![\p{L}\p{N}_./:])[\p{L}\p{N}_]{2,30}(?![\p{L}\p{N}_/:]|\.\S)/gu)) {
      if (/^[0-9a-f]+$/.test(word[0])) continue;
      const range = document.createRange();
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      const lines = new Set([...range.getClientRects()].map((box) => Math.round(box.bottom)));
      if (lines.size > 1) broken.push(`${word[0]} is broken in ${parent.outerHTML.slice(0, 120)}`);
    }
  }
  return broken;
}"""


def broken_words(page: Page) -> list[str]:
    """Return each word that is broken, with the element around the word."""
    words: list[str] = page.evaluate(_BROKEN)
    return words
