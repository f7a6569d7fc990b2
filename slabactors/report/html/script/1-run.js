"use strict";

// The document, and what can be asked of it.  A step goes by its position, from 0; -1 is before the first.

const DOC = JSON.parse(document.getElementById("document").textContent);
const STEPS = DOC.steps;
const COUNT = STEPS.number.length;
const [OWN, STARTED, JOINED, MET, CLOCK] = [0, 1, 2, 3, 4];
const WHY = ["own", "started", "joined", "met", "clock"];
const WHY_WORDS = ["the step before it on its path", "it was started there", "it waited for that path", "they meet in a cell", "the clock"];
const PAIR = new Set(DOC.pair ? DOC.pair.steps : []);

const who = (at) => DOC.lanes[STEPS.lane[at]].who;
const actorOf = (at) => DOC.actors[STEPS.actor[at]];
const doesOf = (at) => DOC.texts[STEPS.does[at]];
const replyOf = (at) => (STEPS.reply[at] < 0 ? "" : DOC.texts[STEPS.reply[at]]);
const frees = (at) => DOC.texts[STEPS.operation[at]] === "free";
const changes = (at) => STEPS.changed[at].length > 0 || frees(at);
const numberOf = (at) => `#${STEPS.number[at]}`;
const secondsOf = (jiffies) => (jiffies / DOC.hz).toFixed(3);

function said(at) {
  const reply = replyOf(at);
  return reply && reply.length <= 60 ? `${doesOf(at)} = ${reply}` : doesOf(at);
}

/** The index of the last element that is at most a value; -1 when all are more. */
function lastUpTo(sorted, value, of = (one) => one) {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (of(sorted[middle]) <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** The value that a series has after a step. */
function valueAt(series, at) {
  const index = lastUpTo(series, at, (one) => one[0]);
  return index < 0 ? null : series[index][1];
}

// Of each actor the cells that are known, each with its values and from where on it has them.
const HISTORY = new Map();

function historyOf(actor) {
  if (!HISTORY.has(actor)) HISTORY.set(actor, new Map());
  return HISTORY.get(actor);
}

function note(actor, at, cells) {
  const known = historyOf(actor);
  for (const [cell, value] of cells) {
    if (!known.has(cell)) known.set(cell, []);
    known.get(cell).push([at, value]);
  }
}

for (const [actor, cells] of DOC.initial) note(actor, -1, cells);
for (let at = 0; at < COUNT; at++) note(STEPS.actor[at], at, STEPS.changed[at]);

// Which cache an actor belongs to.
const CACHE_OF = new Map();
DOC.caches.forEach((cache, index) => cache.actors.forEach((actor) => CACHE_OF.set(actor, index)));

// Which later steps come directly after a step.
const EFFECTS = new Map();
for (let at = 0; at < COUNT; at++) {
  for (const [cause, why] of STEPS.causes[at]) {
    if (why === OWN) continue;
    if (!EFFECTS.has(cause)) EFFECTS.set(cause, []);
    EFFECTS.get(cause).push([at, why]);
  }
}

// Steps of each lane, in order.
const OF_LANE = DOC.lanes.map(() => []);
for (let at = 0; at < COUNT; at++) OF_LANE[STEPS.lane[at]].push(at);

// -- which steps a filter lets through

const FILTERS = {
  lane: (at) => who(at),
  path: (at) => DOC.lanes[STEPS.lane[at]].path,
  actor: actorOf,
  op: (at) => DOC.texts[STEPS.operation[at]],
  cache: (at) => (CACHE_OF.has(STEPS.actor[at]) ? DOC.caches[CACHE_OF.get(STEPS.actor[at])].name : ""),
  cell: (at) => STEPS.changed[at].map(([cell]) => DOC.cells[cell]).join(" "),
};

const SETS = {
  changed: changes,
  race: (at) => PAIR.has(at) || IN_TABLE.has(at) || at === DOC.broke,
  settling: (at) => DOC.settles !== null && at >= DOC.settles,
};

const IN_TABLE = new Set((DOC.table ? DOC.table.rows : []).map((row) => row.step).filter((step) => step !== null));

const WORDS = new Array(COUNT);

/** Everything that stands in a step's row, in small letters. */
function wordsOf(at) {
  WORDS[at] ??= [numberOf(at), who(at), doesOf(at), DOC.texts[STEPS.operation[at]], actorOf(at), DOC.texts[STEPS.args[at]], replyOf(at)]
    .join("\n").toLowerCase();
  return WORDS[at];
}

/** What a filter's text asks for; each word has to hold. */
function testOf(text) {
  const tests = text.toLowerCase().split(/\s+/).filter(Boolean).map((word) => {
    const colon = word.indexOf(":");
    const [name, rest] = [word.slice(0, colon), word.slice(colon + 1)];
    if (colon > 0 && name === "is" && Object.hasOwn(SETS, rest)) return SETS[rest];
    if (colon > 0 && Object.hasOwn(FILTERS, name)) return (at) => FILTERS[name](at).toLowerCase().includes(rest);
    return (at) => wordsOf(at).includes(word);
  });
  return (at) => tests.every((test) => test(at));
}
