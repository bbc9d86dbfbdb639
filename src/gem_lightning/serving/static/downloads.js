"use strict";
/* Files of a result: made by the server from the recording and the text on show. */

const NAMES = { pdf: "pdf", json: "json", fhir: "fhir.json", html: "html", dicom: "dcm", wfdb: "zip" };

gem.offerDownloads = (result, visit, report) => {
  if (!visit.files && !visit.sample) return;
  const part = document.getElementById("downloads").content.cloneNode(true);
  part.firstElementChild.addEventListener("click", async (event) => {
    const { get } = event.target.dataset;
    if (!get) return;
    event.target.disabled = true;
    try {
      const { fs, units, leads } = visit.settings || {};
      const fields = { files: await gem.visits.files(visit), format: get, fs, units, leads };
      const isSignal = get === "dicom" || get === "wfdb";
      if (!isSignal) Object.assign(fields, { text: visit.text, question: visit.question });
      const response = await gem.send(isSignal ? "page/signal" : "page/report", fields);
      gem.save(await response.blob(), `${visit.name.replace(/\.[^.]*$/, "")}.${NAMES[get]}`);
    } catch (error) {
      report(error);
    } finally {
      event.target.disabled = false;
    }
  });
  result.querySelector(".scale").after(part);
};
