// Opens the reports that are named, and looks at them as a reader does. See scripts/try-report.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const require = createRequire(import.meta.url);
const puppeteer = require("puppeteer-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
let failures = 0;
const check = (what, holds, more = "") => {
  console.log(`${holds ? "ok  " : "FAIL"} ${what}${holds ? "" : ` ${more}`}`);
  if (!holds) failures++;
};

const browser = await puppeteer.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
for (const file of process.argv.slice(2)) {
  for (const [scheme, width] of [["light", 1200], ["dark", 1200], ["light", 400], ["dark", 400]]) {
    const name = `${file.replace(/.*\//, "").replace(".html", "")}-${scheme}-${width}`;
    const page = await browser.newPage();
    const problems = [], requests = [];
    page.on("console", (message) => { if (message.type() === "error" || message.type() === "warn") problems.push(message.text()); });
    page.on("pageerror", (error) => problems.push(String(error)));
    page.on("request", (request) => requests.push(request.url()));
    await page.setBypassCSP(false);
    await page.setViewport({ width, height: 900 });
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
    const started = Date.now();
    await page.goto(pathToFileURL(resolve(file)).href, { waitUntil: "load" });
    console.log(`     ${name}: drawn in ${Date.now() - started} ms`);
    check(`${name}: no error in the console`, problems.length === 0, problems.join("; "));
    check(`${name}: nothing is fetched`, requests.length === 1, requests.join(" "));
    check(`${name}: nothing of the image runs`, await page.evaluate(() => window.hacked === undefined && document.querySelector("img, svg") === null));
    const seen = await page.evaluate(() => ({
      layers: document.querySelectorAll("#layers li").length,
      cells: document.querySelectorAll("#map .cell").length,
      rows: document.querySelectorAll("#changes tbody tr").length,
      overflow: document.documentElement.scrollWidth > document.documentElement.clientWidth,
    }));
    check(`${name}: layers, map and changes are drawn`, seen.layers === 3 && seen.cells > 5 && seen.rows === 100, JSON.stringify(seen));
    check(`${name}: the page is not wider than the screen`, !seen.overflow);
    // Each bar stands below the directory that it is in.
    const astray = () => page.evaluate(() => {
      const rows = [...document.querySelectorAll("#map .row")].map((row) => [...row.children].map((cell) => cell.getBoundingClientRect()));
      const within = (cell, above) => cell.left >= above.left - 1 && cell.right <= above.right + 1;
      return rows.slice(1).flatMap((row, index) => row.filter((cell) => !rows[index].some((above) => within(cell, above)))).length;
    });
    check(`${name}: bars stand below their directories`, await astray() === 0);
    check(`${name}: verdicts are words`, await page.$$eval("#verdicts li", (lines) => lines.length === 2 && lines.every((line) => /^.(good|worth a look|bad): ./.test(line.textContent))));
    const column = (number) => page.$$eval(`#changes tbody td:nth-child(${number})`, (cells) => cells.map((cell) => cell.textContent));
    await page.click("#changes th:nth-child(4) button");
    const sorted = await column(4);
    check(`${name}: a table sorts`, sorted.every((path, index) => index === 0 || sorted[index - 1] <= path));
    await page.type("#filter", "large.so");
    check(`${name}: the filter finds`, (await column(4)).join() === "/usr/lib/large.so", (await column(4)).join());
    await page.$eval("#filter", (field) => { field.value = ""; field.dispatchEvent(new Event("input")); });
    await page.select("#sign", "2");
    check(`${name}: deleted files are listed`, (await column(2)).every((sign) => sign === "- deleted"));
    await page.select("#sign", "");
    await page.click("#map button");
    check(`${name}: the map opens a directory`, (await page.$$("#map-path button")).length === 2);
    if (file.includes("two")) {
      const packages = await page.$eval("#packages", (place) => place.textContent);
      check(`${name}: packages are compared`, packages.includes("libc6") && packages.includes("2.37") && !packages.includes("bash"));
    }
    await page.evaluate(axe);
    const found = await page.evaluate(async () => (await window.axe.run()).violations.map((fault) => `${fault.id}: ${fault.nodes.map((node) => node.html.slice(0, 100)).slice(0, 3).join(" ")}`));
    check(`${name}: axe-core finds no violation`, found.length === 0, found.join("\n       "));
    await page.screenshot({ path: resolve(file, `../${name}.png`), fullPage: true });
    await page.close();
  }
}
await browser.close();
console.log(failures === 0 ? "all is well" : `${failures} failed`);
process.exit(failures === 0 ? 0 : 1);
