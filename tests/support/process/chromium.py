"""A headless Chromium, and what tests do with it. It is the system's own, never fetched."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlsplit

from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

HINT = "install Debian's chromium and chromium-driver: just browser-install"
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # the tests may run as root, who may not have one; they load only our own pages
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--window-size=1280,800",
)
PATIENCE_S = 60.0


def installed() -> tuple[str, str] | None:
    """Find the browser and its driver."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


class Browser(Chrome):
    """A browser with shorter words for what the tests do."""

    base = ""

    def at(self, selector: str) -> WebElement:
        """Find the first element that fits."""
        return self.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        """Find all elements that fit."""
        return self.find_elements(By.CSS_SELECTOR, selector)

    def js(self, script: str, *args: Any) -> Any:
        """Return the value of an expression."""
        return self.execute_script(f"return ({script})", *args)

    def text(self, selector: str) -> str:
        """Return what an element says, seen or not."""
        return str(self.js("document.querySelector(arguments[0])?.textContent ?? ''", selector))

    def focused(self) -> str:
        """Tell what has the focus, by its label or id."""
        return str(self.js("document.activeElement.ariaLabel || document.activeElement.id"))

    def titles(self) -> list[str]:
        """Return the models in the order in which they are shown."""
        shown = "[...document.querySelectorAll('#rows tr:not([hidden]) .title')]"
        return list(self.js(f"{shown}.map((each) => each.textContent)"))

    def wait(self, what: Callable[[], Any], told: str = "") -> None:
        """Wait until something is true."""
        until = monotonic() + PATIENCE_S
        while not what():
            assert monotonic() < until, f"in vain: {told or what}"
            sleep(0.02)

    def keys(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        for key in keys:
            self.switch_to.active_element.send_keys(key)

    def media(self, **features: str) -> None:
        """Pretend that the person has set this in their system."""
        listed = [{"name": n.replace("_", "-"), "value": v} for n, v in features.items()]
        self.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": listed})

    def size(self, width: int, height: int) -> None:
        """Be a screen of this size."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def complaints(self) -> list[str]:
        """Return what was written to the console since the last call: errors, broken policies."""
        entries = self.get_log("browser")
        return [entry["message"] for entry in entries if entry["level"] in {"SEVERE", "WARNING"}]

    def foreign(self) -> list[str]:
        """Return the addresses outside the origin that were asked for since the last call."""
        messages = (json.loads(each["message"])["message"] for each in self.get_log("performance"))
        urls = [
            m["params"]["request"]["url"]
            for m in messages
            if m["method"] == "Network.requestWillBeSent"
        ]
        own = urlsplit(self.base).netloc
        return [u for u in urls if u.startswith(("http", "ws")) and urlsplit(u).netloc != own]


@contextmanager
def browser(base: str, executables: tuple[str, str]) -> Iterator[Browser]:
    """Run a browser with an empty profile."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ChromeOptions()
        options.binary_location = executables[0]
        for flag in (*FLAGS, f"--user-data-dir={Path(profile) / 'chromium'}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = Browser(options, ChromeService(executables[1]))
        driver.base = base
        try:
            yield driver
        finally:
            driver.quit()
