// Body of a function: answers every fault of the page as a sentence.
const faults = [];
const shown = (e) => e.getClientRects().length > 0;
const name = (e) =>
  "<" + e.tagName.toLowerCase() + (e.id ? " id=" + e.id : "") + (e.getAttribute("name") ? " name=" + e.getAttribute("name") : "") + "> " +
  (e.innerText || "").trim().slice(0, 40);

const page = document.documentElement;
if (!page.lang) faults.push("the page does not say its language");
if (!document.title.trim()) faults.push("the page has no title");
if (document.compatMode !== "CSS1Compat") faults.push("the page is in quirks mode: no doctype");

if (page.scrollWidth > window.innerWidth) {
  // What scrolls inside its own box is fine; what sticks out of the page is named.
  const scrolls = (e) => e && e !== document.body && e !== page && (getComputedStyle(e).overflowX !== "visible" || scrolls(e.parentElement));
  const wide = [...document.body.querySelectorAll("*")].filter((e) => e.getBoundingClientRect().right > window.innerWidth + 1 && !scrolls(e.parentElement));
  faults.push("the page is " + page.scrollWidth + " px wide in a window of " + window.innerWidth + ": " + wide.slice(0, 3).map(name).join("; "));
}

const headings = document.querySelectorAll("h1").length;
if (headings !== 1) faults.push("the page has " + headings + " h1, not one");
if (document.querySelectorAll("main").length !== 1) faults.push("the page has not one main");

for (const e of document.querySelectorAll("input:not([type=hidden]), select, textarea")) {
  const labelled = e.labels?.length || e.getAttribute("aria-label")?.trim() || e.getAttribute("aria-labelledby");
  const isButton = ["submit", "button", "reset"].includes(e.type);
  if (!labelled && !isButton) faults.push("no label: " + name(e));
}
for (const e of document.querySelectorAll("button, a[href], summary")) {
  const named = e.textContent.trim() || e.getAttribute("aria-label")?.trim() || e.getAttribute("aria-labelledby") || e.title || e.querySelector("img[alt]:not([alt=''])");
  if (!named) faults.push("nothing to read aloud: " + name(e) + e.outerHTML.slice(0, 60));
}
for (const e of document.querySelectorAll("img:not([alt])")) faults.push("an image without alt: " + e.getAttribute("src"));
for (const e of document.querySelectorAll("table")) {
  if (shown(e) && !e.querySelector("th")) faults.push("a table without header cells");
}

const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
for (const id of new Set(ids.filter((id, i) => ids.indexOf(id) !== i))) faults.push("the id " + id + " is there twice");
for (const e of document.querySelectorAll("[aria-labelledby], [aria-describedby], [aria-controls]")) {
  for (const attribute of ["aria-labelledby", "aria-describedby", "aria-controls"]) {
    for (const id of (e.getAttribute(attribute) || "").split(/\s+/).filter(Boolean)) {
      if (!document.getElementById(id)) faults.push(attribute + " points nowhere: " + id);
    }
  }
}
for (const e of document.querySelectorAll("[tabindex]")) {
  if (e.tabIndex > 0) faults.push("a tabindex above 0 breaks the order of the keyboard: " + name(e));
}

// Contrast of text against the nearest opaque background (WCAG 1.4.3: 4.5, or 3 for large text).
const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const rgba = (colour) => {
  paint.clearRect(0, 0, 1, 1);
  paint.fillStyle = colour;
  paint.fillRect(0, 0, 1, 1);
  return [...paint.getImageData(0, 0, 1, 1).data];
};
const luminance = ([r, g, b]) =>
  [r, g, b].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (e) => {
  for (; e; e = e.parentElement) {
    const style = getComputedStyle(e);
    if (style.backgroundImage !== "none") return null; // a picture or gradient: only an eye can tell
    const colour = rgba(style.backgroundColor);
    if (colour[3] === 255) return colour;
    if (colour[3] !== 0) return null;
  }
  return rgba(getComputedStyle(page).colorScheme.includes("dark") && matchMedia("(prefers-color-scheme: dark)").matches ? "#121212" : "#fff");
};
const seen = new Set();
for (const e of document.body.querySelectorAll("*")) {
  const hasText = [...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.textContent.trim());
  const box = e.getBoundingClientRect();
  if (!hasText || !shown(e) || box.width < 2 || box.height < 2 || e.closest("[disabled], [aria-disabled=true], [aria-hidden=true], script, style, noscript")) continue;
  const style = getComputedStyle(e);
  if (style.visibility !== "visible" || style.opacity !== "1") continue;
  const back = behind(e);
  const front = rgba(style.color);
  if (!back || front[3] !== 255) continue;
  const [light, dark] = [luminance(front), luminance(back)].sort((a, b) => b - a);
  const ratio = (light + 0.05) / (dark + 0.05);
  const size_px = parseFloat(style.fontSize);
  const isLarge = size_px >= 24 || (size_px >= 18.66 && Number(style.fontWeight) >= 700);
  const key = style.color + back;
  if (ratio < (isLarge ? 3 : 4.5) && !seen.has(key)) {
    seen.add(key);
    faults.push("contrast " + ratio.toFixed(2) + " of " + style.color + " on rgb(" + back.slice(0, 3) + "): " + name(e));
  }
}
return faults;
