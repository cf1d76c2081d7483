"""Debian's chromium without a screen, driven by its driver: what the console is tried in."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import axe_core_python
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.support.waiting import PATIENCE, eventually

AXE = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
# What a browser says by itself when nobody answers is no failure of the page.
_NOBODY = ("net::ERR_", "Failed to load resource")


def require_browser() -> tuple[str, str]:
    """The programs. Skips without them; fails instead where CI says that everything must run."""
    found = shutil.which("chromium"), shutil.which("chromedriver")
    if found[0] is None or found[1] is None:
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail("chromium or chromedriver is not installed")
        pytest.skip("chromium and chromium-driver are not installed")
    return found[0], found[1]


class Browser:
    """One window. Elements are found by CSS selectors, and waited for."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        self.driver.get(url)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """The text of the first such element, whether it is seen or not; "" without one."""
        found: str = self.run("return document.querySelector(arguments[0])?.textContent ?? ''", selector)
        return found

    def wait(self, selector: str, text: str = "", timeout: float = PATIENCE) -> None:
        """Until there is such an element that has this text."""
        script = "return [...document.querySelectorAll(arguments[0])].some((e) => e.textContent.includes(arguments[1]))"
        eventually(lambda: bool(self.run(script, selector, text)), f"{selector} with {text!r}", timeout)

    def gone(self, selector: str) -> None:
        """Until there is no such element."""
        eventually(lambda: not self.all(selector), f"{selector} is gone")

    def click(self, selector: str, text: str = "") -> None:
        """Click the element that has this text. The page draws itself anew every second, so it is looked for and
        clicked in one go, as a keyboard's Enter does it."""
        self.wait(selector, text)
        found = "[...document.querySelectorAll(arguments[0])].find((e) => e.textContent.includes(arguments[1]))"
        self.run(f"{found}.click()", selector, text)

    def type(self, selector: str, text: str) -> None:
        self.wait(selector)
        self.all(selector)[0].send_keys(text)

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def size(self, width: int, height: int) -> None:
        """The size of the page, as a phone or a screen has it."""
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )

    def theme(self, name: str) -> None:
        """What the system prefers: light or dark."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def complaints(self) -> list[str]:
        """What the page has complained of since the last call: errors of scripts, and violations of the policy."""
        log = self.driver.get_log("browser")  # type: ignore[no-untyped-call] # selenium does not type it
        said = [each["message"] for each in log if each["level"] != "INFO"]
        return [each for each in said if not any(word in each for word in _NOBODY)]

    def violations(self) -> list[str]:
        """What axe-core finds against WCAG 2.1 A and AA, a line each."""
        self.run(AXE)
        found = self.driver.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice']})"
            ".then((r) => done(r.violations), (e) => done([{id: String(e), nodes: []}]))"
        )
        return [f"{each['id']}: {node['html'][:200]}" for each in found for node in each["nodes"] or [{"html": ""}]]


@contextmanager
def browsing(width: int = 1440, height: int = 900) -> Iterator[Browser]:
    """A browser of one's own."""
    chromium, chromedriver = require_browser()
    options = Options()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"):
        options.add_argument(argument)
    options.add_argument("--disable-background-networking")
    options.add_argument("--disable-component-update")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(chromedriver))
    try:
        browser = Browser(driver)
        browser.size(width, height)
        yield browser
    finally:
        driver.quit()
