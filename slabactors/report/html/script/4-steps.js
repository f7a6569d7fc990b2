// The list of steps: as many rows as fit are in the page, whatever there is.

const ROW = 24;
const PRINTED = 400;
let shownSteps = Array.from({ length: COUNT }, (_, at) => at);
let printing = false;

function setUpSteps() {
  byId("steps").style.height = `${clamp(COUNT, 8, 20) * ROW + 2}px`;
  byId("head").append(...["Step", "Seconds", "Path", "What it did", "Actor"].map((text, index) =>
    make("span", { class: index < 2 ? "num" : index === 4 ? "of" : "" }, text)));
  byId("steps").addEventListener("scroll", () => later(drawRows));
  byId("rows").addEventListener("click", (event) => {
    const row = event.target.closest(".row");
    if (row) select(Number(row.dataset.at), { keep: "steps" });
  });
}

function rowOf(at, place) {
  const classes = ["row", changes(at) ? "" : "look", PAIR.has(at) ? "pair" : "", at === DOC.broke ? "broke" : ""];
  const row = make("div", {
    class: classes.filter(Boolean).join(" "), id: `step-${at}`, role: "option", "data-at": at,
    "aria-selected": at === selected, "aria-posinset": place + 1, "aria-setsize": shownSteps.length,
    title: `${who(at)}: ${said(at)} [${actorOf(at)}]`,
  },
  make("span", { class: "num" }, numberOf(at)),
  make("span", { class: "num time" }, secondsOf(STEPS.jiffies[at])),
  make("span", {}, who(at)),
  make("span", { class: "what" }, at === DOC.broke ? `${said(at)}  breaks` : said(at)),
  make("span", { class: "of" }, actorOf(at)));
  row.style.top = `${place * ROW}px`;
  return row;
}

function drawRows() {
  const box = byId("steps");
  const rows = byId("rows");
  rows.style.height = `${Math.max(1, shownSteps.length) * ROW}px`;
  let first = Math.max(0, Math.floor(box.scrollTop / ROW) - 4);
  let last = Math.min(shownSteps.length, Math.ceil((box.scrollTop + box.clientHeight) / ROW) + 4);
  if (printing) {
    first = clamp(lastUpTo(shownSteps, selected) - PRINTED / 2, 0, Math.max(0, shownSteps.length - PRINTED));
    last = Math.min(shownSteps.length, first + PRINTED);
  }
  const drawn = [];
  for (let place = first; place < last; place++) drawn.push(rowOf(shownSteps[place], place));
  if (!drawn.length) drawn.push(make("div", { class: "empty" }, COUNT ? "No step passes the filter; Esc clears it." : "The run has no step."));
  rows.replaceChildren(...drawn);
  const there = drawn.some((row) => row.id === `step-${selected}`);
  if (there) box.setAttribute("aria-activedescendant", `step-${selected}`);
  else box.removeAttribute("aria-activedescendant");
}

function showRow(at) {
  const place = lastUpTo(shownSteps, at);
  const box = byId("steps");
  const top = Math.max(0, place) * ROW;
  if (top < box.scrollTop) box.scrollTop = top - ROW;
  else if (top + ROW > box.scrollTop + box.clientHeight) box.scrollTop = top + 2 * ROW - box.clientHeight;
}

/** Let a filter choose the steps that are listed; the selected one becomes one of them. */
function filterSteps(text) {
  const test = testOf(text);
  shownSteps = [];
  for (let at = 0; at < COUNT; at++) if (test(at)) shownSteps.push(at);
  passing = text.trim() ? new Set(shownSteps) : null;
  byId("matches").textContent = passing ? `${grouped(shownSteps.length)} of ${grouped(COUNT)}` : "";
  if (shownSteps.length && passing && !passing.has(selected)) {
    const nearest = clamp(lastUpTo(shownSteps, selected) + 1, 0, shownSteps.length - 1);
    select(shownSteps[nearest]);
  }
  drawRows();
  showRow(selected);
  later(drawTimeline);
  later(drawOverview);
}
