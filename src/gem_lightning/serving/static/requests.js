"use strict";
/* Requests of the page: forms out, server-sent events or files in, one sentence for every error. */

const TOKEN = "gem-lightning-token"; // of a server that asks for one; kept in this tab alone

gem.RequestError = class extends Error {
  constructor(message, status) {
    super(message);
    this.locked = status === 401;
    this.busy = status === 429 || status >= 500; // the same may work later
  }
};
gem.OfflineError = class extends Error {};

/* A form of fields; lists (files) are sent value by value, empty values are left out. */
gem.form = (fields) => {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    for (const one of Array.isArray(value) ? value : [value]) if (one !== "" && one !== undefined && one !== null) form.append(name, one);
  }
  return form;
};

gem.send = async (path, fields, signal) => {
  let response;
  const token = sessionStorage.getItem(TOKEN);
  const options = { signal, headers: token ? { authorization: `Bearer ${token}` } : {} };
  if (fields) Object.assign(options, { method: "POST", body: gem.form(fields) });
  try {
    response = await fetch(document.querySelector("main").dataset.root + path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new gem.OfflineError(error.message);
  }
  if (response.ok) return response;
  const detail = await response.json().then((body) => body.detail, () => response.statusText);
  throw new gem.RequestError(detail, response.status);
};

/* Where a text goes on that is still being written: behind what has its marks. */
gem.growing = (part) => part.querySelector("p:not(.question, .caution)") || part;

/* The events of a request: [kind, data]. */
gem.events = async function* (path, fields, signal) {
  const response = await gem.send(path, fields, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let ended = false;
  while (true) {
    const { value, done } = await reader.read().catch((error) => {
      if (error.name === "AbortError") throw error;
      throw new gem.OfflineError(error.message);
    });
    if (done) break;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const [, kind, data] = /^event: (.*)\ndata: (.*)$/s.exec(part) || [];
      if (!kind) continue;
      const content = JSON.parse(data);
      if (kind === "error") throw new gem.RequestError(content.detail, content.status);
      ended = kind === "done";
      yield [kind, content];
    }
  }
  if (!ended) throw new gem.OfflineError("the answer broke off");
};
