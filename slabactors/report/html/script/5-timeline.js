// The timeline: a lane for each path, or for each CPU and thread; time from left to right.  Only what is in view is drawn.

const LANE = 28;
const BOX = 18;
const AXIS = 22;
const TIMES = 18; // under the axis of steps: when they were
const WIDEST = 16e6; // pixels; browsers lay out no more than about twice that
const ARROWS_MAX = 60; // more of them cannot be told apart
const FOLD_AT = 40; // more paths than that are shown by the CPU or thread that they run on
const LONG = { steps: 2000, seconds: 60 }; // of a run that is first shown over virtual time
const WHOLE_AT = 26; // pixels a step: a run that has that much room is shown whole
const READABLE = 118;
const NEAREST = { order: 320, time: 400 };
let scale = 1; // pixels a step, or a jiffy

const START = COUNT ? STEPS.jiffies[0] : 0;
const END = COUNT ? STEPS.jiffies[COUNT - 1] : 0;
let byTime = COUNT > LONG.steps && (END - START) / DOC.hz >= LONG.seconds && DOC.broke === null;
let folded = DOC.lanes.length > FOLD_AT;
let lines = []; // what is drawn one below the other: a name, what it stands for, and the steps in it
let lineOf = []; // the line of each lane
const lineAt = (at) => lineOf[STEPS.lane[at]];

// Steps before which virtual time has passed.
const BURSTS = [];
for (let at = 1; at < COUNT; at++) if (STEPS.jiffies[at] !== STEPS.jiffies[at - 1]) BURSTS.push(at);
const axisHeight = () => AXIS + (byTime || !BURSTS.length ? 0 : TIMES);

/** Work out the lines: every path, or every CPU with all paths that ran on it, then the threads, then the timers. */
function setLines(fold) {
  folded = fold;
  if (!fold) {
    lines = DOC.lanes.map(({ who, path }, lane) => ({ name: who, title: path, steps: OF_LANE[lane] }));
    lineOf = DOC.lanes.map((_, lane) => lane);
    return;
  }
  const rank = (name) => [/^cpu\d/, /^kworker/, /./].findIndex((one) => one.test(name)) + (name === "timer" ? 1 : 0);
  const places = [...new Set(DOC.lanes.map((lane) => lane.runs_on))];
  places.sort((one, other) => (one && rank(one)) - (other && rank(other)) || one.localeCompare(other, "en", { numeric: true }));
  lineOf = DOC.lanes.map((lane) => places.indexOf(lane.runs_on));
  lines = places.map((name, line) => {
    const paths = DOC.lanes.filter((_, lane) => lineOf[lane] === line);
    const label = paths.length === 1 ? paths[0].who : name === "timer" ? "timers" : name || "no CPU";
    return { name: label, title: `${label}: ${paths.length} ${paths.length === 1 ? "path" : "paths"}`, steps: [] };
  });
  for (let at = 0; at < COUNT; at++) lines[lineOf[STEPS.lane[at]]].steps.push(at);
}

function foldLanes(fold) {
  setLines(fold);
  byId("lanes-by").value = fold ? "cpu" : "path";
  measure();
  layOut();
  showStep(selected);
  drawTimeline();
  drawOverview();
}

/** As tall as the lines are, up to a part of the window. */
function measure() {
  const height = Math.min(axisHeight() + lines.length * LANE + 8, Math.max(220, Math.round(window.innerHeight * 0.42)));
  byId("view").style.height = `${height + 14}px`;
  byId("lanes").style.height = `${height + 14}px`;
}
const span = () => (byTime ? Math.max(1, END - START) + 1 : Math.max(1, COUNT));
const placeOf = (at) => (byTime ? STEPS.jiffies[at] - START : at);
const room = () => byId("view").clientWidth;
const AFTER = 76; // room for what stands beside the last box, by time
const limits = () => [Math.min((room() - (byTime ? AFTER : 0)) / span(), byTime ? NEAREST.time : NEAREST.order), Math.min(byTime ? NEAREST.time : NEAREST.order, WIDEST / span())];

function setUpTimeline() {
  const view = byId("view");
  setLines(folded);
  byId("lanes-by").value = folded ? "cpu" : "path";
  byId("axis").value = byTime ? "time" : "order";
  measure();
  view.addEventListener("scroll", () => later(drawTimeline));
  view.addEventListener("click", (event) => {
    const at = event.target.dataset.at;
    if (at !== undefined) return select(Number(at), { keep: "timeline" });
    return select(nearestTo(event), { keep: "timeline" });
  });
  view.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoom(event.deltaY < 0 ? 1.25 : 0.8, event.clientX - view.getBoundingClientRect().left);
  }, { passive: false });
  byId("overview").addEventListener("click", (event) => {
    const box = byId("overview").getBoundingClientRect();
    const at = stepAt(((event.clientX - box.left) / box.width) * span());
    select(at);
  });
  scale = firstScale();
}

/** Short runs are seen as a whole, of others as much as can be read. */
function firstScale() {
  const [low, high] = limits();
  if (byTime || low >= WHOLE_AT) return low;
  return clamp(READABLE, low, high);
}

/** The step at a place of the axis. */
function stepAt(place) {
  if (!byTime) return clamp(Math.floor(place), 0, COUNT - 1);
  return clamp(lastUpTo(STEPS.jiffies, START + place), 0, COUNT - 1);
}

/** The step of the lane that was clicked on which is nearest. */
function nearestTo(event) {
  const view = byId("view");
  const box = view.getBoundingClientRect();
  const place = (event.clientX - box.left + view.scrollLeft) / scale;
  const lane = lines[Math.floor((event.clientY - box.top + view.scrollTop - axisHeight()) / LANE)]?.steps;
  if (!lane) return stepAt(place);
  const index = Math.max(0, lastUpTo(lane, place, (at) => placeOf(at)));
  const [before, after] = [lane[index], lane[Math.min(index + 1, lane.length - 1)]];
  return Math.abs(placeOf(after) - place) < Math.abs(placeOf(before) - place) ? after : before;
}

function zoom(factor, anchor = null) {
  const view = byId("view");
  const [low, high] = limits();
  const before = scale;
  const fixed = anchor ?? clamp(placeOf(selected) * scale - view.scrollLeft, 0, room());
  const place = (view.scrollLeft + fixed) / before;
  scale = clamp(scale * factor, low, high);
  layOut();
  view.scrollLeft = place * scale - fixed;
  drawTimeline();
  drawOverview();
}

function fit() {
  scale = limits()[0];
  layOut();
  drawTimeline();
  drawOverview();
}

function setAxis(time) {
  byTime = time;
  scale = firstScale();
  measure();
  layOut();
  showStep(selected);
  drawTimeline();
  drawOverview();
  drawCurves();
  drawLives();
}

function layOut() {
  const extent = byId("extent");
  extent.style.width = `${Math.max(1, Math.floor(span() * scale + (byTime ? AFTER : 0)) - 1)}px`;
  extent.style.height = `${axisHeight() + lines.length * LANE}px`;
}

function showStep(at) {
  const view = byId("view");
  const left = placeOf(at) * scale;
  const width = byTime ? 12 : scale;
  const margin = Math.min(140, room() / 4);
  if (left < view.scrollLeft + margin) view.scrollLeft = left - margin;
  else if (left + width > view.scrollLeft + room() - margin) view.scrollLeft = left + width + margin - room();
  const top = lineAt(at) * LANE;
  const tall = view.clientHeight - axisHeight();
  if (top < view.scrollTop) view.scrollTop = top;
  else if (top + LANE > view.scrollTop + tall) view.scrollTop = top + LANE - tall;
}

function drawTimeline() {
  const view = byId("view");
  const [left, top, width, height] = [view.scrollLeft, view.scrollTop, room(), view.clientHeight];
  const [first, last] = [stepAt(left / scale - 1), stepAt((left + width) / scale)];
  const lanes = [Math.floor(top / LANE), Math.min(lines.length - 1, Math.floor((top + height - axisHeight()) / LANE))];
  const svg = draw("svg", { width, height, role: "img", "aria-label": COUNT ? `Steps ${numberOf(first)} to ${numberOf(last)} of ${grouped(COUNT)}` : "No steps" });
  const area = draw("g", { transform: `translate(0 ${axisHeight() - top})` });
  for (let lane = lanes[0]; lane <= lanes[1] + 1; lane++) area.append(draw("line", { class: "ruler", x1: 0, x2: width, y1: lane * LANE - 0.5, y2: lane * LANE - 0.5 }));
  if (COUNT) {
    const cover = draw("svg", { width, height: Math.max(0, height - axisHeight()), y: axisHeight() });
    area.setAttribute("transform", `translate(0 ${-top})`);
    cover.append(area);
    if (DOC.settles !== null) {
      const x = Math.round(placeOf(DOC.settles) * scale - left) + 0.5;
      if (x >= 0 && x <= width) area.append(draw("line", { class: "settles", x1: x, x2: x, y1: 0, y2: lines.length * LANE }));
    }
    if (!byTime && scale >= 7) {
      for (const at of BURSTS.slice(lastUpTo(BURSTS, first) + 1, lastUpTo(BURSTS, last) + 1)) {
        const x = Math.round(at * scale - left) + 0.5;
        area.append(draw("line", { class: "burst", x1: x, x2: x, y1: 0, y2: lines.length * LANE }));
      }
    }
    drawArrows(area, first, last, left, lanes, "all");
    if (byTime || scale < 7) drawGroups(area, first, last, left, lanes);
    else drawBoxes(area, first, last, left, lanes);
    drawArrows(area, first, last, left, lanes, "selected");
    svg.append(cover, drawAxis(left, width));
  }
  byId("canvas").replaceChildren(svg);
  drawLabels(lanes, top, height);
  drawWindow();
}

function drawAxis(left, width) {
  const axis = draw("g");
  axis.append(draw("line", { class: "axis", x1: 0, x2: width, y1: AXIS - 0.5, y2: AXIS - 0.5 }));
  const unit = byTime ? DOC.hz : 1;
  const origin = byTime ? START : 0;
  const [low, high] = [(left / scale + origin) / unit, ((left + width) / scale + origin) / unit];
  const each = Math.max(2, Math.floor(width / 130));
  for (const [tick, text] of byTime ? timeTicks(low, high, each) : ticks(low, high, each).filter((one) => Number.isInteger(one) && one >= 0 && one < COUNT).map((one) => [one, numberOf(one)])) {
    const x = (tick * unit - origin) * scale - left + (byTime ? 0 : scale / 2);
    if (x < 0 || x > width) continue;
    const anchor = x < 24 ? "start" : x > width - 40 ? "end" : "middle";
    axis.append(draw("line", { class: "axis", x1: x, x2: x, y1: AXIS - 5, y2: AXIS }), draw("text", { class: "quiet", x: anchor === "start" ? Math.max(2, x - 10) : x, y: 13, "text-anchor": anchor }, text));
  }
  if (axisHeight() > AXIS) axis.append(...timesOf(left, width));
  return axis;
}

/** Under the order of steps: at what time the first one in view was, and where time has passed since the step before. */
function timesOf(left, width) {
  const parts = [draw("line", { class: "axis", x1: 0, x2: width, y1: AXIS + TIMES - 0.5, y2: AXIS + TIMES - 0.5 })];
  const first = stepAt(left / scale);
  const begun = lastUpTo(BURSTS, first) + 1;
  let free = 4;
  const write = (x, at) => {
    const text = `${secondsOf(STEPS.jiffies[at])} s`;
    parts.push(draw("text", { class: "quiet", x, y: AXIS + 13 }, text));
    free = x + text.length * CHARACTER + 12;
  };
  const next = begun < BURSTS.length ? BURSTS[begun] * scale - left : Infinity;
  if (next > 80) write(4, first);
  for (let index = begun; index < BURSTS.length; index++) {
    const x = BURSTS[index] * scale - left;
    if (x > width - 60) break;
    if (x < free) {
      // As many bursts may be in the same pixels: on to the first one that has room.
      index = Math.max(index, lastUpTo(BURSTS, (left + free) / scale) - 1);
      continue;
    }
    parts.push(draw("line", { class: "burst", x1: Math.round(x) + 0.5, x2: Math.round(x) + 0.5, y1: AXIS, y2: AXIS + TIMES }));
    write(x + 4, BURSTS[index]);
  }
  return parts;
}

const classOf = (at) => [changes(at) ? "" : "look", at === DOC.broke ? "broke" : "", passing && !passing.has(at) ? "dim" : ""].filter(Boolean).join(" ");

/** A box for each step. */
function drawBoxes(area, first, last, left, lanes) {
  const marked = [];
  for (let at = first; at <= last; at++) {
    const lane = lineAt(at);
    if (lane < lanes[0] || lane > lanes[1]) continue;
    const width = Math.max(3, scale - 4);
    const [x, y] = [at * scale - left + 2, lane * LANE + (LANE - BOX) / 2];
    const kind = classOf(at);
    const box = draw("rect", { class: `box ${kind}${PAIR.has(at) ? " pair" : ""}${at === selected ? " now" : ""}`, x, y, width, height: BOX, rx: 2, "data-at": at }, draw("title", {}, `${numberOf(at)} ${who(at)}: ${said(at)} [${actorOf(at)}]`));
    const text = width >= 56 ? fitting(doesOf(at), width - 10) : fitting(`${STEPS.number[at]}`, width - 2, 6.7);
    const words = text ? draw("text", { class: `in ${kind}`, x: width >= 56 ? x + 5 : x + width / 2, y: y + 13, "text-anchor": width >= 56 ? "start" : "middle" }, text) : "";
    if (at === selected || PAIR.has(at)) marked.push(box, words);
    else area.append(box, words);
  }
  area.append(...marked); // their outlines are not covered by neighbours
}

/** What happened in the same pixels as one box, with how many steps it stands for. */
function drawGroups(area, first, last, left, lanes) {
  const least = byTime ? 6 : 2;
  for (let lane = lanes[0]; lane <= lanes[1]; lane++) {
    const { steps } = lines[lane];
    const y = lane * LANE + (LANE - BOX) / 2;
    let index = Math.max(0, lastUpTo(steps, first - 1) + 1);
    let [plain, dim] = ["", ""];
    while (index < steps.length && steps[index] <= last) {
      const begin = index;
      const x = placeOf(steps[index]) * scale - left;
      while (index < steps.length && steps[index] <= last && placeOf(steps[index]) * scale - left < x + least) index++;
      const width = Math.max(least - 1, (placeOf(steps[index - 1]) - placeOf(steps[begin])) * scale + (byTime ? least - 1 : Math.max(1, scale - 0.5)));
      const box = `M${x.toFixed(1)} ${y}h${width.toFixed(1)}v${BOX}h-${width.toFixed(1)}z`;
      let passes = !passing;
      for (let one = begin; one < index && !passes; one++) passes = passing.has(steps[one]);
      if (passes) plain += box;
      else dim += box;
      const next = index < steps.length ? placeOf(steps[index]) * scale - left : Infinity;
      if (byTime && index - begin > 1 && next - x > 60) area.append(draw("text", { class: "quiet", x: x + width + 4, y: y + 13 }, `${index - begin} steps`));
    }
    if (plain) area.append(draw("path", { class: "bar-of", d: plain }));
    if (dim) area.append(draw("path", { class: "bar-of dim", d: dim }));
  }
  const special = [...new Set([...PAIR, DOC.broke, selected])].filter((at) => at !== null && at >= first && at <= last && lineAt(at) >= lanes[0] && lineAt(at) <= lanes[1]);
  for (const at of special) {
    const kind = `${at === DOC.broke ? "broke" : ""}${PAIR.has(at) ? " pair" : ""}${at === selected ? " now" : ""}`;
    area.append(draw("rect", { class: `box ${kind}`, x: placeOf(at) * scale - left - 1, y: lineAt(at) * LANE + (LANE - BOX) / 2, width: Math.max(5, byTime ? 5 : scale), height: BOX, rx: 1, "data-at": at }));
  }
}

/** Arrows for causes between paths: of all steps in view, or of the selected one, over everything else.

They run between the lanes and turn in the column of the step that they lead to, where no other box is. */
function drawArrows(area, first, last, left, lanes, which) {
  const wanted = byId("arrows").value;
  if (wanted === "none") return;
  const found = [];
  if (which === "selected") {
    for (const [cause, why] of STEPS.causes[selected]) if (why !== OWN) found.push([cause, selected, why]);
    for (const [effect, why] of EFFECTS.get(selected) ?? []) found.push([selected, effect, why]);
  } else {
    byId("crowded").hidden = true;
    if (wanted !== "all" || byTime || scale < 7) return;
    for (let at = first; at <= last && found.length <= ARROWS_MAX; at++) {
      for (const [cause, why] of STEPS.causes[at]) if (why !== OWN && cause !== selected && at !== selected && crosses(cause, at, lanes)) found.push([cause, at, why]);
      const out = new Set(); // what leads out of view looks the same wherever it ends: once up, once down, of each kind
      for (const [effect, why] of EFFECTS.get(at) ?? []) {
        if (effect <= last || at === selected || !crosses(at, effect, lanes)) continue;
        const way = why * 2 + (lineAt(effect) > lineAt(at) ? 1 : 0);
        if (!out.has(way)) found.push([at, effect, why]);
        out.add(way);
      }
    }
    if (found.length > ARROWS_MAX) {
      byId("crowded").textContent = `More than ${ARROWS_MAX} arrows would be in view: only those of the selected step are drawn. Zoom in (+) for the others.`;
      byId("crowded").hidden = false;
      return;
    }
  }
  const middle = byTime ? 3 : Math.max(3, scale - 4) / 2 + 2;
  const strength = which === "selected" ? "strong" : "faint";
  for (const [cause, effect, why] of found.slice(0, ARROWS_MAX)) {
    const [from, to] = [lineAt(cause), lineAt(effect)];
    if (Math.max(from, to) < lanes[0] || Math.min(from, to) > lanes[1]) continue;
    if (from === to) {
      area.append(...within(from, placeOf(cause) * scale - left + middle, placeOf(effect) * scale - left + middle, `${WHY[why]} ${strength}`));
      continue;
    }
    const down = to > from ? 1 : -1;
    const x1 = clamp(placeOf(cause) * scale - left + middle, -40, room() + 40);
    const x2 = clamp(placeOf(effect) * scale - left + middle - Math.min(5, middle / 2), -40, room() + 40);
    const [y1, y2] = [from * LANE + LANE / 2 + (down * BOX) / 2, to * LANE + LANE / 2 - (down * BOX) / 2];
    const between = (from + (down + 1) / 2) * LANE + ((cause % 3) - 1) * 2;
    const turn = Math.min(4, Math.abs(x2 - x1) / 2, Math.abs(between - y1), Math.abs(y2 - down * 5 - between));
    const side = x2 >= x1 ? turn : -turn;
    const tip = y2 - down * 5;
    area.append(
      draw("path", { class: `arrow ${WHY[why]} ${strength}`, d: `M${x1.toFixed(1)} ${y1}V${between - down * turn}q0 ${down * turn} ${side} ${down * turn}H${(x2 - side).toFixed(1)}q${side} 0 ${side} ${down * turn}V${tip}` }),
      draw("path", { class: `head ${WHY[why]} ${strength}`, d: `M${x2.toFixed(1)} ${y2}l-3.5 ${-down * 6}h7z` }));
  }
}

/** Whether an arrow leads from one line to another, and one of them is in view. */
function crosses(cause, effect, lanes) {
  const [from, to] = [lineAt(cause), lineAt(effect)];
  return from !== to && Math.max(from, to) >= lanes[0] && Math.min(from, to) <= lanes[1];
}

/** An arrow from one path to another on the same CPU, above their boxes. */
function within(line, from, to, kind) {
  const y = line * LANE + (LANE - BOX) / 2;
  const [x1, x2] = [clamp(from, -40, room() + 40), clamp(to, -40, room() + 40)];
  return [
    draw("path", { class: `arrow ${kind}`, d: `M${x1.toFixed(1)} ${y}V${y - 3.5}H${x2.toFixed(1)}V${y}` }),
    draw("path", { class: `head ${kind}`, d: `M${x2.toFixed(1)} ${y + 1}l-3 -4.5h6z` })];
}

function drawLabels(lanes, top, height) {
  const box = byId("lanes");
  const width = box.clientWidth;
  const svg = draw("svg", { width, height });
  for (let lane = lanes[0]; lane <= lanes[1]; lane++) {
    const y = axisHeight() + lane * LANE - top;
    if (y < axisHeight() - LANE) continue;
    const current = selected >= 0 && lineAt(selected) === lane;
    const label = draw("text", { class: `label${current ? "" : " quiet"}`, x: 10, y: y + 18, "font-weight": current ? 600 : 400 }, fitting(lines[lane].name, width - 20, 6.9));
    label.append(draw("title", {}, lines[lane].title));
    svg.append(draw("line", { class: "ruler", x1: 0, x2: width, y1: y + LANE - 0.5, y2: y + LANE - 0.5 }), label);
  }
  svg.append(draw("rect", { x: 0, y: 0, width, height: axisHeight(), fill: "var(--panel)" }), draw("line", { class: "axis", x1: 0, x2: width, y1: axisHeight() - 0.5, y2: axisHeight() - 0.5 }), draw("text", { class: "label quiet", x: 10, y: 15 }, folded ? "CPU or thread" : "Path"));
  if (axisHeight() > AXIS) svg.append(draw("text", { class: "label quiet", x: width - 8, y: AXIS + 12, "text-anchor": "end" }, "virtual time"));
  box.replaceChildren(svg);
}

// -- the whole run in a strip above it

function drawOverview() {
  const box = byId("overview");
  const [width, height] = [box.clientWidth, box.clientHeight];
  if (!height) return; // on paper it is left out
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none" });
  const tall = Math.max(1, (height - 6) / Math.max(1, lines.length));
  const [plain, dim] = [[], []];
  lines.forEach(({ steps }, lane) => {
    const seen = new Set();
    for (const at of steps) {
      const x = Math.floor((placeOf(at) / span()) * width);
      const passes = !passing || passing.has(at);
      const key = passes ? x : -1 - x;
      if (seen.has(key)) continue;
      seen.add(key);
      (passes ? plain : dim).push(`M${x} ${(3 + lane * tall).toFixed(1)}h${Math.max(1, (byTime ? 2 : width / span()) - 0.4).toFixed(1)}v${Math.max(0.8, tall * 0.8).toFixed(1)}h-${Math.max(1, (byTime ? 2 : width / span()) - 0.4).toFixed(1)}z`);
    }
  });
  svg.append(draw("path", { class: "bar-of dim", d: dim.join("") }), draw("path", { class: "bar-of", d: plain.join("") }));
  svg.append(draw("rect", { class: "window", id: "window", y: 0.5, height: height - 1 }), draw("line", { class: "cursor", id: "overview-cursor", y1: 0, y2: height }));
  box.replaceChildren(svg);
  drawWindow();
}

function drawWindow() {
  const frame = byId("window");
  if (!frame) return;
  const view = byId("view");
  const width = byId("overview").clientWidth;
  const share = width / (span() * scale);
  frame.setAttribute("x", (view.scrollLeft * share).toFixed(1));
  frame.setAttribute("width", Math.max(3, Math.min(width, room() * share)).toFixed(1));
  const cursor = byId("overview-cursor");
  const x = selected < 0 ? -9 : ((placeOf(selected) + (byTime ? 0 : 0.5)) / span()) * width;
  cursor.setAttribute("x1", x);
  cursor.setAttribute("x2", x);
}

function drawLegend() {
  const sample = (kind) => draw("svg", { width: 26, height: 14 }, draw("rect", { class: `box ${kind}`, x: 2, y: 2, width: 22, height: 10, rx: 2 }));
  const arrow = (kind) => draw("svg", { width: 30, height: 14 }, draw("path", { class: `arrow ${kind}`, d: "M1 7H23" }), draw("path", { class: `head ${kind}`, d: "M29 7l-7 -3.5v7z" }));
  const kinds = new Set(STEPS.causes.flat().map(([, why]) => why));
  const parts = [[sample(""), "changes something"], [sample("look"), "only looks"]];
  if (PAIR.size) parts.push([sample("pair"), "the two whose order decides"]);
  if (DOC.broke !== null) parts.push([sample("broke"), "breaks"]);
  const names = { [STARTED]: "starts the path", [JOINED]: "is waited for", [MET]: "meets in a cell", [CLOCK]: "by the clock" };
  for (const [why, words] of Object.entries(names)) if (kinds.has(Number(why))) parts.push([arrow(WHY[why]), words]);
  if (DOC.settles !== null) parts.push([draw("svg", { width: 8, height: 14 }, draw("line", { class: "settles", x1: 4, x2: 4, y1: 0, y2: 14 })), "from here on the machine settles"]);
  if (BURSTS.length) parts.push([draw("svg", { width: 8, height: 14 }, draw("line", { class: "burst", x1: 4, x2: 4, y1: 0, y2: 14 })), "virtual time has passed"]);
  byId("legend").append(...parts.map(([picture, words]) => make("span", {}, picture, words)));
}
