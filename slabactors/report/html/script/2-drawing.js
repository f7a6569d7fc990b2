// Elements.  Text only ever becomes a text node, so that nothing of a run is taken for markup.

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const byId = (id) => document.getElementById(id);
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
const CHARACTER = 6.65; // width of one in the timeline, in pixels

/** As much of a text as fits in so many pixels. */
function fitting(text, width, character = CHARACTER) {
  const room = Math.floor(width / character);
  if (text.length <= room) return text;
  return room < 5 ? "" : `${text.slice(0, room - 1)}\u2026`;
}

/** Round numbers from 0 to at least a maximum: where lines of a grid are. */
function ticks(low, high, wanted) {
  const span = Math.max(high - low, 1e-9);
  const raw = span / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= raw);
  const found = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step * 1e-6; tick += step) found.push(Number(tick.toPrecision(12)));
  return found;
}

const ROUND_MINUTES = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600];

/** Round times from one second to another, each with how it is written: in seconds, or in minutes when they are far apart. */
function timeTicks(low, high, wanted) {
  const raw = (high - low) / wanted;
  const step = ROUND_MINUTES.map((minutes) => minutes * 60).find((one) => one >= raw);
  if (raw <= 30 || step === undefined) return ticks(low, high, wanted).map((tick) => [tick, `${tick} s`]);
  const found = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high; tick += step) found.push([tick, `${tick / 60} min`]);
  return found;
}

const stepLink = (at) => make("button", { type: "button", class: "link", "data-step": at, title: `${who(at)}: ${said(at)}` }, numberOf(at));
