// Theme, navigation, tooltips and copying. Text from data reaches the page as text nodes only.
"use strict";

window.study = {
  data: (name) => JSON.parse(document.getElementById("data-" + name).textContent),
  element(tag, options = {}, ...children) {
    const node = document.createElement(tag);
    if (options.class) node.className = options.class;
    if (options.text !== undefined) node.textContent = options.text;
    for (const child of children) node.append(child);
    return node;
  },
};

// Parts of the link after #, as "name=value" with "&" between them.
window.study.link = {
  read: () => new URLSearchParams(location.hash.slice(1)),
  write(name, value) {
    const parts = window.study.link.read();
    if (value === null) parts.delete(name);
    else parts.set(name, value);
    const kept = parts.toString().replace(/=(?=&|$)/g, "");
    history.replaceState(null, "", kept ? "#" + kept : location.pathname + location.search);
  },
};

(() => {
  const root = document.documentElement;
  const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme || (prefersDark.matches ? "dark" : "light")) === "dark";

  const button = document.getElementById("theme");
  // Which theme the button offers is the style's business; it only has to know the one that is on.
  const label = () => { root.dataset.shade = isDark() ? "dark" : "light"; };
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    window.study.link.write("theme", root.dataset.theme);
    label();
  });
  prefersDark.addEventListener("change", label);
  const asked = window.study.link.read().get("theme");
  if (asked === "dark" || asked === "light") root.dataset.theme = asked;
  label();

  const links = new Map([...document.querySelectorAll(".top nav a")].map((a) => [a.hash.slice(1), a]));
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const a of links.values()) a.removeAttribute("aria-current");
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-30% 0px -65% 0px" });
  for (const section of document.querySelectorAll("main > section[id]")) watcher.observe(section);

  Promise.all([document.fonts.load('16px "Study Gothic"', "A"), document.fonts.load('16px "Study Gothic Hangul"', "가"), document.fonts.load('700 16px "Study Gothic"', "A")]).then(() => {
    // What the browser tests read.
    root.dataset.fonts = String([...document.fonts].filter((face) => face.status === "loaded").length);
  });
})();

// Tooltips of terms: beside the term where there is room; Escape puts them away.
(() => {
  const root = document.documentElement;
  const place = (event) => {
    const term = event.target.closest?.(".term");
    if (!term) return;
    root.classList.remove("quiet");
    const tip = term.querySelector(".tip");
    const at = term.getBoundingClientRect();
    const left = Math.max(8, Math.min(at.left, innerWidth - tip.offsetWidth - 8));
    const below = at.bottom + 6 + tip.offsetHeight < innerHeight;
    tip.style.setProperty("--x", left + "px");
    tip.style.setProperty("--y", (below ? innerHeight - at.bottom - 6 - tip.offsetHeight : innerHeight - at.top + 6) + "px");
  };
  document.addEventListener("mouseover", place);
  document.addEventListener("focusin", place);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") root.classList.add("quiet");
  });
})();

// A button that copies the block it stands in.
for (const button of document.querySelectorAll("button[data-copies]")) {
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copies).textContent);
    button.classList.add("done");
    setTimeout(() => button.classList.remove("done"), 1500);
  });
}

// On a narrow screen a row of a wide table becomes a block: each value takes its column's name along.
(() => {
  const narrow = window.matchMedia("screen and (max-width: 820px)");
  function stack() {
    if (!narrow.matches) return;
    for (const table of document.querySelectorAll(".table-wrap > table:not(.stacked)")) {
      const heads = [...(table.tHead?.rows[0]?.cells ?? [])];
      if (heads.length < 4) continue;
      for (const body of table.tBodies) for (const row of body.rows) {
        if (row.cells.length !== heads.length) continue;
        [...row.cells].forEach((cell, i) => {
          if (cell.tagName !== "TD" || !cell.textContent.trim()) return;
          const name = document.createElement("span");
          name.className = "k";
          name.append(...[...heads[i].childNodes].map((node) => node.cloneNode(true)));
          // The name alone: the term's meaning stays one click away in the glossary.
          for (const term of name.querySelectorAll(".term")) {
            term.querySelector(".tip")?.remove();
            term.replaceWith(...term.childNodes);
          }
          cell.prepend(name);
        });
      }
      table.classList.add("stacked");
    }
  }
  narrow.addEventListener("change", stack);
  stack();
})();
