"use strict";
// Escape hides an explanation, also one under the pointer, until the pointer or the focus moves on.
const quiet = document.documentElement.classList;
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") quiet.add("quiet");
});
for (const moved of ["mouseout", "focusin"]) {
  document.addEventListener(moved, () => quiet.remove("quiet"));
}

// A saved chart is light on white, whatever the page is.
const save = async (view, kind, file) => {
  const ground = view.background();
  await view.background("white").runAsync();
  const link = document.createElement("a");
  link.href = await view.toImageURL(kind, 2);
  link.download = `${file}.${kind}`;
  link.click();
  await view.background(ground).runAsync();
};

// Draws the charts one after another, so that the page can be read and scrolled meanwhile.
(async () => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
  for (const data of document.querySelectorAll("script[data-chart]")) {
    const place = document.getElementById(data.dataset.chart);
    try {
      const { view } = await vegaEmbed(place, JSON.parse(data.textContent), {
        actions: false,
        // Vega's interpreter: the page's policy forbids making code from text.
        ast: true,
        mode: "vega-lite",
        renderer: "svg",
        tooltip: { theme: dark ? "dark" : "light" },
      });
      const saving = place.closest("figure").querySelector(".save");
      for (const button of saving.querySelectorAll("button")) {
        const { save: kind, file } = button.dataset;
        button.addEventListener("click", () => save(view, kind, file));
      }
      saving.hidden = false;
    } catch (error) {
      place.textContent = `This chart could not be drawn (${error}). Its numbers are in the table below.`;
    }
    await new Promise((resume) => setTimeout(resume));
  }
  document.documentElement.dataset.drawn = "true";
})();
