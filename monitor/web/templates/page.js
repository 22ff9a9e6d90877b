// Keeps a page fresh without a flicker, says when it cannot, and puts times into the viewer's zone.
// Every page is whole without it. It asks for nothing but the page itself, from where the page came.
"use strict";

const EVERY = 5000; // ms between two looks
const PATIENCE = 8000; // ms that one look may take
let lastGood = Date.now();
let look = null; // the one under way
let typing = null; // the pause after a key, before what was typed is asked for

// Times: the server writes UTC, for those without a script; here they get the viewer's own zone.

const sameDay = (a, b) => a.toDateString() === b.toDateString();
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const precise = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
const dated = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });

function localise(root) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const at = new Date(element.getAttribute("datetime"));
    const how = element.dataset.as === "clock" ? precise : sameDay(at, new Date()) ? clock : dated;
    element.textContent = how.format(at);
  }
  for (const element of root.querySelectorAll("[data-at]")) {
    const at = new Date(element.dataset.at);
    const hours = element.dataset.as === "clock" && (at.getHours() || at.getMinutes());
    element.textContent = hours ? clock.format(at) : day.format(at);
  }
}

// Make what is shown equal to what has come, touching only what differs: focus, selection and scroll stay.

function morph(shown, came) {
  const live = shown === document.activeElement && "value" in shown; // somebody is typing there
  for (const { name, value } of came.attributes) {
    if (shown.getAttribute(name) !== value) shown.setAttribute(name, value);
  }
  for (const { name } of [...shown.attributes]) {
    if (!came.hasAttribute(name)) shown.removeAttribute(name);
  }
  if (live || (typing && "value" in shown)) return;
  const keyed = new Map([...shown.children].filter((child) => child.id).map((child) => [child.id, child]));
  let place = shown.firstChild;
  for (const next of [...came.childNodes]) {
    const known = next.id && keyed.get(next.id);
    if (known && known !== place) shown.insertBefore(known, place);
    const current = known || place;
    if (current && current.nodeName === next.nodeName && (known || !current.id || !next.id)) {
      if (next.nodeType === Node.ELEMENT_NODE) morph(current, next);
      else if (current.nodeValue !== next.nodeValue) current.nodeValue = next.nodeValue;
      place = current.nextSibling;
    } else {
      shown.insertBefore(document.importNode(next, true), place);
    }
  }
  while (place) {
    const over = place;
    place = place.nextSibling;
    over.remove();
  }
  if (shown.nodeName === "INPUT") {
    shown.checked = came.hasAttribute("checked");
    if (shown.type === "search") shown.value = came.getAttribute("value");
  }
  if (shown.nodeName === "SELECT") shown.selectedIndex = Math.max(0, came.selectedIndex);
}

// Another version of the monitor answers: its page wants its own script and style. Once for each, lest two that
// take turns behind one address have us reload for ever.
function another(came) {
  const version = came.documentElement.dataset.version;
  if (version === document.documentElement.dataset.version || sessionStorage.getItem("version") === version) return false;
  sessionStorage.setItem("version", version);
  return true;
}

async function refresh() {
  look?.abort();
  const mine = (look = new AbortController());
  const limit = setTimeout(() => mine.abort(), PATIENCE);
  try {
    const answer = await fetch(location.href, { signal: mine.signal, cache: "no-store" });
    const came = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = came.getElementById("fresh");
    if (!fresh) throw new Error(`the answer was ${answer.status}`);
    if (another(came)) return location.reload();
    localise(came);
    const focused = document.activeElement;
    for (const part of ["header", "main", "footer"]) morph(document.querySelector(part), came.querySelector(part));
    if (focused.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true }); // its row was moved
    document.title = came.title;
    lastGood = Date.now();
    says(null);
  } catch (error) {
    if (look === mine) says(error);
  } finally {
    clearTimeout(limit);
    if (look === mine) look = null;
  }
}

function says(error) {
  const banner = document.getElementById("offline");
  document.documentElement.classList.toggle("old", error !== null);
  if (error === null) {
    banner.hidden = true;
    return;
  }
  const text = `The monitor does not answer. What you see is as of ${precise.format(lastGood)} and may no longer be true; asking again every ${EVERY / 1000} s.`;
  if (banner.hidden || banner.textContent !== text) banner.textContent = text;
  banner.hidden = false;
}

// What is chosen above the table goes into the URL, where it can be kept and sent to others.

function choose(form) {
  clearTimeout(typing);
  typing = null;
  const query = new URLSearchParams();
  for (const [name, value] of new FormData(form)) {
    if (value && !(name === "sort" && value === "worst")) query.set(name, value);
  }
  history.replaceState(null, "", `${location.pathname}${query.size ? `?${query}` : ""}`);
  refresh();
}

document.addEventListener("input", (event) => {
  const form = event.target.closest("form[data-live]");
  if (!form) return;
  clearTimeout(typing);
  typing = setTimeout(() => choose(form), event.target.type === "search" ? 250 : 0);
});
document.addEventListener("submit", (event) => {
  if (!event.target.matches("form[data-live]")) return;
  event.preventDefault();
  choose(event.target);
});
document.addEventListener("keydown", (event) => {
  const search = document.querySelector("input[type=search]");
  if (event.key !== "/" || !search || event.target.matches("input, select, textarea")) return;
  event.preventDefault();
  search.focus();
});
// A look under way is left to its end or its patience, so that a monitor that hangs is noticed.
const again = () => document.hidden || look || refresh();
document.addEventListener("visibilitychange", again);
setInterval(again, EVERY);

document.documentElement.classList.add("scripted");
localise(document);
