// Figures stand without this script; it adds what a pointer or a focus tells: a line on a mark,
// one projector in front everywhere, and projectors that are hidden in every figure.
"use strict";

(() => {
  const root = document.documentElement;
  root.classList.add("scripted");
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.hidden = true;
  document.body.append(tip);

  const told = (node) => node.dataset.tip ?? node.dataset[root.dataset.lang + "Tip"];

  function place(x, y) {
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(x + 12, innerWidth - box.width - 4)) + "px";
    tip.style.top = (y + 18 + box.height > innerHeight ? y - box.height - 10 : y + 18) + "px";
  }

  let front = null;
  function show(label) {
    if (label === front) return;
    front = label;
    document.body.classList.toggle("one", label !== null);
    for (const node of document.querySelectorAll("[data-p].on")) node.classList.remove("on");
    if (label === null) return;
    for (const node of document.querySelectorAll(`[data-p="${CSS.escape(label)}"]`)) node.classList.add("on");
  }

  document.addEventListener("pointerover", (event) => {
    const mark = event.target.closest?.(".drawing [data-tip], .drawing [data-en-tip]");
    tip.hidden = !mark;
    if (mark) {
      tip.textContent = told(mark);
      place(event.clientX, event.clientY);
    }
    show(event.target.closest?.("[data-p]")?.dataset.p ?? null);
  });
  document.addEventListener("pointermove", (event) => {
    if (!tip.hidden) place(event.clientX, event.clientY);
  });
  document.addEventListener("focusin", (event) => show(event.target.closest("[data-p]")?.dataset.p ?? null));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      tip.hidden = true;
      show(null);
    }
  });

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-key]");
    if (!button) return;
    const hidden = button.getAttribute("aria-pressed") === "true";
    for (const own of document.querySelectorAll(`button[data-key="${CSS.escape(button.dataset.key)}"]`))
      own.setAttribute("aria-pressed", String(!hidden));
    for (const node of document.querySelectorAll(`.drawing [data-p="${CSS.escape(button.dataset.key)}"]`))
      node.classList.toggle("off", hidden);
    show(hidden ? null : button.dataset.key);
  });
})();
