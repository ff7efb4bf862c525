// Clips: three at a time out of all, searched, sorted and filtered; pictures that play.
// The page holds the text of every clip as base64 of gzip (gallery.py says in what order).
"use strict";

(async () => {
  const { data, element, link } = window.study;
  const list = document.getElementById("clips-list");
  if (!list) return;
  const field = (name) => document.getElementById("clips-" + name);
  const packed = document.getElementById("packed-clips").textContent.trim();
  const { labels, values, pictures, columns, frames } = data("clips");
  if (!window.DecompressionStream) {
    list.before(element("p", { class: "notice" }, ...say("clips.too_old")));
    return;
  }
  const bytes = Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const { voices, attributes, clips } = await new Response(stream).json();
  const [ID, GROUP, CATEGORY, SECONDS, REFERENCES, HUMAN, TRUTH, SAID] = [0, 1, 2, 3, 4, 5, 6, 7];
  const [CAPTION, MARGIN, MARKS, FACTS] = [0, 1, 2, 3];
  const TRUNCATED = 1, REPEATED = 2, MISLEADING = 4;
  const projectors = voices.flatMap(([, kind], i) => (kind === "projector" ? [i] : []));
  const retrieval = voices.findIndex(([, kind]) => kind === "retrieval");
  const names = Object.keys(attributes);
  const articles = [...list.querySelectorAll(".clip")];
  const number = new Map(clips.map((clip, i) => [clip[ID], i]));

  // ---- What is chosen. Each choice is a part of the link, left out where it is the first one.

  const CHOICES = ["q", "sort", "by", "is", "category", "fact", "seed", "mark"].filter(field);
  const usual = Object.fromEntries(CHOICES.map((name) => [name, field(name).value]));
  const chosen = (name) => field(name)?.value ?? "";
  let found = clips.map((_, i) => i);
  let at = 0;

  const seed = () => Number(chosen("seed") || 0);
  // A baseline has one caption, whichever seed is looked at.
  const heard = (clip, voice) => clip[SAID][voice]?.[Math.min(seed(), clip[SAID][voice].length - 1)] ?? null;
  const asked = () => (chosen("by") === "" ? projectors : [Number(chosen("by"))]);
  const margins = (clip) => asked().map((v) => heard(clip, v)?.[MARGIN] ?? null).filter((m) => m !== null);
  const plain = (text) => text.normalize("NFC").toLowerCase();
  const terms = () => plain(chosen("q")).split(/\s+/).filter(Boolean);
  const wrong = (clip, said) => names.filter((_, k) => said[FACTS][k] !== clip[TRUTH][k]);

  const VERDICTS = {
    elsewhere: (clip, said) => said[MARGIN] !== null && said[MARGIN] <= 0,
    below: (clip, said) => said[MARGIN] !== null && said[MARGIN] < (heard(clip, retrieval)?.[MARGIN] ?? -Infinity),
    repeated: (clip, said) => said[MARKS] & REPEATED,
    truncated: (clip, said) => said[MARKS] & TRUNCATED,
    empty: (clip, said) => !said[CAPTION],
    misleading: (clip, said) => said[MARKS] & MISLEADING,
  };
  const ORDERS = {
    spread: (clip) => { const all = margins(clip); return all.length ? Math.max(...all) - Math.min(...all) : -1; },
    low: (clip) => { const all = margins(clip); return all.length ? -Math.min(...all) : -Infinity; },
    high: (clip) => { const all = margins(clip); return all.length ? Math.max(...all) : -Infinity; },
    misled: (clip) => Math.max(-Infinity, ...asked().map((v) => heard(clip, v)).filter((s) => s && s[MARKS] & MISLEADING).map((s) => s[MARGIN])),
  };

  function matches(clip, words) {
    if (chosen("category") && clip[CATEGORY] !== chosen("category")) return false;
    const own = asked().map((v) => heard(clip, v)).filter(Boolean);
    const verdict = VERDICTS[chosen("is")];
    const fact = chosen("fact");
    const fits = (said) => (!verdict || verdict(clip, said))
      && (!fact || (clip[TRUTH] && (fact === "right" ? !wrong(clip, said).length : wrong(clip, said).includes(fact))));
    if ((verdict || fact) && !own.some(fits)) return false;
    if (!words.length) return true;
    const text = textOf(clip, own);
    return words.every((word) => text.includes(word));
  }

  // What is searched of a clip, kept while the same projectors and the same seed are looked at.
  let texts = new Map(), textsOf = "";
  function textOf(clip, own) {
    const key = chosen("by") + "." + seed();
    if (key !== textsOf) [texts, textsOf] = [new Map(), key];
    if (!texts.has(clip))
      texts.set(clip, plain([clip[ID], clip[GROUP], clip[CATEGORY], ...clip[REFERENCES], ...own.map((s) => s[CAPTION])].filter(Boolean).join("\n")));
    return texts.get(clip);
  }

  // ---- Words that are marked: not said of a shuffled clip or by other seeds, or said of most clips.

  const bared = new Map();
  function bare(word) {
    if (!bared.has(word)) bared.set(word, plain(word).replace(/^[^\p{L}\p{N}]+|[^\p{L}\p{N}]+$/gu, ""));
    return bared.get(word);
  }
  const wordsOf = (text) => text.split(/\s+/).map(bare).filter(Boolean);
  const usualWords = new Map();

  function saidOfMost(voice, index) {
    const key = voice + "." + index;
    if (!usualWords.has(key)) {
      const often = new Map();
      let n = 0;
      for (const clip of clips) {
        const said = clip[SAID][voice]?.[index];
        if (!said) continue;
        n += 1;
        for (const word of new Set(wordsOf(said[CAPTION]))) often.set(word, (often.get(word) ?? 0) + 1);
      }
      usualWords.set(key, new Set([...often].filter(([, k]) => k > n / 2).map(([word]) => word)));
    }
    return usualWords.get(key);
  }

  // Clips lie in the page by a hash of their ids: the next one of another source is a random one.
  function shuffled(clip) {
    const from = number.get(clip[ID]);
    for (let step = 1; step < clips.length; step++) {
      const other = clips[(from + step) % clips.length];
      if (other[GROUP] !== clip[GROUP] || other[GROUP] === null) return other;
    }
    return clip;
  }

  function marker(clip, voice) {
    const own = clip[SAID][voice];
    const index = Math.min(seed(), own.length - 1);
    if (chosen("mark") === "usual") {
      const most = saidOfMost(voice, index);
      return (word) => most.has(word);
    }
    if (chosen("mark") === "shuffled") {
      const other = heard(shuffled(clip), voice);
      const said = new Set(other ? wordsOf(other[CAPTION]) : []);
      return (word) => other !== null && !said.has(word);
    }
    if (chosen("mark") !== "seeds" || own.length < 2) return () => false;
    const others = own.filter((said, i) => said && i !== index).map((said) => new Set(wordsOf(said[CAPTION])));
    return (word) => others.length && !others.some((set) => set.has(word));
  }

  function captionNodes(text, isMarked, wanted) {
    return text.split(/(\s+)/).map((piece) => {
      const word = bare(piece);
      if (word && wanted.some((term) => word.includes(term))) return element("mark", { text: visible(piece) });
      return word && isMarked(word) ? element("span", { class: "marked", text: visible(piece) }) : visible(piece);
    });
  }

  // ---- Drawing: the page holds three articles, whose parts are filled anew.

  function visible(text) {
    return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, "\ufffd");
  }

  function say(key, fills = {}) {
    return ["en", "ko"].map((language, i) => {
      const words = labels[key][i].replace(/\{(\w+)\}/g, (_, name) => (Array.isArray(fills[name]) ? fills[name][i] : fills[name]));
      const node = element("span", { class: "t", text: words });
      node.lang = language;
      return node;
    });
  }

  const spoken = (node, text) => { if (/[가-힣]/.test(text)) node.lang = "ko"; else node.removeAttribute("lang"); return node; };
  const figure = (value) => (Math.abs(value) < 0.005 ? 0 : value).toFixed(2).replace("-", "\u2212");
  const withMargin = (margin) => (margin === null ? [] : [...say("clips.margin"), " " + figure(margin)]);

  // Of a projector which facts are wrong, of a baseline how many.
  function factNodes(clip, voice, said) {
    if (!clip[TRUTH]) return [];
    const missed = wrong(clip, said);
    const right = element("span", { class: "right" }, "✓\u00a0", ...say("clips.facts", { right: names.length - missed.length, all: names.length }));
    const nodes = (projectors.includes(voice) ? missed : []).map((name) => {
      const k = names.indexOf(name);
      const value = (place) => values[name][attributes[name][Number(place)]];
      const fills = { name: labels["clips.fact." + name], true: value(clip[TRUTH][k]) };
      const words = said[FACTS][k] === "-" ? say("clips.unsaid", fills) : say("clips.said", { ...fills, said: value(said[FACTS][k]) });
      return element("span", { class: "wrong" }, "✗\u00a0", ...words);
    });
    return [element("p", { class: "facts" }, right, ...nodes.flatMap((node) => [" ", node]))];
  }

  function flagNodes(said) {
    const flags = [];
    if (said[MARKS] & MISLEADING) flags.push(element("span", { class: "flag bad" }, ...say("clips.misleading")));
    if (said[MARKS] & TRUNCATED) flags.push(element("span", { class: "flag" }, ...say("clips.truncated")));
    if (said[MARKS] & REPEATED) flags.push(element("span", { class: "flag" }, ...say("clips.repeated")));
    return flags.length ? [element("p", { class: "flags" }, ...flags.flatMap((flag) => [flag, " "]))] : [];
  }

  function fill(article, index, wanted) {
    const clip = clips[index];
    const address = element("a", { text: visible(clip[ID]) });
    address.href = "#clip=" + encodeURIComponent(clip[ID]);
    article.querySelector("h3").replaceChildren(address);
    article.querySelector(".about").textContent = visible([clip[CATEGORY], clip[GROUP]].filter(Boolean).join(" · "));
    const screen = article.querySelector(".screen");
    screen.replaceChildren();
    if (pictures[index]) {
      const image = element("img");
      image.src = "data:image/webp;base64," + pictures[index];
      for (const [i, language] of ["en", "ko"].entries())
        image.setAttribute(`data-${language}-alt`, labels["clips.frames"][i].replace("{n}", frames).replace("{id}", visible(clip[ID])));
      image.alt = image.getAttribute(`data-${document.documentElement.dataset.lang}-alt`);
      screen.append(element("div", { class: "sheet" }, image));
    } else screen.append(element("p", {}, ...say("clips.no_picture")));
    const quotes = clip[REFERENCES].map((text) => spoken(element("blockquote", {}, ...captionNodes(text, () => false, wanted)), text));
    const margin = withMargin(clip[HUMAN]);
    article.querySelector(".reference").replaceChildren(
      ...quotes, element("p", { class: "by" }, ...say("clips.human"), ...(margin.length ? [" · ", ...margin] : [])),
    );
    [...article.querySelectorAll(".voice")].forEach((node, voice) => {
      const said = heard(clip, voice);
      node.querySelector(".figure").replaceChildren(...(said ? withMargin(said[MARGIN]) : []));
      const quote = element("blockquote");
      if (!said || !said[CAPTION]) {
        quote.className = "empty";
        quote.append(...say(said ? "clips.empty" : "clips.absent"));
      } else spoken(quote, said[CAPTION]).append(...captionNodes(said[CAPTION], marker(clip, voice), asked().includes(voice) ? wanted : []));
      node.querySelector(".said").replaceChildren(quote, ...(said ? [...factNodes(clip, voice, said), ...flagNodes(said)] : []));
    });
  }

  const narrow = [window.matchMedia("screen and (max-width: 640px)"), window.matchMedia("screen and (max-width: 1000px)")];
  const atOnce = () => (narrow[0].matches ? 1 : narrow[1].matches ? 2 : articles.length);

  function draw() {
    const n = atOnce();
    at = Math.max(0, Math.min(at, found.length - 1));
    const here = found.slice(at, at + n);
    const wanted = terms();
    articles.forEach((article, i) => {
      article.hidden = i >= here.length;
      if (i < here.length) fill(article, here[i], wanted);
    });
    field("none").hidden = found.length > 0;
    const fills = { from: at + 1, to: at + here.length, n: found.length };
    field("position").replaceChildren(...(found.length ? say(here.length > 1 ? "clips.position" : "clips.position_one", fills) : say("clips.none")));
    field("previous").disabled = at === 0;
    field("next").disabled = at + n >= found.length;
    list.dataset.clip = found.length ? clips[found[at]][ID] : "";
    if (field("play")?.getAttribute("aria-pressed") === "true") play();
  }

  function choose(keep) {
    const words = terms();
    found = clips.flatMap((clip, i) => (matches(clip, words) ? [i] : []));
    const key = ORDERS[chosen("sort")];
    if (key) {
      const keys = new Map(found.map((i) => [i, key(clips[i])]));
      found.sort((a, b) => keys.get(b) - keys.get(a) || a - b);
      // Where the score misled nobody there is nothing to show.
      if (chosen("sort") === "misled") found = found.filter((i) => keys.get(i) > -Infinity);
    }
    at = keep === undefined ? 0 : Math.max(0, found.indexOf(keep));
    draw();
  }

  function remember(withClip) {
    const parts = Object.fromEntries(CHOICES.map((name) => [name, chosen(name) === usual[name] ? null : chosen(name)]));
    parts.clip = withClip && found.length ? clips[found[at]][ID] : null;
    // Browsers allow so many changes of an address a second: only what changed is written.
    const before = link.read();
    for (const [name, value] of Object.entries(parts)) if (before.get(name) !== value) link.write(name, value);
  }

  function move(by) {
    const to = at + by * atOnce();
    if (to < 0 ? at === 0 : to >= found.length) return;
    at = Math.max(0, to);
    draw();
    remember(true);
  }

  // ---- Playing: one frame at a time, all clips together, about as fast as they were filmed.

  let timers = [];
  function stop() {
    timers.forEach(clearInterval);
    timers = [];
    for (const sheet of list.querySelectorAll(".sheet")) {
      sheet.classList.remove("playing");
      sheet.firstElementChild.style.transform = "";
    }
  }

  function play() {
    stop();
    articles.forEach((article, i) => {
      const sheet = article.querySelector(".sheet");
      if (article.hidden || !sheet) return;
      sheet.classList.add("playing");
      const seconds = clips[found[at + i]][SECONDS] ?? 4;
      let frame = 0;
      const show = () => {
        const [column, line] = [frame % columns, Math.floor(frame / columns)];
        sheet.firstElementChild.style.transform = `translate(${(-100 * column) / columns}%, ${(-100 * line) / Math.ceil(frames / columns)}%)`;
        frame = (frame + 1) % frames;
      };
      show();
      timers.push(setInterval(show, Math.min(1000, Math.max(125, (1000 * seconds) / frames))));
    });
  }

  // ---- Wiring.

  function fromLink() {
    const parts = link.read();
    const touched = ["clip", ...CHOICES].some((name) => parts.get(name));
    for (const name of CHOICES) {
      const node = field(name);
      const wanted = parts.get(name) ?? usual[name];
      if (node.tagName !== "SELECT" || [...node.options].some((option) => option.value === wanted)) node.value = wanted;
    }
    choose(number.get(parts.get("clip")));
    return touched;
  }

  for (const name of CHOICES)
    field(name).addEventListener(name === "q" ? "input" : "change", () => {
      // Another seed or another mark shows the same clip anew.
      choose(["seed", "mark"].includes(name) ? found[at] : undefined);
      remember(false);
    });
  field("previous").addEventListener("click", () => move(-1));
  field("next").addEventListener("click", () => move(1));
  field("reset").addEventListener("click", () => {
    for (const name of CHOICES) field(name).value = usual[name];
    choose();
    remember(false);
  });
  field("play")?.addEventListener("click", ({ currentTarget }) => {
    const on = currentTarget.getAttribute("aria-pressed") !== "true";
    currentTarget.setAttribute("aria-pressed", String(on));
    if (on) play();
    else stop();
  });
  document.getElementById("clips").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, select")) return;
    event.preventDefault();
    move(step);
  });
  narrow.forEach((query) => query.addEventListener("change", draw));
  field("choice").open = !narrow[1].matches;
  window.addEventListener("hashchange", fromLink);
  for (const node of document.querySelectorAll("#clips .scripted")) node.classList.remove("scripted");
  if (fromLink()) document.getElementById("clips").scrollIntoView();
  list.dataset.ready = String(clips.length);
})();
