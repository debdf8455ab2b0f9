"use strict";
// Draws the charts one after another, so that the page can be read and scrolled meanwhile.
(async () => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
  for (const data of document.querySelectorAll("script[data-chart]")) {
    const place = document.getElementById(data.dataset.chart);
    try {
      await vegaEmbed(place, JSON.parse(data.textContent), {
        actions: false,
        // Vega's interpreter: the page's policy forbids making code from text.
        ast: true,
        mode: "vega-lite",
        renderer: "svg",
        tooltip: { theme: dark ? "dark" : "light" },
      });
    } catch (error) {
      place.textContent = `This chart could not be drawn (${error}). Its numbers are in the table below.`;
    }
    await new Promise((resume) => setTimeout(resume));
  }
  document.documentElement.dataset.drawn = "true";
})();
