// The gallery: pages of clips, drawn as they are asked for.
"use strict";

(() => {
  const { data, element } = window.study;
  const gallery = data("gallery");
  const colours = data("curves").colours;
  const PAGE = 12;
  const list = document.getElementById("gallery-list");
  const search = document.getElementById("gallery-search");
  const sort = document.getElementById("gallery-sort");
  const more = document.getElementById("gallery-more");
  const ranked = gallery.columns.map((c, i) => ({ ...c, i })).filter((c) => c.seed !== null);
  const margin = (clip, i) => clip.captions[i]?.[1] ?? null;
  const fixed = (value) => (value === null ? "–" : value.toFixed(3).replace("-", "\u2212"));
  let found = [];
  let shown = 0;

  const spread = (clip) => {
    const known = ranked.map((c) => margin(clip, c.i)).filter((d) => d !== null);
    return known.length ? Math.max(...known) - Math.min(...known) : -1;
  };
  const difference = (a, b) => (clip) =>
    margin(clip, a) === null || margin(clip, b) === null ? -Infinity : margin(clip, a) - margin(clip, b);
  const orders = new Map([["order", null], ["spread", spread]]);

  function options() {
    const add = (value, text) => {
      const node = element("option", { text });
      node.value = value;
      sort.append(node);
    };
    // First, so that what a reader sees before choosing was picked by no score.
    add("order", "no score (hash of the id)");
    add("spread", "largest difference in D between projectors");
    for (const a of ranked) {
      orders.set("low" + a.i, (clip) => -(margin(clip, a.i) ?? Infinity));
      add("low" + a.i, `lowest D of ${a.label}`);
    }
    for (const a of ranked) for (const b of ranked) {
      if (a.i === b.i) continue;
      orders.set(`${a.i}-${b.i}`, difference(a.i, b.i));
      add(`${a.i}-${b.i}`, `D(${a.label}) − D(${b.label})`);
    }
  }

  function text(clip) {
    clip.text ??= [clip.id, clip.group, clip.category, ...clip.references, ...clip.captions.map((c) => c?.[0])]
      .filter(Boolean).join("\n").normalize("NFC").toLowerCase();
    return clip.text;
  }

  function statement(name, words, note, colour) {
    const dt = element("dt");
    if (colour) {
      const dot = element("span", { class: "dot" });
      dot.style.setProperty("--c", colour);
      dt.append(dot);
    }
    dt.append(element("b", { text: name }), " " + note);
    const dd = words ? element("dd", { text: words }) : element("dd", { class: "empty", text: "(empty caption)" });
    dd.lang = "ko";
    return element("div", {}, dt, dd);
  }

  function card(clip) {
    const title = element("h3", { text: clip.id });
    const head = element("header", {}, title);
    for (const [key, value] of [["category", clip.category], ["source", clip.group]])
      if (value !== null && value !== undefined) head.append(element("span", { text: `${key}: ${value}` }));
    const frames = element("div", { class: "frames" });
    clip.frames.forEach((file, i) => {
      const image = element("img");
      image.src = "data:image/jpeg;base64," + file;
      image.alt = `frame ${i + 1} of ${clip.frames.length}`;
      frames.append(image);
    });
    if (!clip.frames.length) frames.append(element("p", { text: "No pictures: beyond the page's budget." }));
    const said = element("dl", { class: "said" });
    for (const reference of clip.references) {
      const node = statement("human reference", reference, "");
      node.className = "human";
      said.append(node);
    }
    gallery.columns.forEach((column, i) => {
      const entry = clip.captions[i];
      if (!entry) return;
      const seed = column.seed === null ? "" : `seed ${column.seed}, `;
      const cut = entry[2] ? ", cut off" : "";
      said.append(statement(column.label, entry[0], `${seed}D ${fixed(entry[1])}${cut}`, colours[column.label]));
    });
    return element("article", { class: "clip" }, head, element("div", { class: "body" }, frames, said));
  }

  function page() {
    const next = found.slice(shown, shown + PAGE);
    list.append(...next.map(card));
    shown += next.length;
    more.hidden = shown >= found.length;
    document.getElementById("gallery-count").textContent = `${shown} of ${found.length} drawn`;
  }

  function restart() {
    const wanted = search.value.normalize("NFC").toLowerCase().trim();
    found = gallery.clips.filter((clip) => text(clip).includes(wanted));
    const key = orders.get(sort.value);
    if (key) found = found.map((clip) => [key(clip), clip]).sort((a, b) => b[0] - a[0] || 0).map((pair) => pair[1]);
    shown = 0;
    list.replaceChildren();
    page();
  }

  const all = gallery.shown === gallery.total;
  document.getElementById("gallery-note").textContent =
    (all ? `All ${gallery.total} clips are here` : `${gallery.shown} of ${gallery.total} clips are here, to keep the page small; the others are in tables/clips.csv`) +
    (gallery.pictured < gallery.shown ? `; ${gallery.pictured} with pictures.` : ".");
  options();
  search.addEventListener("input", restart);
  sort.addEventListener("change", restart);
  more.addEventListener("click", page);
  restart();
})();
