"use strict";
/* Calipers on a drawing: the distance of two points of one strip in ms and mV, by mouse, touch or keyboard. */

const STEP_MV = 0.01;

gem.Calipers = class {
  constructor(drawing, report) {
    this.drawing = drawing;
    this.report = report; // shows a line of text
    this.on = false;
    this.ends = null;
    this.active = 1;
    for (const kind of ["pointerdown", "pointermove", "pointerup", "pointercancel"]) {
      drawing.host.addEventListener(kind, (event) => this.pointer(event));
    }
  }

  toggle(on = !this.on) {
    this.on = on;
    this.drawing.host.classList.toggle("measuring", on);
    if (on && !this.ends) this.begin();
    if (!on) this.ends = null;
    this.draw();
  }

  /* Start in the middle of what is on screen, one large square (200 ms, 0.5 mV) apart. */
  begin() {
    const { drawing } = this;
    const box = drawing.host.getBoundingClientRect();
    const middle = drawing.locate(box.left + box.width / 2, Math.max(box.top, 0) + Math.min(box.height, innerHeight) / 3);
    const slot = middle ? middle.slot : drawing.slots[0];
    // half a second before the strip's end, so that the calipers have room to open
    const time = Math.max(slot.t0, Math.min(middle ? middle.time : slot.t0 + 1, slot.t1 - 0.5));
    this.slot = slot;
    this.ends = [{ time, mv: 0 }, { time: Math.min(time + 0.2, slot.t1), mv: 0.5 }];
  }

  pointer(event) {
    if (!this.on) return;
    const point = this.drawing.locate(event.clientX, event.clientY);
    if (event.type === "pointerdown" && point && event.isPrimary && event.target.closest("svg")) {
      this.dragging = true;
      this.slot = point.slot;
      this.ends = [{ time: point.time, mv: point.mv }, { time: point.time, mv: point.mv }];
      this.active = 1;
      this.drawing.host.setPointerCapture(event.pointerId);
      event.preventDefault();
    } else if (event.type === "pointermove" && this.dragging && point) {
      this.move(this.ends[1], this.timeAt(event.clientX), this.mvAt(event.clientY));
    } else if (event.type !== "pointermove") {
      this.dragging = false;
    }
    this.draw();
  }

  timeAt(clientX) {
    const box = this.drawing.root.getBoundingClientRect();
    return this.slot.t0 + (((clientX - box.left) / box.width) * this.drawing.width - this.slot.x) / this.drawing.speed;
  }

  mvAt(clientY) {
    const box = this.drawing.root.getBoundingClientRect();
    return (this.slot.y - ((clientY - box.top) / box.height) * this.drawing.height) / this.drawing.gain;
  }

  move(end, time, mv) {
    end.time = Math.min(Math.max(time, this.slot.t0), this.slot.t1);
    end.mv = mv;
  }

  /* True where the key is one of the calipers'. */
  key(event) {
    if (!this.on || !this.ends) return false;
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    const size = event.shiftKey ? 10 : 1;
    const end = this.ends[this.active];
    if (way) this.move(end, end.time + (way[0] * size) / this.drawing.recording.fs, end.mv + way[1] * size * STEP_MV);
    else if (event.key.toLowerCase() === "x") this.active = 1 - this.active;
    else return false;
    this.draw();
    return true;
  }

  draw() {
    const { drawing } = this;
    drawing.clear("calipers");
    if (!this.on || !this.ends) {
      this.report("");
      return;
    }
    const [a, b] = this.ends.map((end) => drawing.place(this.slot, end.time, end.mv));
    const layer = drawing.layers.calipers;
    const reach = 12; // mm above and below the baseline
    for (const [i, point] of [a, b].entries()) {
      const kind = i === this.active ? "caliper active" : "caliper";
      layer.append(gem.svg("path", { class: kind, d: `M${point[0]} ${this.slot.y - reach}v${2 * reach}M${a[0]} ${point[1]}H${b[0]}` }));
      layer.append(gem.svg("circle", { class: kind, cx: point[0], cy: point[1], r: 0.8 }));
    }
    const text = this.text();
    layer.append(gem.svg("text", { class: "caliper-text", x: Math.max(a[0], b[0]) + 1.5, y: Math.min(a[1], b[1]) - 1.5 }, text.short));
    this.report(text.long);
  }

  text() {
    const [a, b] = this.ends;
    const ms = Math.abs(b.time - a.time) * 1000;
    const mv = b.mv - a.mv;
    const sign = mv < 0 ? "−" : "";
    const short = `${ms.toFixed(0)} ms, ${sign}${Math.abs(mv).toFixed(2)} mV`;
    const rate = ms >= 200 ? `; as an RR interval ${(60000 / ms).toFixed(0)} bpm` : ""; // no rhythm is faster
    return { short, long: `Calipers in ${this.slot.lead}: ${short}${rate}` };
  }
};
