"""What is cut off on a page: text beyond the edge of the screen or of its own box, and cells without their column."""

from playwright.sync_api import Page

# Controls scroll in themselves, and what only screen readers read is clipped. A matrix of numbers may
# scroll, in a region that can have the focus and has a name.
_FAULTS = """() => {
  const REGION = "[role=region][tabindex='0'][aria-label]:has(> .matrix)";
  const faults = [], page = document.scrollingElement, all = [...document.querySelectorAll("body *")];
  if (page.scrollWidth > innerWidth) {
    const wide = all.filter((element) => element.getBoundingClientRect().right > innerWidth).slice(0, 5);
    faults.push(`the page is ${page.scrollWidth} wide: ${wide.map((element) => element.outerHTML.slice(0, 120))}`);
  }
  for (const element of all) {
    const isBox = getComputedStyle(element).overflowX !== "visible";
    const isClipped = isBox && element.scrollWidth > element.clientWidth + 1;
    const isExempt = element.matches(`input, select, textarea, svg *, .hidden, thead, ${REGION}`);
    if (isClipped && !isExempt && element.checkVisibility()) faults.push(`cut off: ${element.outerHTML.slice(0, 200)}`);
  }
  for (const cell of document.querySelectorAll("table:not(.matrix) > tbody > tr > td:not([colspan], .check)")) {
    const head = cell.closest("table").querySelectorAll("thead th")[cell.cellIndex];
    const name = head?.textContent.trim() ?? "", label = cell.dataset.label ?? "";
    if (label !== name) faults.push(`a cell of the column ${name} is named ${label}`);
  }
  return faults;
}"""


def faults(page: Page) -> list[str]:
    """Return what is cut off on an open page, every folded part unfolded."""
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    page.wait_for_load_state("networkidle")
    sentences: list[str] = page.evaluate(_FAULTS)
    return sentences
