/* The buttons for the checked rows of the worklist: they can be pressed once a row is checked. Without this script they
 * always can, and the node answers that no row is chosen. */
"use strict";
(() => {
  const list = document.getElementById("worklist");

  const update = () => {
    const isChecked = list.querySelector('input[name="row"]:checked') !== null;
    for (const button of list.querySelectorAll(".actions button")) button.disabled = !isChecked;
    for (const menu of list.querySelectorAll(".actions details")) {
      menu.inert = !isChecked;
      menu.open &&= isChecked;
    }
  };

  list.addEventListener("change", update);
  new MutationObserver(update).observe(list, { childList: true, subtree: true }); // rows and filters replace parts
  window.addEventListener("pageshow", update); // a browser that comes back restores the checks
  update();
})();
