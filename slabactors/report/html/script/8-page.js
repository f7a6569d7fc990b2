// What the user does: select a step, filter, zoom, switch.

let selected = COUNT ? (DOC.broke ?? (DOC.bug ? COUNT - 1 : 0)) : -1; // a run is begun at its start, and a bug is where it ends
let passing = null; // the steps that the filter lets through; null when there is none
const waiting = new Set();

/** Do something before the next frame, once. */
function later(job) {
  if (waiting.has(job)) return;
  waiting.add(job);
  requestAnimationFrame(() => {
    waiting.delete(job);
    job();
  });
}

/** Make a step the one that everything is about. */
function select(at, { keep = "" } = {}) {
  if (!COUNT) return;
  selected = clamp(at, 0, COUNT - 1);
  if (keep !== "steps") showRow(selected);
  drawRows();
  if (keep !== "timeline") showStep(selected);
  later(drawTimeline);
  drawState();
  drawCaches();
  markCurves();
  markRace();
  tellWhere();
  keepPlace();
}

function tellWhere() {
  byId("where").textContent = COUNT ? `${numberOf(selected)} of ${grouped(COUNT)} steps` : "no steps";
  byId("spoken").textContent = COUNT ? `${numberOf(selected)}, ${who(selected)}: ${said(selected)}, ${actorOf(selected)}` : "";
}

function keepPlace() {
  try {
    history.replaceState(null, "", `#step=${STEPS.number[selected]}`);
  } catch {
    // A page in a sandbox has no history; nothing is lost but a link to this step.
  }
}

function markRace() {
  for (const row of document.querySelectorAll("#race-table tr[data-at]")) row.classList.toggle("now", Number(row.dataset.at) === selected);
}

/** Go so many steps on among those that the filter lets through. */
function go(by) {
  if (!shownSteps.length) return;
  const here = lastUpTo(shownSteps, selected);
  const exact = shownSteps[here] === selected;
  select(shownSteps[clamp(by < 0 && !exact ? here + by + 1 : here + by, 0, shownSteps.length - 1)]);
}

/** Go to the next step of the same path, or the one before. */
function goInLane(by) {
  if (!COUNT) return;
  const lane = OF_LANE[STEPS.lane[selected]];
  select(lane[clamp(lane.indexOf(selected) + by, 0, lane.length - 1)]);
}

/** Go to the next step that matters for the bug, or the one before. */
function goInRace(by) {
  const steps = [...new Set([...IN_TABLE, ...PAIR, ...(DOC.broke === null ? [] : [DOC.broke])])].sort((a, b) => a - b);
  const next = by > 0 ? steps.find((at) => at > selected) : steps.findLast((at) => at < selected);
  if (next !== undefined) select(next);
}

function goToCause() {
  const causes = selected < 0 ? [] : STEPS.causes[selected];
  const other = causes.filter(([, why]) => why !== OWN).at(-1) ?? causes.at(-1);
  if (other) select(other[0]);
}

const DO = {
  first: () => go(-Infinity),
  last: () => go(Infinity),
  previous: () => go(-1),
  next: () => go(1),
  in: () => zoom(1.5),
  out: () => zoom(1 / 1.5),
  fit,
};

const KEYS = [
  ["Go", [
    [["\u2190", "\u2192"], ["ArrowLeft", "ArrowRight"], "step by step (also k and j, and \u2191 \u2193 in the list)", [() => go(-1), () => go(1)]],
    [["Shift \u2190", "Shift \u2192"], ["Shift+ArrowLeft", "Shift+ArrowRight"], "to the next step of the same path", [() => goInLane(-1), () => goInLane(1)]],
    [["PageUp", "PageDown"], ["PageUp", "PageDown"], "twenty steps", [() => go(-20), () => go(20)]],
    [["Home", "End"], ["Home", "End"], "to the first step, the last one", [DO.first, DO.last]],
    [["p", "n"], ["p", "n"], "to the next step that matters for the bug", [() => goInRace(-1), () => goInRace(1)]],
    [["c"], ["c"], "to what this step comes after, on another path if there is one", [goToCause]],
  ]],
  ["Look", [
    [["/"], ["/"], "filter", [() => byId("filter").select()]],
    [["Esc"], ["Escape"], "clear the filter", [clearFilter]],
    [["+", "-"], ["+", "-"], "zoom (also Ctrl and the wheel)", [DO.in, DO.out]],
    [["0"], ["0"], "the whole run", [fit]],
    [["t"], ["t"], "order of steps, or virtual time", [switchAxis]],
    [["l"], ["l"], "a lane for each path, or for each CPU and thread", [() => foldLanes(!folded)]],
    [["d"], ["d"], "colours: as the system has them, light, dark", [switchTheme]],
    [["?"], ["?"], "this list", [() => byId("keys").showModal()]],
  ]],
];
const ALSO = { j: () => go(1), k: () => go(-1), "=": DO.in };
const BOUND = new Map(Object.entries(ALSO));
for (const [, rows] of KEYS) for (const [, keys, , jobs] of rows) keys.forEach((key, index) => BOUND.set(key, jobs[index]));

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("keys").open) return;
  const target = event.target;
  if (target === byId("filter")) {
    if (event.key === "Escape") clearFilter();
    else if (event.key === "Enter" || event.key === "ArrowDown") byId("steps").focus();
    else return;
    event.preventDefault();
    return;
  }
  if (target.closest("select, textarea")) return;
  const inList = target === byId("steps");
  const arrows = { ArrowUp: () => go(-1), ArrowDown: () => go(1) };
  const arrowed = event.key.startsWith("Arrow") && event.shiftKey ? `Shift+${event.key}` : event.key;
  const job = (inList && arrows[event.key]) || BOUND.get(arrowed);
  if (!job || (target.closest(".scroll, #state") && /^(Page|Home|End)/.test(event.key))) return;
  event.preventDefault();
  job();
}

function clearFilter() {
  byId("filter").value = "";
  filterSteps("");
  byId("steps").focus({ preventScroll: true });
}

function switchAxis() {
  byId("axis").value = byTime ? "order" : "time";
  setAxis(!byTime);
}

// -- colours

const THEMES = ["auto", "light", "dark"];

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  byId("theme").textContent = `Theme: ${theme}`;
}

function switchTheme() {
  const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length];
  setTheme(next);
  try {
    localStorage.setItem("slabactors-theme", next);
  } catch {
    // Files have no storage in some browsers; the choice holds until the page is closed.
  }
}

function keptTheme() {
  try {
    const kept = localStorage.getItem("slabactors-theme");
    return THEMES.includes(kept) ? kept : "auto";
  } catch {
    return "auto";
  }
}

// -- set up

function setUpKeys() {
  const list = byId("keys-list");
  for (const [title, rows] of KEYS) {
    const keys = make("dl");
    for (const [shown, , words] of rows) {
      keys.append(make("dt", {}, ...shown.flatMap((key, index) => (index ? [" ", make("kbd", {}, key)] : [make("kbd", {}, key)]))), make("dd", {}, words));
    }
    list.append(make("h3", {}, title), keys);
  }
  const words = [
    ["lane: path: actor: op: cache: cell:", "a part of the path, the actor, the operation, the cache, the cell that it changes"],
    ["is:changed", "steps that change something"],
    ["is:race", "steps of the race table"],
    ["is:settling", "while the machine settles"],
  ];
  const filters = make("dl");
  for (const [word, meaning] of words) filters.append(make("dt", {}, make("code", {}, word)), make("dd", {}, meaning));
  list.append(make("h3", {}, "Filter words, besides any text; all have to hold"), filters);
}

function setUp() {
  setTheme(keptTheme());
  tellStory();
  if (DOC.table) tellRace();
  if (DOC.search) tellSearch();
  const sections = [...document.querySelectorAll("main section:not([hidden])")];
  byId("sections").append(make("ul", {}, ...sections.map((section) => make("li", {}, make("a", { href: `#${section.id}` }, section.querySelector("h2").textContent)))));
  setUpSteps();
  setUpTimeline();
  setUpCaches();
  setUpCurves();
  setUpLives();
  setUpKeys();
  drawLegend();
  layOut();
  drawOverview();
  drawCurves();
  drawLives();
  document.addEventListener("keydown", onKey);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-step]");
    if (link) return goAndShow(Number(link.dataset.step), link);
    const button = event.target.closest("[data-do]");
    return button && DO[button.dataset.do]();
  });
  byId("filter").addEventListener("input", () => filterSteps(byId("filter").value));
  byId("axis").addEventListener("change", () => setAxis(byId("axis").value === "time"));
  byId("arrows").addEventListener("change", drawTimeline);
  byId("lanes-by").addEventListener("change", () => foldLanes(byId("lanes-by").value === "cpu"));
  byId("theme").addEventListener("click", switchTheme);
  byId("help").addEventListener("click", () => byId("keys").showModal());
  new ResizeObserver(() => later(redraw)).observe(byId("view"));
  window.addEventListener("beforeprint", () => showAll(true));
  window.addEventListener("afterprint", () => showAll(false));
  window.addEventListener("hashchange", () => {
    const asked = askedFor();
    if (asked >= 0) select(asked);
  });
  if (COUNT) start(askedFor() >= 0 ? askedFor() : selected);
  else [drawRows, drawTimeline, drawState, drawCaches, tellWhere].forEach((job) => job());
  document.documentElement.dataset.ready = "true";
}

/** The step that the address names; -1 for none. */
function askedFor() {
  const asked = /^#step=(\d+)$/.exec(location.hash);
  return asked ? STEPS.number.indexOf(Number(asked[1])) : -1;
}

/** As `select`, without a place in the address. */
function start(at) {
  selected = at;
  drawRows(); // the list has to have its height before it can be scrolled
  showRow(at);
  showStep(at);
  [drawRows, drawTimeline, drawState, drawCaches, markCurves, markRace, tellWhere].forEach((job) => job());
}

function goAndShow(at, link) {
  select(at);
  if (link.closest("#story, #race")) byId("run").scrollIntoView();
}

function redraw() {
  const [low, high] = limits();
  scale = clamp(scale, low, high);
  layOut();
  drawTimeline();
  drawOverview();
  drawCurves();
  drawLives();
}

/** Paper has no scrolling: the list shows what there is. */
function showAll(on) {
  printing = on;
  drawRows();
  drawCaches();
}

setUp();
