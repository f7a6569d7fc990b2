// Curves of what is added up over all caches, over virtual time or the order of steps.

const EDGE = { left: 46, right: 14, top: 10, bottom: 24 };
const TALL = 130;
const POINTS_MAX = 1500;
const CURVES = DOC.totals.filter(({ series }) => series.some(([, value]) => value !== 0));
let figures = [];

function setUpCurves() {
  if (!CURVES.length) {
    byId("curves").append(make("p", { class: "muted" }, "Nothing that could be drawn has changed."));
    return;
  }
  for (const { name } of CURVES) {
    const value = make("output");
    const picture = make("div");
    byId("curves").append(make("figure", {}, make("figcaption", {}, make("span", {}, name), value), picture));
    figures.push({ picture, value });
    picture.addEventListener("click", (event) => {
      const box = picture.getBoundingClientRect();
      const place = ((event.clientX - box.left - EDGE.left) / (box.width - EDGE.left - EDGE.right)) * span();
      select(stepAt(clamp(place, 0, span())));
    });
  }
}

const curvePlace = (at, width) => EDGE.left + ((at < 0 ? 0 : placeOf(at) + (byTime ? 0 : 0.5)) / span()) * (width - EDGE.left - EDGE.right);

/** The round times or numbers of steps below a picture. */
function marksBelow(width, height, placed) {
  const [unit, origin] = byTime ? [DOC.hz, START] : [1, 0];
  const [low, high] = [origin / unit, (origin + span() - 1) / unit];
  const marks = byTime ? timeTicks(low, high, 5) : ticks(low, high, 5).filter((tick) => Number.isInteger(tick) && tick < COUNT).map((tick) => [tick, numberOf(tick)]);
  return marks.map(([tick, text]) => {
    const x = placed(tick * unit - origin + (byTime ? 0 : 0.5));
    return draw("text", { class: "quiet", x: Math.min(x, width - 4), y: height - 6, "text-anchor": x > width - 50 ? "end" : "middle" }, text);
  });
}

/** A number with its unit, which is a plural. */
const withUnit = (value, unit) => `${grouped(value)} ${value === 1 ? unit.replace(/s$/, "") : unit}`;

function drawCurves() {
  byId("plots-note").textContent = `Added up over all caches, over ${byTime ? "virtual time, as each jiffy left it" : "the order of steps"}; the axis is switched above the timeline (t).`;
  CURVES.forEach(({ name, unit, series: all }, index) => {
    const { picture } = figures[index];
    const series = byTime ? lasting(all) : all;
    const width = Math.max(200, picture.clientWidth);
    const high = Math.max(1, ...series.map(([, value]) => value));
    const grid = ticks(0, high, 3);
    if (grid.at(-1) < high) grid.push(2 * grid.at(-1) - grid.at(-2));
    const top = grid.at(-1);
    const y = (value) => TALL - EDGE.bottom - (value / top) * (TALL - EDGE.top - EDGE.bottom);
    const svg = draw("svg", { viewBox: `0 0 ${width} ${TALL}`, role: "img", "aria-label": `${name}: from ${series[0][1]} to ${series.at(-1)[1]}, at most ${high} ${unit}` });
    for (const tick of grid.filter(Number.isInteger)) {
      svg.append(draw("line", { class: "ruler", x1: EDGE.left, x2: width - EDGE.right, y1: Math.round(y(tick)) + 0.5, y2: Math.round(y(tick)) + 0.5 }), draw("text", { class: "quiet", x: EDGE.left - 8, y: y(tick) + 4, "text-anchor": "end" }, grouped(tick)));
    }
    svg.append(...marksBelow(width, TALL, (origin) => EDGE.left + (origin / span()) * (width - EDGE.left - EDGE.right)));
    if (series.every(([, value]) => value === 0)) svg.append(draw("text", { class: "quiet", x: width / 2, y: TALL / 2, "text-anchor": "middle" }, "comes and goes within single jiffies"));
    svg.append(draw("path", { class: "curve", d: curveOf(series, width, y) }));
    svg.append(draw("line", { class: "cursor", y1: EDGE.top, y2: TALL - EDGE.bottom }), draw("circle", { class: "dot", r: 3 }));
    picture.replaceChildren(svg);
    figures[index].y = y;
    figures[index].width = width;
  });
  markCurves();
}

/** What a series has when each jiffy is over: what comes and goes within one has no width over virtual time. */
function lasting(series) {
  const kept = [];
  for (const point of series) {
    const last = kept.at(-1);
    if (last && last[0] >= 0 && STEPS.jiffies[last[0]] === STEPS.jiffies[point[0]]) kept.pop();
    kept.push(point);
  }
  return kept;
}

/** A line of steps; where there are more of them than pixels, what is lowest and highest in each. */
function curveOf(series, width, y) {
  const path = [];
  const right = (width - EDGE.right).toFixed(1);
  if (series.length <= POINTS_MAX) {
    for (const [at, value] of series) path.push(path.length ? `H${curvePlace(at, width).toFixed(1)}V${y(value).toFixed(1)}` : `M${EDGE.left} ${y(value).toFixed(1)}`);
    return `${path.join("")}H${right}`;
  }
  let [column, low, high, last] = [EDGE.left, null, null, series[0][1]];
  path.push(`M${EDGE.left} ${y(last).toFixed(1)}`);
  const close = () => {
    if (low === null) return;
    path.push(`H${column}V${y(low).toFixed(1)}V${y(high).toFixed(1)}V${y(last).toFixed(1)}`);
  };
  for (const [at, value] of series) {
    const x = Math.round(curvePlace(at, width));
    if (x !== column) {
      close();
      [column, low, high] = [x, last, last];
    }
    low = Math.min(low ?? value, value);
    high = Math.max(high ?? value, value);
    last = value;
  }
  close();
  return `${path.join("")}H${right}`;
}

function markCurves() {
  markLives();
  CURVES.forEach(({ series, unit }, index) => {
    const { picture, value, y, width } = figures[index];
    const svg = picture.firstChild;
    if (!svg) return;
    const now = valueAt(series, selected) ?? 0;
    value.textContent = `${withUnit(now, unit)}${selected >= 0 ? ` after ${numberOf(selected)}` : ""}`;
    const x = curvePlace(selected, width).toFixed(1);
    const [cursor, dot] = [svg.querySelector(".cursor"), svg.querySelector(".dot")];
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    dot.setAttribute("cx", x);
    dot.setAttribute("cy", y(now));
  });
}
