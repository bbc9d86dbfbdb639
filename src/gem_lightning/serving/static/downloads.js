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
      const fields = { files: await gem.visits.files(visit), format: get, ...gem.stated(visit) };
      const isSignal = get === "dicom" || get === "wfdb";
      const edits = visit.edits?.length ? JSON.stringify(visit.edits) : "";
      if (!isSignal) Object.assign(fields, { text: visit.text, edits, question: visit.question });
      const response = await gem.send(isSignal ? "v1/convert" : "page/report", fields);
      gem.save(await response.blob(), `${visit.name.replace(/\.[^.]*$/, "")}.${NAMES[get]}`);
    } catch (error) {
      report(error);
    } finally {
      event.target.disabled = false;
    }
  });
  result.querySelector("[data-panel]").before(part);
};

/* What the visitor stated of a file that does not state it itself. */
gem.stated = (visit) => {
  const { fs, units, leads } = visit.settings || {};
  return { fs, units, leads };
};

/* Of a long recording: the server reads the file again for each further minute. */
gem.offerSections = (result, visit, report) => {
  const { viewer } = result;
  if (!visit.files && !visit.sample) return;
  viewer.section = async (start) => {
    try {
      const fields = { files: await gem.visits.files(visit), start, ...gem.stated(visit) };
      return await (await gem.send("page/section", fields)).json();
    } catch (error) {
      report(error);
      return null;
    }
  };
  viewer.redraw(); // the scale states what can be shown
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
      const response = await gem.send("v1/digitize", { file: visit.files, format: "png" });
      image.src = URL.createObjectURL(await response.blob());
    } catch (error) {
      image.remove();
      report(error);
    }
  });
  result.querySelector(".ecg").append(details);
};
