// Light, dark, or as the system has it. A classic script in the head: it sets the theme before the
// first paint, so that a dark page never flashes white.
(() => {
  const NAME = "ollama-op.theme";
  const CHOICES = ["auto", "light", "dark"];
  const root = document.documentElement;

  const remembered = () => {
    try {
      return localStorage.getItem(NAME) ?? "auto";
    } catch {
      return "auto"; // storage may be forbidden; the page works without
    }
  };

  const remember = (choice) => {
    try {
      localStorage.setItem(NAME, choice);
    } catch {
      // it then lasts until the page is left
    }
  };

  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = CHOICES.includes(remembered()) ? remembered() : "auto";

  const apply = () => {
    const dark = chosen === "dark" || (chosen === "auto" && system.matches);
    root.dataset.theme = chosen;
    root.classList.toggle("dark-mode", dark); // the name that Swagger UI knows
    for (const button of document.querySelectorAll("[data-theme-toggle]")) {
      button.querySelector("span").textContent = chosen;
      button.setAttribute("aria-label", `Theme: ${chosen}`);
    }
  };

  const next = () => {
    chosen = CHOICES[(CHOICES.indexOf(chosen) + 1) % CHOICES.length];
    remember(chosen);
    apply();
  };

  apply();
  system.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    apply();
    for (const button of document.querySelectorAll("[data-theme-toggle]")) {
      button.addEventListener("click", next);
    }
  });
})();
