"use strict";
/* Follow-up questions about the recording on show; the browser keeps the conversation and sends it along. */

gem.converse = (result, visit, report) => {
  const part = document.getElementById("conversation").content.cloneNode(true);
  const [list, form] = [part.querySelector(".turns"), part.querySelector("form")];
  part.querySelector("[data-gone]").hidden = Boolean(visit.files || visit.sample);
  form.hidden = !visit.files && !visit.sample;
  result.querySelector(".reading").after(part);
  visit.turns ||= [];
  for (const turn of visit.turns) list.append(Object.assign(document.createElement("li"), { innerHTML: turn.html }));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const [input, button] = [form.elements.question, form.querySelector("button")];
    const question = input.value.trim();
    if (!question || button.disabled) return;
    const entry = document.createElement("li");
    entry.append(Object.assign(document.createElement("p"), { className: "question", textContent: question }));
    const answer = document.createElement("div");
    answer.append(Object.assign(document.createElement("p"), { className: "incoming" }));
    entry.append(answer);
    list.append(entry);
    button.disabled = true;
    entry.setAttribute("aria-busy", "true");
    try {
      const uid = `${visit.uid}t${visit.turns.length}`;
      const turns = JSON.stringify([[visit.question || "", visit.text], ...visit.turns.map((turn) => [turn.question, turn.text])]);
      const files = await gem.visits.files(visit);
      for await (const [kind, data] of gem.events("page/ask", { files, turns, question, uid, ...visit.settings })) {
        if (kind === "reading") {
          entry.firstElementChild.hidden = true; // the fragment holds the question
          answer.innerHTML = data.html;
        }
        if (kind === "text") gem.growing(answer).append(data.delta);
        if (kind === "done") {
          entry.innerHTML = data.html;
          visit.turns.push({ question, text: data.text, html: data.html });
        }
      }
      gem.visits.save();
      input.value = "";
    } catch (error) {
      entry.remove();
      report(error);
    } finally {
      button.disabled = false;
      entry.removeAttribute("aria-busy");
    }
  });
};
