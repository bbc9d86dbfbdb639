"use strict";
/* What a visitor has looked at, in this tab alone: results survive a reload, files do not (they are about patients). */

const KEY = "gem-lightning-visits";
const KEPT = 12; // results; a tab's storage holds 5 MB

gem.visits = {
  list: [],

  load() {
    try {
      this.list = JSON.parse(sessionStorage.getItem(KEY)) || [];
    } catch {
      this.list = [];
    }
  },

  add(visit) {
    this.list = [visit, ...this.list.filter((one) => one.uid !== visit.uid)].slice(0, KEPT);
    this.save();
  },

  /* Keep as many of the latest results as the tab has room for. */
  save() {
    for (let count = this.list.length; count >= 0; count--) {
      const plain = this.list.slice(0, count).map(({ uid, name, html, text, edits, question, sample, turns, settings, time }) =>
        ({ uid, name, html, text, edits, question, sample, turns, settings, time }));
      try {
        sessionStorage.setItem(KEY, JSON.stringify(plain));
        return;
      } catch { /* no room: one result less */ }
    }
  },

  forget() {
    this.list = [];
    sessionStorage.removeItem(KEY);
  },

  /* The files of a visit; a sample is fetched again after a reload. */
  async files(visit) {
    if (!visit.files && visit.sample) visit.files = [await gem.sample(visit.sample)];
    return visit.files || null;
  },
};

gem.sample = async (name) => {
  const response = await gem.send(`samples/${name}.dcm`);
  return new File([await response.blob()], `sample-${name}.dcm`, { type: "application/dicom" });
};
