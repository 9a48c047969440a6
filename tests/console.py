"""Opens a page in a real browser, as a person would, and looks at what its canvas shows. Standard library only: the browser is driven
through its own debugging pipe. The certificate is checked against the cloud's CA, and nothing is ignored.
usage: console.py URL CA SCREENSHOT     prints the state line, the colours and the size seen; fails with what was there instead"""
import json
import os
import subprocess
import sys
import tempfile
import time

PATIENCE = 60
# A screen full of text: 80 columns and 25 lines of some 25 pixels a letter.
FULL = 30_000
# What the page holds: its state line, the size of its canvas, a sum over the pixels and how many are not black.
LOOK = """(() => {
  const canvas = document.getElementById('screen'), { width, height } = canvas;
  const pixels = new Uint32Array(canvas.getContext('2d').getImageData(0, 0, width, height).data.buffer);
  let sum = 0, lit = 0;
  for (const pixel of pixels) { sum = (sum * 31 + pixel) >>> 0; if (pixel & 0xffffff) lit++; }
  return { state: document.getElementById('state').textContent, title: document.title, width, height, sum, lit };
})()"""


class Browser:
    """One page of a headless browser whose home is a directory that goes with it."""

    def __init__(self, home, ca):
        database = os.path.join(home, ".pki/nssdb")
        os.makedirs(database)
        subprocess.run(["certutil", "-d", "sql:" + database, "-N", "--empty-password"], check=True)
        subprocess.run(["certutil", "-d", "sql:" + database, "-A", "-n", "cloud", "-t", "C,,", "-i", ca], check=True)
        to_browser, self.to = os.pipe()
        self.from_, from_browser = os.pipe()

        def descriptors():  # the pipe is 3 and 4; whatever numbers ours have
            for source, wanted in ((os.dup(to_browser), 3), (os.dup(from_browser), 4)):
                os.dup2(source, wanted)

        # Tests run as root, where the browser's own sandbox does not work; the page is ours.
        command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--window-size=1000,760",
                   "--remote-debugging-pipe", "--user-data-dir=" + os.path.join(home, "profile"), "about:blank"]
        environment = {**os.environ, "HOME": home, "DBUS_SESSION_BUS_ADDRESS": "disabled:"}
        self.log = open(os.path.join(home, "log"), "w+")
        self.process = subprocess.Popen(command, env=environment, pass_fds=(3, 4), close_fds=True, preexec_fn=descriptors,
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        os.close(to_browser)
        os.close(from_browser)
        self.number, self.buffer, self.session = 0, b"", None
        page = next(t for t in self.ask("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self.session = self.ask("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]

    def ask(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.buffer:
                more = os.read(self.from_, 1 << 20)
                if not more:
                    self.log.seek(0)
                    sys.exit("the browser ended: " + self.log.read()[-2000:])
                self.buffer += more
            text, self.buffer = self.buffer.split(b"\0", 1)
            answer = json.loads(text)
            if answer.get("id") == self.number:
                if "error" in answer:
                    sys.exit(f"{method}: {answer['error']}")
                return answer["result"]

    def look(self):
        result = self.ask("Runtime.evaluate", expression=LOOK, returnByValue=True)
        return result["result"].get("value") or {"state": "no such page: " + str(result.get("exceptionDetails"))[:500]}

    def until(self, what, condition):
        deadline = time.monotonic() + PATIENCE
        while True:
            seen = self.look()
            if condition(seen):
                return seen
            if time.monotonic() > deadline or seen["state"] in ("closed", "failed"):
                sys.exit(f"{what}: {seen}")
            time.sleep(0.1)

    def type(self, text):
        for letter in text:
            shifted = letter in '|'
            key = {"key": letter, "text": letter}
            if letter == "\n":
                key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
            if shifted:
                self.ask("Input.dispatchKeyEvent", type="keyDown", key="Shift", code="ShiftLeft", modifiers=8)
            self.ask("Input.dispatchKeyEvent", type="keyDown", **key)
            self.ask("Input.dispatchKeyEvent", type="keyUp", **{k: v for k, v in key.items() if k != "text"})
            if shifted:
                self.ask("Input.dispatchKeyEvent", type="keyUp", key="Shift", code="ShiftLeft")

    def screenshot(self, path):
        import base64
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.ask("Page.captureScreenshot")["data"]))

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def main(url, ca, picture):
    with tempfile.TemporaryDirectory(prefix="console-", ignore_cleanup_errors=True) as home:
        browser = Browser(home, ca)
        try:
            failed = browser.ask("Page.navigate", url=url).get("errorText")
            if failed:
                sys.exit(f"the page did not load: {failed}")
            # A log-in prompt is some hundreds of pixels; a cursor alone is 16 or so.
            drawn = browser.until("the console stayed blank", lambda seen: seen["state"] == "connected" and seen["lit"] > 300)
            browser.type("debian\n")
            browser.until("typing changed nothing", lambda seen: seen["lit"] > drawn["lit"] + 300)
            # The password is not shown; what comes after it is.
            browser.type("gocubsgo\n")
            browser.type("seq 1000 | xargs\n")
            seen = browser.until("the guest did not do what was typed", lambda seen: seen["lit"] > FULL)
        finally:
            browser.screenshot(picture)
            browser.close()
    print(f"{seen['state']}: {seen['title']}, {seen['width']}x{seen['height']}, {seen['lit']} pixels lit")


main(*sys.argv[1:])
