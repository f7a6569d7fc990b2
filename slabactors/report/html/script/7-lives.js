// Child caches over the run: a line while one is alive, a bar while it is dead, up to where it is destroyed.

const LIFE = { tall: 15, name: 190, after: 86, foot: 24 };
const LIVES_MIN = 3; // fewer are seen in the table
const CHILDREN = DOC.caches.map((cache, index) => ({ ...cache, index })).filter(({ root }) => root !== null);
const firstOf = (cache, state) => cache.series[0].find(([, value]) => value === state)?.[0] ?? null;
let livesWidth = 0;

function setUpLives() {
  if (CHILDREN.length < LIVES_MIN) return;
  byId("lives").hidden = false;
  const sample = (kind, x, width, height) => draw("svg", { width: 26, height: 14 }, draw("rect", { class: kind, x, y: (14 - height) / 2, width, height }));
  const parts = [[sample("life", 1, 24, 2), "alive"], [sample("dying", 1, 24, 9), "dead, and destroyed at its end"], [sample("leaked", 1, 24, 9), "dead, and still there when the run ended"]];
  byId("lives-legend").append(...parts.map(([picture, words]) => make("span", {}, picture, words)));
  byId("lives-picture").addEventListener("click", (event) => {
    const box = byId("lives-picture").getBoundingClientRect();
    const place = ((event.clientX - box.left - LIFE.name) / (livesWidth - LIFE.name - LIFE.after)) * span();
    select(stepAt(clamp(place, 0, span())));
  });
}

const lifePlace = (place) => LIFE.name + (clamp(place, 0, span()) / span()) * (livesWidth - LIFE.name - LIFE.after);
const lifeAt = (at) => lifePlace(at < 0 ? 0 : placeOf(at));

/** For how long a cache was dead. */
function dyingWords(died, gone) {
  if (gone === null) return "still there";
  const jiffies = STEPS.jiffies[gone] - (died < 0 ? START : STEPS.jiffies[died]);
  return jiffies ? `${(jiffies / DOC.hz).toFixed(jiffies < 100 * DOC.hz ? 2 : 0)} s` : "at once";
}

function drawLives() {
  if (byId("lives").hidden) return;
  livesWidth = Math.max(520, byId("lives-picture").clientWidth);
  const height = CHILDREN.length * LIFE.tall + LIFE.foot;
  const svg = draw("svg", { width: livesWidth, height, role: "img", "aria-label": `${CHILDREN.length} child caches; what became of each is in the table of caches` });
  const end = lifePlace(span());
  CHILDREN.forEach((cache, line) => {
    const [y, born] = [line * LIFE.tall, Math.max(-1, cache.series[0][0]?.[0] ?? -1)];
    const [died, gone] = [firstOf(cache, "dead"), firstOf(cache, "destroyed")];
    const over = gone === null ? end : lifeAt(gone);
    const begun = lifeAt(born);
    const group = draw("g", {}, draw("title", {}, `${cache.name}: ${died === null ? "never died" : `dead ${died < 0 ? "from the start" : `from ${secondsOf(STEPS.jiffies[died])} s on`}, ${gone === null ? "still there" : `destroyed at ${secondsOf(STEPS.jiffies[gone])} s`}`}`));
    group.append(draw("text", { class: "quiet", x: LIFE.name - 8, y: y + 11.5, "text-anchor": "end" }, fitting(cache.name, LIFE.name - 12)));
    group.append(draw("rect", { class: "life", x: begun, y: y + 6.5, width: Math.max(1, (died === null ? over : lifeAt(died)) - begun), height: 2 }));
    if (died !== null) {
      group.append(draw("rect", { class: gone === null ? "leaked" : "dying", x: lifeAt(died), y: y + 3, width: Math.max(2, over - lifeAt(died)), height: 9 }));
      group.append(draw("text", { class: gone === null ? "stays" : "quiet", x: Math.max(over, lifeAt(died) + 2) + 5, y: y + 11.5 }, dyingWords(died, gone)));
    }
    svg.append(group);
  });
  svg.append(draw("line", { class: "axis", x1: LIFE.name, x2: end, y1: height - LIFE.foot + 3.5, y2: height - LIFE.foot + 3.5 }), ...marksBelow(livesWidth, height, lifePlace));
  svg.append(draw("line", { class: "cursor", y1: 0, y2: height - LIFE.foot }));
  byId("lives-picture").replaceChildren(svg);
  markLives();
}

function markLives() {
  const cursor = byId("lives-picture").querySelector(".cursor");
  if (!cursor) return;
  const x = (selected < 0 ? -9 : lifeAt(selected)).toFixed(1);
  cursor.setAttribute("x1", x);
  cursor.setAttribute("x2", x);
  byId("lives").querySelector("output").textContent = selected < 0 ? "" : `${numberOf(selected)} at ${secondsOf(STEPS.jiffies[selected])} s`;
}
