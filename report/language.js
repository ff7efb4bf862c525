// Language: which one is shown, kept in the link beside whatever else the link says.
"use strict";

(() => {
  const { link } = window.study;
  const root = document.documentElement;
  const first = root.dataset.lang;
  const button = document.getElementById("language");

  function show(language) {
    root.lang = root.dataset.lang = language;
    for (const node of document.querySelectorAll(`[data-${language}-title], [data-${language}-aria-label], [data-${language}-placeholder], [data-${language}-alt], [data-${language}-label]`))
      for (const name of ["title", "aria-label", "placeholder", "alt", "label"]) {
        const words = node.getAttribute(`data-${language}-${name}`);
        if (words !== null) node.setAttribute(name, words);
      }
    window.dispatchEvent(new CustomEvent("language", { detail: language }));
  }

  button.hidden = false;
  button.addEventListener("click", () => {
    const next = root.dataset.lang === "en" ? "ko" : "en";
    link.write("lang", next === first ? null : next);
    show(next);
  });
  // A link to a part ("#runs") that was followed forgets the rest; a link that was reopened
  // ("#runs&lang=ko") is no address that a browser scrolls to by itself.
  const fromLink = () => {
    const parts = link.read();
    const wanted = parts.get("lang");
    if ((wanted === "en" || wanted === "ko") && wanted !== root.dataset.lang) show(wanted);
    if (wanted === null && root.dataset.lang !== first) link.write("lang", root.dataset.lang);
    const place = [...parts.keys()].find((name) => parts.get(name) === "");
    if (wanted !== null && place) document.getElementById(place)?.scrollIntoView();
  };
  window.addEventListener("hashchange", fromLink);
  fromLink();
})();
