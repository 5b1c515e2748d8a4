// Pointing at a node of the graph, or tapping it, shows its edges alone; the line below the picture says what it is.
"use strict";
const picture = document.getElementById("graph-picture");
const pointed = document.getElementById("graph-pointed");
function show(node) {
  const chosen = node ? node.dataset.node : null;
  picture.classList.toggle("pointing", chosen !== null);
  for (const edge of picture.querySelectorAll(".edges path")) {
    edge.classList.toggle("shown", edge.dataset.source === chosen || edge.dataset.target === chosen);
  }
  pointed.textContent = node ? node.querySelector("title").textContent : pointed.dataset.hint;
}
if (picture) {
  // where the picture is wider than the screen, begin at the logits
  picture.parentElement.scrollLeft = picture.parentElement.scrollWidth;
  for (const event of ["pointerover", "click"]) {
    picture.addEventListener(event, (happened) => show(happened.target.closest(".node")));
  }
  picture.addEventListener("pointerleave", (happened) => happened.pointerType === "mouse" && show(null));
}
