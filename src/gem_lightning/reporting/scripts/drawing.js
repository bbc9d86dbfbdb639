"use strict";
/* Draws a recording as ECG paper: an SVG whose user unit is the millimetre. */

const SVG = "http://www.w3.org/2000/svg";
const COLUMNS = [["I", "II", "III"], ["aVR", "aVL", "aVF"], ["V1", "V2", "V3"], ["V4", "V5", "V6"]];
const RHYTHM = "II";
const WINDOW = 10; // s on the paper, as on a printed 12-lead
const PULSE = { seconds: 0.2, mv: 1 }; // standardisation pulse
const WIDE = { left: 12, pitch: 30, top: 20, bottom: 14 }; // mm
const NARROW = { left: 12, pitch: 24, top: 16, bottom: 12 }; // mm
const NAME_MM = 12; // height of lead names over the baseline, above a pulse of 1 mV
let drawings = 0;

gem.svg = (name, attributes = {}, text = "") => {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text) element.textContent = text;
  return element;
};

gem.Drawing = class {
  constructor(host, recording) {
    this.host = host;
    this.recording = recording;
    this.id = `paper${++drawings}`;
    this.speed = 25; // mm/s
    this.gain = 10; // mm/mV
    this.start = 0; // s
    this.narrow = false;
    this.zoom = 1;
  }

  /* Strips of the layout: lead, times (s), left end and baseline (mm). */
  strips() {
    const { recording, speed, start } = this;
    const page = this.narrow ? NARROW : WIDE;
    const end = Math.min(start + WINDOW, recording.end);
    const strip = (lead, t0, t1, x, row) => ({ lead, t0, t1: Math.min(t1, end), x, y: page.top + row * page.pitch });
    if (this.narrow) return recording.leads.map((lead, row) => strip(lead, start, end, page.left, row));
    const span = WINDOW / COLUMNS.length;
    const found = COLUMNS.flatMap((leads, column) => leads.map((lead, row) =>
      strip(lead, start + column * span, start + (column + 1) * span, page.left + column * span * speed, row)));
    found.push(strip(RHYTHM, start, end, page.left, COLUMNS[0].length));
    return found.filter((one) => recording.leads.includes(one.lead) && one.t1 > one.t0);
  }

  draw() {
    const page = this.narrow ? NARROW : WIDE;
    this.host.classList.toggle("narrow", this.narrow);
    this.slots = this.strips();
    this.width = page.left + WINDOW * this.speed + 4;
    this.height = Math.max(...this.slots.map((slot) => slot.y)) + page.bottom;
    const root = gem.svg("svg", { viewBox: `0 0 ${this.width} ${this.height}`, role: "img", "aria-label": this.label() });
    root.append(this.grid());
    this.layers = {};
    for (const name of ["bands", "traces", "marks", "names", "calipers"]) {
      this.layers[name] = gem.svg("g", { class: name });
      root.append(this.layers[name]);
    }
    for (const slot of this.slots) this.layers.traces.append(gem.svg("path", { class: "trace", d: this.path(slot) }));
    this.drawPulses();
    this.host.querySelector("svg")?.remove();
    this.host.prepend(root);
    this.root = root;
    this.drawNames();
    this.scale();
  }

  label() {
    const end = Math.min(this.start + WINDOW, this.recording.end);
    return `ECG of ${this.recording.leads.length} leads, ${this.start.toFixed(0)} to ${end.toFixed(0)} s, ` +
      `${this.speed} mm/s, ${this.gain} mm/mV`;
  }

  /* Set the size: on screen the whole width at zoom 1, on a narrow one three seconds; in print true millimetres. */
  scale() {
    if (this.printing) {
      [this.root.style.width, this.root.style.height] = [`${this.width}mm`, `${this.height}mm`];
      return;
    }
    const shown = this.narrow ? Math.min(this.width, NARROW.left + 3 * this.speed) : this.width;
    const pixels = (this.host.clientWidth / shown) * this.width * this.zoom;
    this.root.style.width = `${pixels}px`;
    const height = (pixels / this.width) * this.height;
    this.root.style.height = `${height}px`;
    const names = this.host.querySelector(".sticky-names");
    if (names) [names.style.height, names.style.marginBottom] = [`${height}px`, `${-height}px`];
  }

  grid() {
    const group = gem.svg("g", { class: "grid" });
    for (const [name, pitch] of [["minor", 1], ["major", 5]]) {
      const pattern = gem.svg("pattern", { id: `${this.id}-${name}`, width: pitch, height: pitch, patternUnits: "userSpaceOnUse" });
      pattern.append(gem.svg("path", { class: name, d: `M${pitch} 0H0V${pitch}` }));
      group.append(pattern);
    }
    const size = { width: this.width, height: this.height };
    group.append(gem.svg("rect", { class: "sheet", ...size }));
    for (const name of ["minor", "major"]) group.append(gem.svg("rect", { fill: `url(#${this.id}-${name})`, ...size }));
    return group;
  }

  place(slot, time, mv) {
    return [slot.x + (time - slot.t0) * this.speed, slot.y - mv * this.gain];
  }

  path(slot) {
    const { fs } = this.recording;
    let text = "";
    let pen = false;
    for (let i = Math.ceil(slot.t0 * fs); i < Math.floor(slot.t1 * fs); i++) {
      const mv = this.recording.at(slot.lead, i / fs);
      if (mv === null) {
        pen = false;
        continue;
      }
      const [x, y] = this.place(slot, i / fs, mv);
      text += `${pen ? "L" : "M"}${x.toFixed(2)} ${y.toFixed(2)}`;
      pen = true;
    }
    return text;
  }

  drawPulses() {
    const rows = new Set(this.slots.map((slot) => slot.y));
    const height = PULSE.mv * this.gain;
    const width = PULSE.seconds * this.speed;
    const page = this.narrow ? NARROW : WIDE;
    for (const y of this.narrow ? [page.top] : rows) {
      this.layers.traces.append(gem.svg("path", { class: "trace", d: `M${page.left - width - 4} ${y}h1.5v${-height}h${width}v${height}h1.5` }));
    }
  }

  /* Lead names; on a narrow screen they stay at the left edge while the strips move. */
  drawNames() {
    this.host.querySelector(".sticky-names")?.remove();
    if (!this.narrow) {
      for (const slot of this.slots) {
        this.layers.names.append(gem.svg("text", { class: "lead-name", x: slot.x + 1, y: slot.y - NAME_MM }, slot.lead));
        if (slot.x > WIDE.left) this.layers.traces.append(gem.svg("path", { class: "border", d: `M${slot.x} ${slot.y - 4}v2.5M${slot.x} ${slot.y + 1.5}v2.5` }));
      }
      return;
    }
    const names = document.createElement("div");
    names.className = "sticky-names";
    names.setAttribute("aria-hidden", "true");
    for (const slot of this.slots) {
      const name = document.createElement("span");
      name.textContent = slot.lead;
      name.style.top = `${((slot.y - NAME_MM) / this.height) * 100}%`;
      names.append(name);
    }
    this.host.prepend(names);
  }

  /* The strip, time and value under a point of the screen. */
  locate(clientX, clientY) {
    const box = this.root.getBoundingClientRect();
    const x = ((clientX - box.left) / box.width) * this.width;
    const y = ((clientY - box.top) / box.height) * this.height;
    const near = this.slots
      .filter((slot) => x >= slot.x - 1 && x <= slot.x + (slot.t1 - slot.t0) * this.speed + 1)
      .sort((a, b) => Math.abs(a.y - y) - Math.abs(b.y - y))[0];
    return near ? { slot: near, time: near.t0 + (x - near.x) / this.speed, mv: (near.y - y) / this.gain } : null;
  }

  clear(layer) {
    this.layers[layer].replaceChildren();
  }

  /* Tint strips, and in them the waves of a statement. */
  highlight(leads, wave, beats) {
    this.clear("bands");
    const whole = !leads.length;
    for (const slot of this.slots) {
      if (whole ? slot.lead !== RHYTHM : !leads.includes(slot.lead)) continue;
      const page = this.narrow ? NARROW : WIDE;
      const row = { y: slot.y - 0.55 * page.pitch, height: 0.85 * page.pitch };
      const width = (slot.t1 - slot.t0) * this.speed;
      this.layers.bands.append(gem.svg("rect", { class: "strip", x: slot.x, width, ...row }));
      if (!wave || !this.recording.beats) continue;
      this.recording.waves(wave, slot.lead).forEach((span, beat) => {
        if (!span || (beats && !beats.includes(beat + this.recording.first)) || span[1] < slot.t0 || span[0] > slot.t1) return;
        const x = this.place(slot, Math.max(span[0], slot.t0), 0)[0] - (wave === "RR" ? 0.4 : 0);
        const end = this.place(slot, Math.min(span[1], slot.t1), 0)[0] + (wave === "RR" ? 0.4 : 0);
        this.layers.bands.append(gem.svg("rect", { class: "wave", x, width: Math.max(end - x, 0.4), ...row }));
      });
    }
    return this.layers.bands.childElementCount;
  }

  /* Onsets and ends as lines, peaks as dots: the delineation that every measurement rests on. */
  showMarks(shown) {
    this.clear("marks");
    if (!shown) return;
    for (const slot of this.slots) {
      const row = this.recording.leads.indexOf(slot.lead);
      for (const [name, rows] of Object.entries(this.recording.marks)) {
        for (const sample of rows[row]) {
          const time = sample / this.recording.fs;
          if (sample === null || time < slot.t0 || time > slot.t1) continue;
          const mv = this.recording.at(slot.lead, time) ?? 0;
          const [x, y] = this.place(slot, time, mv);
          const wave = name.startsWith("P") ? "p" : name.startsWith("T") ? "t" : "qrs";
          const isPeak = !name.includes("_");
          this.layers.marks.append(isPeak
            ? gem.svg("circle", { class: `mark ${wave}`, cx: x, cy: y, r: 0.5 })
            : gem.svg("path", { class: `mark ${wave}`, d: `M${x} ${y - 2.2}v4.4` }));
        }
      }
    }
  }
};
