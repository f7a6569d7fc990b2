// The parts that do not change: the story, the race table, the search.

/** A docstring: its lines run on, but for numbered and indented ones; what is between backquotes is code. */
function paragraphs(parent, text) {
  for (const block of text.split(/\n\s*\n/)) {
    if (/^Args:\n/.test(block)) {
      parent.append(knobsOf(block));
      continue;
    }
    for (const lines of block.split(/\n(?=\s*(?:\d+\.|-)\s|\s{4})/)) {
      const paragraph = make("p", { class: /^\s*(\d+\.|-)\s/.test(lines) ? "item" : "" });
      lines.replace(/\s*\n\s*/g, " ").split(/``?/).forEach((part, index) => paragraph.append(index % 2 ? make("code", {}, part) : part));
      parent.append(paragraph);
    }
  }
}

/** The knobs of a scenario: what an Args section says of each. */
function knobsOf(block) {
  const list = make("dl", { class: "knobs" });
  for (const entry of block.split("\n").slice(1).join("\n").split(/\n(?=\s{1,4}\S)/)) {
    const [, name, words] = /^\s*(\w+):\s*([^]*)$/.exec(entry) ?? [null, "", entry];
    list.append(make("dt", {}, make("code", {}, name)), make("dd", {}, words.replace(/\s*\n\s*/g, " ")));
  }
  return list;
}

function more(title, text) {
  const box = make("details", { class: "tale" }, make("summary", {}, title));
  paragraphs(box, text);
  return box;
}

function tellStory() {
  document.title = `${DOC.title} - slabactors`;
  for (const text of DOC.notes) byId("notes").append(make("p", { class: "note", role: "note" }, text));
  const message = byId("message");
  if (DOC.bug) {
    const [signature, words] = DOC.bug;
    byId("signature").textContent = signature;
    byId("signature").hidden = false;
    message.append(make("p", { class: "bug" }, words));
  } else {
    message.append(make("p", {}, DOC.notes.length ? "No bug in what there is of the run." : "The run has shown no bug."));
  }
  if (DOC.pair) {
    const [first, second] = DOC.pair.steps;
    const words = make("p", { class: "pair" }, make("span", { class: "muted" }, "The order of two steps decides:"), ...DOC.pair.sentences.map((text) => make("span", {}, text)));
    words.append("Go to ", stepLink(first));
    if (second !== undefined) words.append(" or ", stepLink(second));
    words.append(".");
    message.append(words);
  }
  if (DOC.loop) message.append(make("p", {}, DOC.loop));
  const tale = byId("tale");
  if (DOC.story) tale.append(more("The scenario", DOC.story));
  if (DOC.story) tale.querySelector("details").open = true;
  if (DOC.protocol) tale.append(more("The lifecycle", DOC.protocol));
  const facts = byId("facts");
  const end = COUNT ? STEPS.jiffies[COUNT - 1] : 0;
  const size = [
    ["Steps", DOC.settles === null ? `${COUNT}` : `${COUNT}, ${COUNT - DOC.settles} of them while the machine settled`],
    ["Virtual time", `${secondsOf(end)} s`],
  ];
  for (const [name, value] of [...DOC.facts, ...size]) facts.append(make("dt", {}, name), make("dd", {}, value));
}

function tellRace() {
  const { columns, rows, left_out: left } = DOC.table;
  byId("race").hidden = false;
  byId("race-note").textContent =
    `The steps that matter, in order, one column for each that took part${left ? `; ${left} of ${left + rows.length} are left out` : ""}.`;
  const table = byId("race-table");
  table.append(make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Step"), ...columns.map((name) => make("th", { scope: "col" }, name)))));
  const body = make("tbody");
  for (const row of rows) {
    const line = make("tr", { class: [row.broke ? "broke" : "", PAIR.has(row.step) ? "pair" : ""].join(" ") });
    if (row.step !== null) line.dataset.at = row.step;
    line.append(make("td", {}, row.step === null ? "" : stepLink(row.step)));
    columns.forEach((name, column) => {
      if (column !== row.column) return line.append(make("td"));
      const bracket = row.text.lastIndexOf(" [");
      const cell = make("td", {}, make("span", { class: "text" }, bracket < 0 ? row.text : row.text.slice(0, bracket)));
      if (bracket >= 0) cell.append(make("br"), make("span", { class: "of" }, row.text.slice(bracket + 2, -1)));
      if (row.broke) cell.append(make("br"), make("span", { class: "text" }, "breaks here"));
      return line.append(cell);
    });
    body.append(line);
  }
  table.append(body);
}

function tableOf(head, rows, numbers = []) {
  const cell = (tag, text, index) => make(tag, { ...(tag === "th" ? { scope: "col" } : {}), class: numbers.includes(index) ? "num" : "" }, text);
  return make("table", {},
    make("thead", {}, make("tr", {}, ...head.map((text, index) => cell("th", text, index)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((value, index) => cell("td", value, index))))));
}

const grouped = (number) => number.toLocaleString("en");

function tellSearch() {
  const search = DOC.search;
  byId("search").hidden = false;
  const place = byId("statistics");
  const list = make("dl");
  const fact = (name, value) => list.append(make("dt", {}, name), make("dd", {}, value));
  fact("Strategy", search.strategy);
  fact("Seed", `${search.seed}`);
  fact("First seen in execution", grouped(search.execution));
  fact("Schedule", `${search.decisions} decisions`);
  fact("Preemptions", `${search.preemptions}${search.minimum && search.preemptions ? ", the fewest there can be" : ""}`);
  const campaign = search.campaign;
  if (campaign) {
    fact("Executions of the campaign", grouped(campaign.executions));
    fact("Steps of the campaign", grouped(campaign.deliveries));
    if (campaign.bounded) fact("Hit the bound on steps", grouped(campaign.bounded));
  }
  place.append(make("div", {}, make("h3", {}, "This finding"), list));
  if (!campaign) {
    place.append(make("p", { class: "muted" }, "How many executions the search took is in the campaign\u2019s file, which is not beside the finding."));
    return;
  }
  if (campaign.shares.length) {
    const rows = campaign.shares.map(([name, runs, broke]) => [name, grouped(runs), grouped(broke), `${((100 * broke) / Math.max(1, runs)).toFixed(1)} %`]);
    place.append(make("div", {}, make("h3", {}, "Executions by strategy"), tableOf(["Strategy", "Executions", "Broke", "Share"], rows, [1, 2, 3])));
  }
  const rows = campaign.bugs.map(([name, count, own]) => [own ? make("strong", {}, name) : name, grouped(count)]);
  place.append(make("div", {}, make("h3", {}, "Bugs of the campaign"), tableOf(["Signature", "Executions"], rows, [1])));
}
