"use strict";
(() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const curve = JSON.parse(document.getElementById("threshold-data").textContent);
  const slider = document.getElementById("threshold-slider");
  const showThreshold = () => {
    const place = Number(slider.value) - 1;
    document.getElementById("threshold-value").textContent = (Number(slider.value) / curve.kept.length).toFixed(3);
    document.getElementById("threshold-kept").textContent = Math.round(curve.kept[place]).toLocaleString("en");
    document.getElementById("threshold-residual").textContent = (100 * curve.residual[place]).toFixed(2) + " %";
  };
  slider.addEventListener("input", showThreshold);
  showThreshold();

  const label = document.getElementById("filter-label");
  const sort = document.getElementById("sort");
  const search = document.getElementById("search");
  const buttons = all("[data-gallery]");
  const panels = all("[data-gallery-panel]");
  panels.forEach((panel) => panel.querySelectorAll(".card").forEach((card, place) => { card.dataset.place = place; }));

  const order = {
    place: (a, b) => a.dataset.place - b.dataset.place,
    down: (a, b) => b.dataset.noise - a.dataset.noise,
    up: (a, b) => a.dataset.noise - b.dataset.noise,
  };
  const arrange = () => {
    const panel = panels.find((each) => !each.hidden);
    if (!panel) return;
    const words = search.value.trim().toLowerCase();
    const cards = [...panel.querySelectorAll(".card")].sort(order[sort.value]);
    let shown = 0;
    for (const card of cards) {
      const fits = (!label.value || card.dataset.label === label.value) && card.dataset.text.includes(words);
      card.hidden = !fits;
      shown += fits ? 1 : 0;
      card.parentNode.append(card);
    }
    document.getElementById("shown").textContent = shown + " of " + cards.length + " shown";
  };
  const open = (name) => {
    panels.forEach((panel) => { panel.hidden = panel.dataset.galleryPanel !== name; });
    buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.gallery === name)));
    arrange();
  };
  buttons.forEach((button) => button.addEventListener("click", () => open(button.dataset.gallery)));
  [label, sort].forEach((each) => each.addEventListener("change", arrange));
  search.addEventListener("input", arrange);
  const jump = (name, wanted) => {
    label.value = wanted;
    open(name);
    document.getElementById("pairs").scrollIntoView();
  };
  const best = { clean: "clean", uncertain: "boundary", noisy: "noisy" };
  all("[data-show-label]").forEach((button) => button.addEventListener("click", () => jump(best[button.dataset.showLabel], button.dataset.showLabel)));
  all("[data-show-gallery]").forEach((button) => button.addEventListener("click", () => jump(button.dataset.showGallery, "")));
  if (buttons.length) open(buttons[0].dataset.gallery);
})();
