// What is the case after the selected step: the step itself, what it changed, the cache it was about, all caches.

let cacheRows = [];
const CACHES_MANY = 12; // of more caches only those that are there are shown at first

function fact(list, name, ...value) {
  list.append(make("dt", {}, name), make("dd", {}, ...value));
}

function links(pairs) {
  const parts = [];
  pairs.forEach(([at, why], index) => {
    if (index) parts.push(", ");
    parts.push(stepLink(at), why === OWN ? "" : ` ${who(at)} (${WHY_WORDS[why]})`);
  });
  return parts;
}

function drawState() {
  const box = byId("state");
  if (selected < 0) return box.replaceChildren(make("p", { class: "muted" }, "The run has no step."));
  const at = selected;
  const parts = [make("h3", {}, `Step ${numberOf(at)}`)];
  parts.push(make("p", { class: "does" }, doesOf(at)));
  const list = make("dl");
  fact(list, "Path", who(at));
  fact(list, "Actor", make("code", {}, actorOf(at)));
  fact(list, "Operation", make("code", {}, `${DOC.texts[STEPS.operation[at]]}(${DOC.texts[STEPS.args[at]]})`));
  if (replyOf(at)) fact(list, "Gave back", make("code", {}, replyOf(at)));
  fact(list, "At", `${secondsOf(STEPS.jiffies[at])} s${DOC.settles !== null && at >= DOC.settles ? ", while the machine settled" : ""}`);
  if (STEPS.causes[at].length) fact(list, "Comes after", ...links(STEPS.causes[at]));
  const effects = EFFECTS.get(at) ?? [];
  if (effects.length) fact(list, "Leads to", ...links(effects.slice(0, 6)), effects.length > 6 ? ` and ${effects.length - 6} more` : "");
  parts.push(list);
  if (at === DOC.broke) parts.push(make("p", { class: "broken" }, "Here it breaks."));
  parts.push(...changesOf(at), ...cacheOf(at));
  return box.replaceChildren(...parts);
}

function changesOf(at) {
  const actor = STEPS.actor[at];
  if (at === DOC.broke) return [];
  if (frees(at)) return [make("p", { class: "muted" }, "The object is gone.")];
  if (!changes(at)) return [make("p", { class: "muted" }, "It changed nothing.")];
  const rows = STEPS.changed[at].map(([cell, value]) => {
    const before = valueAt(historyOf(actor).get(cell), at - 1);
    const was = before === null ? "unknown" : DOC.texts[before];
    return make("tr", {}, make("td", {}, DOC.cells[cell]), make("td", { class: "was" }, was), make("td", {}, DOC.texts[value]));
  });
  const head = make("tr", {}, ...["Changed", "was", "is"].map((text) => make("th", { scope: "col" }, text)));
  return [make("h3", {}, `Changed in ${actorOf(at)}`), make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows))];
}

/** The cache that the step was about, part by part; of another object, that object. */
function cacheOf(at) {
  const actor = STEPS.actor[at];
  const index = CACHE_OF.get(actor);
  const title = index === undefined ? actorOf(at) : DOC.caches[index].name;
  const members = index === undefined ? [actor] : DOC.caches[index].actors;
  const body = make("tbody");
  let slabs = 0;
  for (const member of members) {
    const name = DOC.actors[member];
    const known = [...historyOf(member)].map(([cell, values]) => [cell, valueAt(values, at), values]).filter(([, value]) => value !== null);
    if (!known.length) continue;
    if (/^slab\d+$/.test(name) && ++slabs > 12 && member !== actor) continue;
    body.append(make("tr", {}, make("td", { class: "group-name", colspan: 2 }, name)));
    for (const [cell, value] of known) {
      const fresh = member === actor && STEPS.changed[at].some(([changed]) => changed === cell);
      body.append(make("tr", {}, make("td", { class: fresh ? "fresh" : "" }, DOC.cells[cell]), make("td", { class: fresh ? "fresh" : "" }, DOC.texts[value])));
    }
  }
  if (!body.childElementCount) return [];
  const parts = [make("h3", {}, `${title} after it`), make("table", {}, body)];
  if (slabs > 12) parts.push(make("p", { class: "muted" }, `and ${slabs - 12} more slabs`));
  return parts;
}

// -- all caches

const HEADS = { state: "State", pages: "Pages", slabs: "Slabs", objects: "Objects in use", partial: "On partial lists", percpu: "Held by CPUs", work: "Destroy work" };
const NUMBERS = new Set(["pages", "slabs", "objects", "partial", "percpu"]);

function setUpCaches() {
  byId("caches-note").textContent = `After the selected step; what it changed is marked. ${DOC.whole ? "" : "A log tells what steps change: what was there before, and no step touched, is left blank."}`;
  const classOfColumn = (column) => (NUMBERS.has(column) ? "num" : "");
  const table = byId("caches-table");
  table.append(make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Cache"), ...DOC.columns.map((column) => make("th", { scope: "col", class: classOfColumn(column) }, HEADS[column])))));
  const body = make("tbody");
  cacheRows = DOC.caches.map((cache) => {
    const row = make("tr", {}, make("td", {}, cache.name));
    const cells = DOC.columns.map((column) => make("td", { class: classOfColumn(column) }));
    row.append(...cells);
    body.append(row);
    return { row, cells, shown: DOC.columns.map(() => undefined) };
  });
  byId("caches-show").value = DOC.caches.length > CACHES_MANY ? "there" : "all";
  byId("caches-show").addEventListener("change", drawCaches);
  byId("caches-find").addEventListener("input", drawCaches);
  if (!DOC.caches.length) body.append(make("tr", {}, make("td", {}, "No step was about a cache.")));
  table.append(body);
}

/** Which caches are chosen, and how many there are of which kind.  That of the selected step is one unless its name rules it out. */
function chooseCaches(about) {
  const show = byId("caches-show").value;
  const words = byId("caches-find").value.toLowerCase().split(/\s+/).filter(Boolean);
  const counts = new Map();
  let chosen = 0;
  DOC.caches.forEach((cache, index) => {
    const state = valueAt(cache.series[0], selected) ?? "not there yet";
    counts.set(state, (counts.get(state) ?? 0) + 1);
    const fits = show === "all" || state === "dead" || (show === "there" && state === "alive");
    const name = cache.name.toLowerCase();
    const hidden = !((fits || index === about) && words.every((word) => name.includes(word)));
    chosen += hidden ? 0 : 1;
    if (cacheRows[index].row.hidden !== hidden) cacheRows[index].row.hidden = hidden;
  });
  const states = ["alive", "dead", "destroyed", "not there yet"].filter((state) => counts.has(state)).map((state) => `${counts.get(state)} ${state}`);
  byId("caches-count").textContent = DOC.caches.length ? `${chosen} of ${DOC.caches.length} shown: ${states.join(", ")}` : "";
}

function drawCaches() {
  const about = selected < 0 ? undefined : CACHE_OF.get(STEPS.actor[selected]);
  chooseCaches(about);
  DOC.caches.forEach((cache, index) => {
    const { row, cells, shown } = cacheRows[index];
    cache.series.forEach((series, column) => {
      const last = lastUpTo(series, selected, (one) => one[0]);
      const value = last < 0 ? null : series[last][1];
      const fresh = last >= 0 && series[last][0] === selected;
      const key = `${value}|${fresh}`;
      if (shown[column] === key) return;
      shown[column] = key;
      cells[column].textContent = value ?? (DOC.columns[column] === "state" ? "not there yet" : "");
      cells[column].classList.toggle("fresh", fresh);
    });
    const gone = valueAt(cache.series[0], selected) === "destroyed";
    if (row.classList.contains("destroyed") !== gone) row.classList.toggle("destroyed", gone);
    if (row.classList.contains("now") !== (index === about)) row.classList.toggle("now", index === about);
  });
  if (about === undefined || printing || cacheRows[about].row.hidden) return;
  const [box, row] = [byId("caches-scroll"), cacheRows[about].row];
  if (row.offsetTop < box.scrollTop + 34) box.scrollTop = row.offsetTop - 34;
  else if (row.offsetTop + row.offsetHeight > box.scrollTop + box.clientHeight) box.scrollTop = row.offsetTop + row.offsetHeight - box.clientHeight;
}
