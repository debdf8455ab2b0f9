// A wide table scrolls in a frame, which the keyboard must reach too.
document$.subscribe(() =>
  requestAnimationFrame(() => {
    for (const frame of document.querySelectorAll(".md-typeset__scrollwrap")) {
      const scrolls = frame.scrollWidth > frame.clientWidth;
      if (scrolls) frame.tabIndex = 0;
    }
  }),
);

// The theme puts the copy button of each code block into a landmark of its own, which is none.
new MutationObserver(() => {
  for (const buttons of document.querySelectorAll("nav.md-code__nav:not([role])"))
    buttons.setAttribute("role", "none");
}).observe(document.documentElement, { childList: true, subtree: true });
