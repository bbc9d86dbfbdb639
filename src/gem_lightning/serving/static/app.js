"use strict";
/* The page: a recording in, its result out, and every state between. */

const find = (name) => document.querySelector(`[data-${name}]`);
const form = find("start");
const input = form.elements.files;
let current = null; // the visit on show
let request = null; // AbortController of the request under way
let pending = null; // { files, sample } to try again
let count = 0;

/* start, busy or result; an error shows above the start. */
function state(name) {
  form.hidden = name !== "start";
  find("busy").hidden = name !== "busy";
  find("new").hidden = name !== "result";
  if (name !== "start") fail(null);
}

function fail(error) {
  const offline = error instanceof gem.OfflineError;
  find("offline").hidden = !offline;
  find("error").hidden = !error || offline;
  if (!error || offline) return;
  find("reason").textContent = error.message;
  const asks = /fs=|units=|leads=/.test(error.message); // the file does not state these
  if (asks) find("more").open = true;
  find("again").hidden = !pending;
  find("later").hidden = !pending || !(error.busy || error.locked);
  find("locked").hidden = !error.locked;
}

function stage(name) {
  const items = [...find("busy").querySelectorAll("li")];
  const index = items.findIndex((item) => item.dataset.stage === name);
  items.forEach((item, i) => {
    item.className = i < index ? "done" : i === index ? "now" : "";
    if (i === index) item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
  });
}

function settings() {
  return Object.fromEntries(["fs", "units", "leads", "verify", "complete"].map((name) => [name, form.elements[name].value]).filter(([, value]) => value));
}

function tooLarge(files) {
  const limit = Number(document.querySelector("main").dataset.maxMb);
  const size = files.reduce((sum, file) => sum + file.size, 0) / 1e6;
  return size > limit ? new gem.RequestError(`expected at most ${limit} MB, got ${size.toFixed(0)} MB; send one record`) : null;
}

async function interpret(files, sample = "") {
  if (!files.length) return;
  pending = { files, sample };
  const large = tooLarge(files);
  if (large) return fail(large);
  const visit = {
    uid: `r${Date.now().toString(36)}${++count}`, name: nameOf(files), files, sample, turns: [],
    question: form.elements.question.value.trim(), settings: settings(), time: new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }),
  };
  request?.abort();
  const mine = (request = new AbortController());
  find("results").replaceChildren();
  state("busy");
  stage("reading");
  try {
    const { uid, question } = visit;
    for await (const [kind, data] of gem.events("page/interpret", { files, uid, question, ...visit.settings }, mine.signal)) {
      if (kind === "stage") stage(data.stage);
      if (kind === "result") place(data.html);
      if (kind === "text") incoming().append(data.delta);
      if (kind === "reading") find("results").querySelector("[data-text]").innerHTML = data.html;
      if (kind === "done") finish(visit, data);
    }
  } catch (error) {
    if (request !== mine) return; // another recording has taken its place
    if (!find("results").querySelector("[data-text]")?.textContent.trim()) find("results").replaceChildren();
    state("start");
    if (error.name !== "AbortError") fail(error);
  }
}

/* WFDB is named by its header. */
function nameOf(files) {
  return (files.find((file) => file.name.endsWith(".hea")) || files[0]).name;
}

function place(html) {
  const results = find("results");
  results.innerHTML = html;
  gem.view(results);
  results.firstElementChild.scrollIntoView({ block: "nearest" });
}

/* Where text goes that no sentence has ended yet. */
function incoming() {
  return gem.growing(find("results").querySelector("[data-text] .text"));
}

function finish(visit, data) {
  Object.assign(visit, { html: data.html, text: data.text, edits: data.edits });
  gem.visits.add(visit);
  show(visit);
}

function show(visit) {
  current = visit;
  place(visit.html);
  const result = find("results").querySelector("article");
  gem.offerSections(result, visit, fail);
  gem.offerDownloads(result, visit, fail);
  gem.offerOverlay(result, visit, fail);
  if (result.querySelector(".reading")) gem.converse(result, visit, fail);
  offerComparison(result);
  result.tabIndex = -1; // the button that was pressed is gone: reading goes on at the result
  result.focus({ preventScroll: true });
  state("result");
  listVisits();
}

function offerComparison(result) {
  if (!current.files && !current.sample) return;
  const part = document.getElementById("compare").content.cloneNode(true);
  part.querySelector("input").addEventListener("change", (event) => compare([...event.target.files]));
  const earlier = part.querySelector("[data-earlier]");
  for (const visit of gem.visits.list.filter((one) => one !== current && (one.files || one.sample)).slice(0, 4)) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: `${visit.name}, ${visit.time}` });
    button.addEventListener("click", async () => compare(await gem.visits.files(visit).catch(fail)));
    earlier.append(button, " ");
  }
  result.append(part);
}

async function compare(second) {
  if (!second || !second.length) return;
  const large = tooLarge(second);
  if (large) return fail(large);
  document.body.setAttribute("aria-busy", "true");
  try {
    const first = await gem.visits.files(current);
    const response = await gem.send("page/compare", { first, second, uid: `c${++count}` });
    place(await response.text());
    fail(null);
  } catch (error) {
    fail(error);
  } finally {
    document.body.removeAttribute("aria-busy");
  }
}

function listVisits() {
  const section = find("visits");
  section.hidden = !gem.visits.list.length;
  section.querySelector("ul").replaceChildren(...gem.visits.list.map((visit) => {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: `${visit.time} ${visit.name}` });
    if (visit === current) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => show(visit));
    const item = document.createElement("li");
    item.append(button);
    return item;
  }));
}

function restart() {
  current = null;
  find("results").replaceChildren();
  input.value = "";
  pending = null;
  find("again").hidden = true;
  state("start");
  fail(null);
  listVisits();
}

const again = () => pending && interpret(pending.files, pending.sample);
input.addEventListener("change", () => interpret([...input.files]));
form.addEventListener("submit", (event) => {
  event.preventDefault();
  again();
});
form.addEventListener("click", async (event) => {
  const name = event.target.dataset.sample;
  if (!name) return;
  try {
    await interpret([await gem.sample(name)], name);
  } catch (error) {
    fail(error);
  }
});
find("retry").addEventListener("click", () => (pending ? again() : fail(null)));
find("later").addEventListener("click", () => {
  const token = find("locked").querySelector("input").value.trim();
  if (token) sessionStorage.setItem(TOKEN, token);
  again();
});
find("cancel").addEventListener("click", () => request?.abort());
find("new").addEventListener("click", restart);
find("forget").addEventListener("click", () => {
  gem.visits.forget();
  restart();
});
addEventListener("offline", () => fail(new gem.OfflineError()));
addEventListener("online", () => (find("offline").hidden = true));
for (const kind of ["dragover", "dragleave", "drop"]) {
  addEventListener(kind, (event) => {
    event.preventDefault();
    find("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") interpret([...event.dataTransfer.files]);
  });
}
gem.visits.load();
listVisits();
