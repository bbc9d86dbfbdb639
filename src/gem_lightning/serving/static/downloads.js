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

/* Of a photo: the page with what was read drawn over it, made when it is asked for. */
gem.offerOverlay = (result, visit, report) => {
  if (!("paper" in result.dataset) || !visit.files) return;
  const details = document.createElement("details");
  details.className = "overlay";
  details.append(Object.assign(document.createElement("summary"), { textContent: "Photo with what was read from it" }));
  details.addEventListener("toggle", async () => {
    if (!details.open || details.querySelector("img")) return;
    const image = Object.assign(new Image(), { alt: "The photographed page with the digitised traces drawn over it" });
    details.append(image);
    try {
      const response = await gem.send("page/overlay", { files: visit.files });
      image.src = URL.createObjectURL(await response.blob());
    } catch (error) {
      image.remove();
      report(error);
    }
  });
  result.querySelector(".ecg").append(details);
};
