// Whoever points at a plot sees the row of its figures that is nearest. Without this the page has all the same.
"use strict";
for (const plot of document.querySelectorAll("svg.plot")) {
  const figure = plot.closest("figure");
  const rows = figure ? [...figure.querySelectorAll("tr[data-x]")] : [];
  if (rows.length < 2) continue;
  const names = [...figure.querySelectorAll("details.numbers th")].map(cell => cell.textContent);
  const places = rows.map(row => Number(row.dataset.x));
  const { l, r, t, b, from, to } = Object.fromEntries(Object.entries(plot.dataset).map(([k, v]) => [k, Number(v)]));
  const width = plot.viewBox.baseVal.width;
  const guide = document.createElementNS("http://www.w3.org/2000/svg", "line");
  guide.setAttribute("class", "guide"); guide.setAttribute("y1", t); guide.setAttribute("y2", b);
  plot.append(guide);
  const tip = document.createElement("div");
  tip.className = "tip"; tip.setAttribute("aria-hidden", "true");
  figure.append(tip);
  const hide = () => { tip.style.display = guide.style.display = "none"; };
  plot.addEventListener("pointermove", event => {
    const box = plot.getBoundingClientRect(), scale = width / box.width;
    const x = from + ((event.clientX - box.left) * scale - l) / (r - l) * (to - from);
    let at = 0;
    places.forEach((place, number) => { if (Math.abs(place - x) < Math.abs(places[at] - x)) at = number; });
    const px = l + (places[at] - from) / (to - from) * (r - l);
    guide.setAttribute("x1", px); guide.setAttribute("x2", px);
    tip.replaceChildren();
    [...rows[at].cells].forEach((cell, number) => {
      const line = document.createElement("div"), value = document.createElement("b");
      value.textContent = cell.textContent;
      line.append(names[number] + " ", value);
      tip.append(line);
    });
    tip.style.display = guide.style.display = "block";
    const outer = figure.getBoundingClientRect(), left = box.left - outer.left + px / scale;
    tip.style.left = Math.max(4, left + tip.offsetWidth + 16 > outer.width ? left - tip.offsetWidth - 12 : left + 12) + "px";
    tip.style.top = box.top - outer.top + 10 + "px";
  });
  plot.addEventListener("pointerleave", hide);
}
