"use strict";
(() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const one = (id) => document.getElementById(id);
  const data = JSON.parse(one("data").textContent);

  const slider = one("threshold-slider");
  const whole = (number) => Math.round(number).toLocaleString("en");
  const showThreshold = () => {
    const curve = data.thresholds;
    const place = Number(slider.value) - 1;
    const threshold = (Number(slider.value) / curve.kept.length).toFixed(3);
    one("threshold-value").textContent = threshold;
    one("threshold-command").textContent = threshold;
    one("threshold-kept").textContent = whole(curve.kept[place]);
    one("threshold-residual").textContent = (100 * curve.residual[place]).toFixed(2) + " %";
    one("threshold-lost").textContent = whole(curve.lost[place]);
    slider.setAttribute("aria-valuetext", threshold);
  };
  if (slider) {
    slider.addEventListener("input", showThreshold);
    showThreshold();
  }

  const list = one("cards");
  const cards = all("#cards > .card").map((element, place) => ({ element, place, ...data.cards[place] }));
  const buttons = all("[data-gallery]");
  const [label, source, low, high, sort, order, search] =
    ["filter-label", "filter-source", "filter-low", "filter-high", "sort", "order", "search"].map(one);
  let gallery = buttons.length ? buttons[0].dataset.gallery : "";

  const inGallery = (card) => gallery === "" || gallery in card.places;
  const bound = (input, otherwise) => (input.value === "" ? otherwise : Number(input.value));
  const fits = (card) => {
    const [least, most] = [bound(low, 0), bound(high, 1)];
    const everyProbability = least <= 0 && most >= 1;
    return (!label.value || card.label === label.value)
      && (!source || !source.value || card.source === source.value)
      && (everyProbability || (card.noise_prob !== null && card.noise_prob >= least && card.noise_prob <= most))
      && card.text.includes(search.value.trim().toLowerCase());
  };
  const value = (card) => (sort.value === "noise_rank" ? card.noise_rank : card.doubt[sort.value]) ?? null;
  const compare = (a, b) => {
    if (sort.value) {
      const [first, second] = [value(a), value(b)];
      if (first === null || second === null) return (first === null) - (second === null) || a.place - b.place;
      if (first !== second) return (first - second) * Number(order.value);
    }
    return (a.places[gallery] ?? a.place) - (b.places[gallery] ?? b.place);
  };
  const arrange = () => {
    const chosen = cards.filter(inGallery).sort(compare);
    const shown = chosen.filter(fits);
    list.replaceChildren(...shown.map((card) => card.element));
    one("shown").textContent = shown.length + " of " + chosen.length + " shown";
    order.disabled = !sort.value;
    for (const button of buttons) {
      const pressed = button.dataset.gallery === gallery;
      button.setAttribute("aria-pressed", String(pressed));
      if (pressed) one("hint").textContent = button.dataset.hint;
    }
  };
  const clear = () => {
    for (const input of [label, source, search]) if (input) input.value = "";
    low.value = "0";
    high.value = "1";
  };
  const jump = (name, wanted = {}) => {
    clear();
    gallery = name;
    if (source && wanted.source) source.value = wanted.source;
    if (wanted.find) search.value = wanted.find;
    arrange();
    one("pairs").scrollIntoView();
    buttons.find((button) => button.dataset.gallery === name).focus({ preventScroll: true });
  };

  for (const button of buttons) {
    button.addEventListener("click", () => { gallery = button.dataset.gallery; arrange(); });
  }
  for (const input of [label, source, sort, order]) if (input) input.addEventListener("change", arrange);
  one("open-all").addEventListener("change", (event) => {
    for (const card of cards) card.element.querySelector("details").open = event.target.checked;
  });
  for (const input of [low, high, search]) input.addEventListener("input", arrange);
  for (const button of all("[data-show-gallery]")) {
    button.addEventListener("click", () => jump(button.dataset.showGallery, { source: button.dataset.showSource }));
  }
  for (const button of all("[data-find]")) {
    button.addEventListener("click", () => jump("", { find: button.dataset.find }));
  }
  arrange();
})();
