"use strict";
/* The drawing as a PNG file, in the colours of paper whatever the screen's. */

const PNG_SCALE = 10; // px per mm: 254 dpi
const INK = {
  sheet: { fill: "#ffffff" }, minor: { stroke: "#f6c9c6", "stroke-width": 0.1, fill: "none" },
  major: { stroke: "#e58f8a", "stroke-width": 0.2, fill: "none" }, trace: { stroke: "#111111", "stroke-width": 0.28, fill: "none" },
  border: { stroke: "#111111", "stroke-width": 0.2 }, "lead-name": { "font-size": 4, "font-family": "sans-serif", fill: "#111111" },
  strip: { fill: "#f0e442", "fill-opacity": 0.18 }, wave: { fill: "#0072b2", "fill-opacity": 0.25 },
  mark: { stroke: "#0072b2", "stroke-width": 0.25, fill: "#0072b2" }, caliper: { stroke: "#7a3db8", "stroke-width": 0.3, fill: "none" },
  "caliper-text": { "font-size": 3.5, "font-family": "sans-serif", fill: "#7a3db8" },
};

gem.save = (blob, name) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
};

gem.toPng = async (drawing, scale = PNG_SCALE) => {
  const copy = drawing.root.cloneNode(true);
  const [width, height] = [drawing.width * scale, drawing.height * scale];
  for (const [key, value] of Object.entries({ xmlns: SVG, width, height })) copy.setAttribute(key, value);
  copy.removeAttribute("style");
  for (const element of copy.querySelectorAll("[class]")) {
    const name = element.getAttribute("class").split(" ")[0];
    for (const [key, value] of Object.entries(INK[name] || {})) element.setAttribute(key, value);
  }
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(copy))}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  canvas.getContext("2d").drawImage(image, 0, 0);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
};
