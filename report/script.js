// Charts, theme, navigation, tooltips and copying. Text from data reaches the page as text nodes only.
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
  const { data, element } = window.study;
  const root = document.documentElement;
  const specs = data("specs");
  const curves = data("curves");
  const views = new Map();
  const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");

  const isDark = () => (root.dataset.theme || (prefersDark.matches ? "dark" : "light")) === "dark";
  const css = (name) => getComputedStyle(root).getPropertyValue(name).trim();

  function theme() {
    const axis = {
      labelColor: css("--muted"), titleColor: css("--muted"), gridColor: css("--line"),
      domainColor: css("--line"), tickColor: css("--line"), labelFontSize: 12, titleFontSize: 12,
      titleFontWeight: 400, titlePadding: 8, labelLimit: 220,
    };
    return {
      background: "transparent", font: css("--font"), view: { stroke: null }, axis,
      axisY: { ...axis, domain: false, ticks: false, labelPadding: 8 },
      legend: { labelColor: css("--ink"), titleColor: css("--muted"), labelFontSize: 12, symbolSize: 90, layout: { bottom: { direction: "vertical", anchor: "start", margin: 6 } }, labelLimit: 220, symbolStrokeWidth: 0, symbolFillColor: css("--muted") },
      text: { color: css("--ink") }, rule: { color: css("--muted") },
    };
  }

  async function draw(name, rows) {
    const target = document.getElementById("chart-" + name);
    if (!target) return;
    views.get(name)?.finalize();
    const spec = rows ? { ...specs[name], datasets: { rows } } : specs[name];
    if (rows && !rows.length) {
      views.delete(name);
      target.textContent = "Nothing was measured here for this choice.";
      return;
    }
    try {
      const result = await window.vegaEmbed(target, spec, {
        mode: "vega-lite", ast: true, actions: false, renderer: "svg", config: theme(),
      });
      views.set(name, result.view);
      // The chart is described by its label and its figures are in a table.
      target.querySelector("svg")?.setAttribute("aria-hidden", "true");
    } catch (error) {
      target.textContent = "This chart could not be drawn: " + error.message;
      console.error(name, error);
    }
  }

  const CURVES = { "curve-stage1": "stage1", "curve-stage2": "stage2", "curve-diversity": "diversity" };
  const roles = { report: "report", tuning: "tuning", control_hot: "hot control", control_blind: "blind-trained", control_noise: "noise", control_permuted: "permuted", preset: "preset" };
  const rate = (value) => (value === null ? "" : value.toExponential().replace("e-", "e\u2212"));
  const describe = (cell) =>
    `${cell.projector} · ${roles[cell.role] || cell.role} · seed ${cell.seed} · ${rate(cell.learning_rate)} × ${cell.epochs} ep` + (cell.chosen ? " · chosen" : "");

  function fillSelect() {
    const select = document.getElementById("curve-select");
    const projectors = [...new Set(curves.cells.map((c) => c.projector))];
    const group = (label) => {
      const node = document.createElement("optgroup");
      node.label = label;
      select.append(node);
      return node;
    };
    const option = (parent, value, text) => {
      const node = element("option", { text });
      node.value = JSON.stringify(value);
      parent.append(node);
    };
    const sets = group("Together");
    option(sets, { role: "report" }, "All report runs");
    option(sets, { control: true }, "All controls");
    for (const p of projectors) option(sets, { projector: p }, p + ": all its runs");
    for (const p of projectors) {
      const own = group(p);
      for (const c of curves.cells) if (c.projector === p) option(own, { cell: c.cell }, describe(c));
    }
    select.addEventListener("change", fillCurves);
  }

  function chosenCells() {
    const wanted = JSON.parse(document.getElementById("curve-select").value);
    return curves.cells.filter((c) =>
      wanted.cell ? c.cell === wanted.cell
        : wanted.role ? c.role === wanted.role
          : wanted.control ? c.role.startsWith("control_")
            : c.projector === wanted.projector);
  }

  function rowsOf(curve, series, colour) {
    const rows = curve.step.map((x, i) => ({ series, colour, kind: "train", x, y: curve.loss[i] }));
    curve.epoch_step.forEach((x, i) => rows.push({ series, colour, kind: "validation", x, y: curve.val_loss[i] }));
    return rows.filter((row) => row.y !== null);
  }

  function fillCurves() {
    const cells = chosenCells();
    const palette = Object.values(curves.palette);
    const several = new Set(cells.map((c) => c.projector)).size > 1;
    const colour = (cell, i) => (several && curves.colours[cell.projector]) || palette[i % palette.length];
    const rows = { stage1: [], stage2: [], diversity: [] };
    const parents = new Map();
    const legend = document.getElementById("curve-legend");
    legend.replaceChildren();
    cells.forEach((cell, i) => {
      const c = colour(cell, i);
      rows.stage2.push(...rowsOf(cell.stage2, cell.cell, c));
      cell.stage2.epoch_step.forEach((x, k) => {
        const y = cell.stage2.diversity[k];
        if (y !== null) rows.diversity.push({ series: cell.cell, colour: c, kind: "validation", x, y });
      });
      if (cell.stage1 && !parents.has(cell.stage1)) parents.set(cell.stage1, c);
      const dot = element("span", { class: "dot" });
      dot.style.setProperty("--c", c);
      legend.append(element("li", {}, dot, describe(cell)));
    });
    for (const [name, c] of parents) rows.stage1.push(...rowsOf(curves.stage1[name], name, c));
    return Promise.all(Object.entries(CURVES).map(([name, key]) => draw(name, rows[key])));
  }

  function drawAll() {
    const fixed = Object.keys(specs).filter((name) => !(name in CURVES));
    return Promise.all([...fixed.map((name) => draw(name)), fillCurves()]);
  }

  const button = document.getElementById("theme");
  // Which theme the button offers is the style's business; it only has to know the one that is on.
  const label = () => { root.dataset.shade = isDark() ? "dark" : "light"; };
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    window.study.link.write("theme", root.dataset.theme);
    label();
    drawAll();
  });
  prefersDark.addEventListener("change", () => { label(); drawAll(); });
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

  fillSelect();
  // Text is measured when a chart is laid out: the embedded font must be there first.
  Promise.all([document.fonts.load('16px "Study Gothic"', "A"), document.fonts.load('16px "Study Gothic Hangul"', "가"), document.fonts.load('700 16px "Study Gothic"', "A")])
    .then(() => document.fonts.ready)
    .then(drawAll)
    .then(() => {
      // What the browser tests read: charts that stand, fonts that were loaded.
      root.dataset.drawn = String(views.size);
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
  const narrow = window.matchMedia("(max-width: 820px)");
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
          cell.prepend(name);
        });
      }
      table.classList.add("stacked");
    }
  }
  narrow.addEventListener("change", stack);
  stack();
})();
