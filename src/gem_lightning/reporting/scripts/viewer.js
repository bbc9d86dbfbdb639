"use strict";
/* Connects a result's drawing, tools, statements and tables. */

const NARROW_PX = 700; // below this width a 12-lead page is too small to read: one column of leads
const SECTION = 60; // s of a long recording that a page holds at a time
const ZOOMS = [1, 1.5, 2, 3, 4];

gem.Viewer = class {
  constructor(result) {
    this.result = result;
    this.panel = result.querySelector("[data-panel]");
    this.host = result.querySelector(".paper");
    const recording = new gem.Recording(JSON.parse(result.querySelector("[data-trace]").textContent));
    this.drawing = new gem.Drawing(this.host, recording);
    this.calipers = new gem.Calipers(this.drawing, (text) => {
      result.querySelector("[data-readout]").textContent = text;
    });
    this.chosen = null; // what is highlighted: { leads, wave, beats }
    this.marked = false;
    this.tool("lead").closest(".tools").hidden = false;
    for (const part of result.querySelectorAll("[data-window]")) part.hidden = recording.total <= WINDOW;
    this.tool("start").max = this.last = Math.floor((recording.total - 1) / WINDOW) * WINDOW;
    this.section = null; // async (start, s) => the data of another section, where the page can have it
    result.querySelector(".tools").addEventListener("click", (event) => this.click(event));
    result.querySelector(".tools").addEventListener("change", (event) => this.change(event));
    this.host.addEventListener("keydown", (event) => this.key(event));
    this.host.addEventListener("click", (event) => this.pick(event));
    result.addEventListener("click", (event) => this.follow(event));
    this.width = 0;
    new ResizeObserver(() => this.resize()).observe(this.host);
    addEventListener("beforeprint", () => this.print(true));
    addEventListener("afterprint", () => this.print(false));
    this.resize();
  }

  tool(name) {
    return this.result.querySelector(`[data-do="${name}"]`);
  }

  resize() {
    if (this.host.clientWidth === this.width || this.printing) return;
    this.width = this.host.clientWidth;
    this.drawing.narrow = this.width < NARROW_PX;
    this.redraw();
  }

  redraw() {
    this.drawing.draw();
    this.toggleCalipers(false);
    this.drawing.showMarks(this.marked);
    if (this.chosen) this.drawing.highlight(this.chosen.leads, this.chosen.wave, this.chosen.beats);
    this.result.querySelector("[data-scale]").textContent = `${this.drawing.speed} mm/s, ${this.drawing.gain} mm/mV${this.extent()}`;
  }

  /* On paper the tables are open; criteria and sources stay folded. */
  print(begins) {
    this.printing = begins;
    this.drawing.printing = begins;
    this.drawing.narrow = !begins && this.width < NARROW_PX;
    for (const one of this.result.querySelectorAll("details:not(details details)")) {
      if (begins && !one.open) one.dataset.closed = "";
      if (begins || "closed" in one.dataset) one.open = begins;
      if (!begins) delete one.dataset.closed;
    }
    this.redraw();
  }

  click(event) {
    const name = event.target.closest("[data-do]")?.dataset.do;
    const actions = {
      in: () => this.zoom(1), out: () => this.zoom(-1), fit: () => this.zoom(0),
      calipers: () => this.toggleCalipers(), marks: () => this.toggleMarks(),
      earlier: () => this.go(this.drawing.start - WINDOW), later: () => this.go(this.drawing.start + WINDOW),
      print: () => window.print(),
      png: async () => gem.save(await gem.toPng(this.drawing), "ecg.png"),
    };
    actions[name]?.();
  }

  change(event) {
    const { value, dataset } = event.target;
    if (dataset.do === "lead") {
      if (value) this.chooseLead(value);
      else this.unchoose();
      return;
    }
    if (dataset.do === "start") {
      this.go(Number(value));
      return;
    }
    this.drawing[dataset.do] = Number(value);
    this.redraw();
  }

  /* What is on the paper of a long recording, and what this page does not hold of it. */
  extent() {
    const { recording, start } = this.drawing;
    if (recording.total <= WINDOW) return "";
    const end = Math.min(start + WINDOW, recording.total);
    const text = `${start.toFixed(0)} to ${end.toFixed(0)} s of ${recording.total.toFixed(0)} s`;
    this.result.querySelector("[data-shown]").textContent = text;
    this.tool("start").value = start;
    const part = this.section || recording.end >= recording.total - 1 ? "" : `; this page holds the first ${recording.end.toFixed(0)} s, the measurements are of all`;
    return `; ${text}${part}`;
  }

  zoom(way) {
    const index = ZOOMS.indexOf(this.drawing.zoom) + way;
    this.drawing.zoom = way ? ZOOMS[Math.min(Math.max(index, 0), ZOOMS.length - 1)] : 1;
    this.drawing.scale();
  }

  /* Show the window that begins at a time; a section that is not here is fetched. */
  async go(seconds) {
    const wanted = Math.min(Math.max(seconds, 0), this.last);
    const isHere = () => wanted >= this.drawing.recording.start && wanted < this.drawing.recording.end;
    if (!isHere() && this.section) {
      if (this.host.ariaBusy === "true") return;
      this.host.ariaBusy = "true";
      this.result.querySelector("[data-scale]").textContent = "Reading this part of the recording …";
      const data = await this.section(wanted - (wanted % SECTION));
      this.host.ariaBusy = "false";
      if (data) this.drawing.recording = new gem.Recording(data);
    }
    if (isHere()) this.drawing.start = wanted;
    this.redraw();
  }

  toggleCalipers(on) {
    this.calipers.toggle(on);
    this.tool("calipers").setAttribute("aria-pressed", String(this.calipers.on));
  }

  toggleMarks() {
    this.marked = !this.marked;
    this.tool("marks").setAttribute("aria-pressed", String(this.marked));
    this.drawing.showMarks(this.marked);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target !== this.host) return;
    const actions = {
      "+": () => this.zoom(1), "=": () => this.zoom(1), "-": () => this.zoom(-1), 0: () => this.zoom(0),
      c: () => this.toggleCalipers(), m: () => this.toggleMarks(),
      escape: () => (this.calipers.on ? this.toggleCalipers(false) : this.unchoose()),
    };
    const action = actions[event.key.toLowerCase()];
    if (this.calipers.key(event) || action) event.preventDefault();
    action?.();
  }

  /* A click on a strip shows its lead. */
  pick(event) {
    const point = !this.calipers.on && event.target.closest("svg") && this.drawing.locate(event.clientX, event.clientY);
    if (point) this.chooseLead(point.slot.lead);
  }

  /* A click on a statement shows its place and its evidence. */
  follow(event) {
    const link = event.target.closest("a.c");
    if (!link) return;
    event.preventDefault();
    const { leads, wave, beats } = link.dataset;
    this.choose({
      leads: leads ? leads.split(" ") : [], wave,
      beats: beats === undefined ? null : beats.split(" ").filter(Boolean).map(Number),
    }, link);
    const entry = this.result.querySelector(link.getAttribute("href"));
    this.show([...entry.cloneNode(true).children]);
    const place = this.drawing.narrow ? this.drawing.layers.bands.firstChild : null;
    if (place) place.scrollIntoView({ block: "center", inline: "nearest" });
    else this.host.scrollIntoView({ block: "nearest" });
  }

  choose(chosen, link) {
    this.chosen = chosen;
    for (const one of this.result.querySelectorAll("a.c[aria-current]")) one.removeAttribute("aria-current");
    link?.setAttribute("aria-current", "true");
    this.tool("lead").value = chosen.leads.length === 1 ? chosen.leads[0] : "";
    this.drawing.highlight(chosen.leads, chosen.wave, chosen.beats);
  }

  unchoose() {
    this.choose({ leads: [], wave: "", beats: null });
    this.drawing.clear("bands");
    this.chosen = null;
    this.show([]);
  }

  chooseLead(lead) {
    this.choose({ leads: [lead], wave: "", beats: null });
    const title = document.createElement("p");
    title.append(Object.assign(document.createElement("strong"), { textContent: `Lead ${lead}` }));
    this.show([title, this.leadValues(lead), this.leadStatements(lead)].filter(Boolean));
  }

  /* The lead's row of the table, as one line. */
  leadValues(lead) {
    const row = this.result.querySelector(`tr[data-lead="${lead}"]`);
    if (!row) return null;
    const names = [...row.closest("table").rows[0].cells].map((cell) => cell.textContent);
    const values = [...row.cells].map((cell, i) => [names[i], cell.textContent]).slice(1);
    return Object.assign(document.createElement("p"), {
      textContent: values.filter(([, value]) => value !== "–").map(([name, value]) => `${name.replace(", mV", "")} ${value}${name.includes("mV") ? " mV" : ""}`).join(" · "),
    });
  }

  leadStatements(lead) {
    const found = [...this.result.querySelectorAll(`a.c[data-leads~="${lead}"]`)].filter((one) => !this.panel.contains(one));
    const line = document.createElement("p");
    line.textContent = found.length ? "Stated of this lead: " : "The text states nothing of this lead alone.";
    found.forEach((one, i) => line.append(i ? ", " : "", one.cloneNode(true)));
    return line;
  }

  show(children) {
    this.panel.hidden = !children.length;
    const close = Object.assign(document.createElement("button"), { type: "button", textContent: "Close", className: "close" });
    close.addEventListener("click", () => this.unchoose());
    this.panel.replaceChildren(...(children.length ? [close, ...children] : []));
  }
};

gem.view = (root) => {
  for (const result of root.querySelectorAll("article.result:not([data-ready])")) {
    result.dataset.ready = "";
    result.viewer = new gem.Viewer(result);
  }
};
gem.view(document);
