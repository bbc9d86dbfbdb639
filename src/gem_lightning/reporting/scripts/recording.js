"use strict";
/* The recording of a result: signal in mV, and where the waves of its beats begin and end. */
window.gem = window.gem || {};

const UNKNOWN = -32768; // µV value of a sample that is not known
// Part of the beat -> the marks that bound it. An ST segment without a T onset is shown for its first 80 ms.
const BOUNDS = {
  P: ["P_on", "P_off"], PR: ["P_on", "QRS_on"], QRS: ["QRS_on", "QRS_off"], ST: ["QRS_off", "T_on"],
  T: ["T_on", "T_off"], QT: ["QRS_on", "T_off"], RR: ["R", "R"],
};
const ST_SECONDS = 0.08;

gem.Recording = class {
  constructor(data) {
    const bytes = Uint8Array.from(atob(data.signal), (letter) => letter.charCodeAt(0));
    const values = new Int16Array(bytes.buffer);
    this.fs = data.fs;
    this.leads = data.leads;
    this.marks = data.marks;
    this.samples = values.length / data.leads.length;
    this.start = data.start; // s; a long recording comes in sections
    this.end = data.start + this.samples / data.fs;
    this.total = data.total;
    this.first = data.first; // index of the first beat that is here
    this.rows = data.leads.map((_, i) => values.subarray(i * this.samples, (i + 1) * this.samples));
  }

  /* Value in mV at a time in s, or null where it is not known. */
  at(lead, time) {
    const value = this.rows[this.leads.indexOf(lead)][Math.round((time - this.start) * this.fs)];
    return value === undefined || value === UNKNOWN ? null : value / 1000;
  }

  get beats() {
    return this.marks.R ? this.marks.R[0].length : 0;
  }

  /* [start, end] in s of a wave of one lead, one per beat; null for a beat without it. */
  waves(wave, lead) {
    const row = this.leads.indexOf(lead);
    const [from, to] = BOUNDS[wave];
    return Array.from({ length: this.beats }, (_, beat) => {
      const start = this.marks[from][row][beat];
      let end = this.marks[to][row][beat];
      if (start !== null && end === null && wave === "ST") end = start + ST_SECONDS * this.fs;
      return start === null || end === null ? null : [start / this.fs, end / this.fs];
    });
  }
};
