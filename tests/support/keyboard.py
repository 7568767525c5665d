"""A person without a mouse: walks a page by Tab, opens what can be opened, and notes what cannot be reached or seen."""

from playwright.sync_api import Page, expect

MOST_STEPS = 600
OPENING = "details:not([open]) > summary:focus, details[open] [hx-trigger^=toggle] > a"
"""a summary that was not opened yet, or whose content is still loaded"""
WALK = """
(() => {
  const native = "a[href], button, input, select, textarea, summary";
  const isRegion = (node) => node.getAttribute("role") === "region" && node.hasAttribute("aria-label");
  const isViewer = (node) => node.matches(".viewer-stage[role=application][aria-label]");
  const name = (node) => (node.outerHTML.match(/^<[^>]*>/) || [""])[0] + node.textContent.trim().slice(0, 40);
  const isShown = (node) => node.checkVisibility({visibilityProperty: true}) && !node.disabled
    && node.type !== "hidden";
  // Of radio buttons of one name, Tab reaches the checked one and the arrows reach the others.
  const isOther = (node) => node.type === "radio" && !node.checked
    && document.querySelector(`input[type=radio][name="${node.name}"]:checked`);
  const reacts = (node) => node.matches(native) || node.matches("[tabindex]:not([tabindex='-1'])")
    || node.matches("[onclick], [contenteditable], [hx-get]:not([hx-trigger]), [hx-post]:not([hx-trigger], form)");
  const visited = [], problems = [];
  // A live part of a page is replaced now and then.
  const isVisited = (node) => visited.some((other) =>
    other === node || (!other.isConnected && name(other) === name(node)));
  const say = (text, node) => problems.push(`${text}: ${name(node)}`);
  const isSeen = (node) => {
    const {outlineStyle, outlineWidth} = getComputedStyle(node);
    return node.matches(":focus-visible") && outlineStyle !== "none" && parseFloat(outlineWidth) >= 2;
  };
  const isUncovered = (node) => {
    const box = node.getBoundingClientRect();
    const left = Math.max(box.left, 0), right = Math.min(box.right, innerWidth);
    const top = Math.max(box.top, 0), bottom = Math.min(box.bottom, innerHeight);
    if (right - left < 1 || bottom - top < 1) return false;
    const isOver = (x, y) => node.contains(document.elementFromPoint(x, y));
    return isOver((left + right) / 2, (top + bottom) / 2) || [...node.getClientRects()]
      .some((line) => isOver(line.left + line.width / 2, line.top + line.height / 2));
  };
  addEventListener("focusin", ({target}) => {
    if (isVisited(target)) return;
    if (!target.matches(native) && !isRegion(target) && !isViewer(target)) say("no key works on", target);
    if (target.tabIndex > 0) say("is out of order", target);
    const last = visited[visited.length - 1];
    if (last?.isConnected && !(last.compareDocumentPosition(target) & 4)) say("is before what came before", target);
    if (!isSeen(target)) say("the focus is not seen on", target);
    if (!isUncovered(target)) say("the focus is out of sight on", target);
    visited.push(target);
  });
  window.walk = {
    isOver: () => document.activeElement === document.body || document.activeElement === visited[0],
    isClosed: () => document.activeElement.matches("details:not([open]) > summary"),
    result: () => {
      const missed = [...document.querySelectorAll("*")].filter(reacts).filter(isShown)
        .filter((node) => !isOther(node) && !isVisited(node));
      missed.forEach((node) => say("Tab does not reach", node));
      return problems;
    },
  };
})()
"""


def problems(page: Page) -> list[str]:
    """Walk an open page from its beginning to its end, and return what a person without a mouse cannot do.

    Each thing that can be clicked is reached by Tab in the order of the document, shows that it has the focus, and is
    one that Enter or Space works on; each summary is opened by a key, and what it hides is walked, too.
    """
    page.evaluate(WALK)
    for number in range(MOST_STEPS):
        page.keyboard.press("Tab")
        if number and page.evaluate("walk.isOver()"):
            return [str(problem) for problem in page.evaluate("walk.result()")]
        if page.evaluate("walk.isClosed()"):
            page.keyboard.press("Enter" if number % 2 else "Space")
            expect(page.locator(OPENING)).to_have_count(0)
    return [f"the focus never comes to the end: {page.evaluate('document.activeElement.outerHTML')[:200]}"]
