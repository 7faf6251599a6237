// The console in a real Chromium, on a real alert-bot: what it says to people who see, hear or type, in both
// themes and both widths, live, with and without scripts, and with nothing from elsewhere.
//
//   npm ci && node console.mjs [--screenshots DIR]
//
// ALERT_BOT     the binary (target/debug/alert-bot)
// SEED_JOURNAL  the example that writes a history (target/debug/examples/seed_journal)
// CHROMIUM      the browser (/usr/bin/chromium)
// CONSOLE_DOCKER_IMAGE  an image with /bin/sh: then approval and proof are shown on real containers

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import axe from "axe-core";
import { chromium } from "playwright-core";

const here = dirname(fileURLToPath(import.meta.url));
const root = resolve(here, "../../../..");
const target = join(process.env.CARGO_TARGET_DIR || join(root, "target"), "debug");
const binary = process.env.ALERT_BOT || join(target, "alert-bot");
const seeder = process.env.SEED_JOURNAL || join(target, "examples/seed_journal");
const image = process.env.CONSOLE_DOCKER_IMAGE || "";
const flag = process.argv.indexOf("--screenshots");
const pictures = flag > 0 ? resolve(process.argv[flag + 1]) : "";
const OPERATOR = "console-operator-token";
const WEBHOOK = "console-webhook-token";
const project = image ? `console${process.pid}` : "selfheal";
const dir = mkdtempSync(join(tmpdir(), "console-"));

const POLICY = `version: 1
mode: auto
limits: {actions: 12, window: 10m, concurrent: 2}
deny: [grafana]
defaults: {min_age: 0s, stable_for: 20s, within: 30m, every: 1s, max_age: 30s}
rules:
  - name: high-error-rate
    match: {alertname: HighErrorRate}
    target: {label: service, default: transaction-api}
    mode: approve
    steps: [{action: restart, stop_timeout: 1s}]
    verify: {sli: 'service:http_errors:ratio{service="{{service}}"}', below: 0.10, heartbeat: 'up{job="{{service}}"}'}
  - name: high-latency
    match: {alertname: HighLatency}
    target: {label: service}
    steps: [{action: restart, stop_timeout: 1s}, {action: restart, stop_timeout: 1s}]
    verify: {sli: 'service:http_latency_mean:seconds{service="{{service}}"}', below: 0.2, heartbeat: 'up{job="{{service}}"}'}
  - name: service-down
    match: {alertname: [ServiceDown, PostgresDown]}
    target: {label: service, default: postgres}
    steps: [{action: start}, {action: restart}]
    verify: {sli: 'container_up{service="{{service}}"}', above: 0.5}
  - name: container-unhealthy
    match: {alertname: ContainerUnhealthy}
    target: {label: service}
    steps: [{action: restart}]
    verify: {sli: 'container_health_status{service="{{service}}"}', above: 0.75}
  - name: watchdog
    match: {alertname: Watchdog}
    ignore: it fires always, to show that alerting works
  - name: machines
    match: {alertname: [MachineOverheating, MachineDown]}
    leave_to_people: a machine of the plant is in trouble, not a container; somebody must go there
  - name: model
    match: {alertname: [AccuracyLow, DistributionDrift]}
    leave_to_people: the service works, its model does not fit the data any more; that needs retraining
`;

// --- a bot -------------------------------------------------------------------------------------------------

const free = () =>
  new Promise((done) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
const until = async (what, check, limit = 30000) => {
  const end = Date.now() + limit;
  for (;;) {
    const found = await check().catch(() => undefined);
    if (found) return found;
    assert.ok(Date.now() < end, `not in time: ${what}; open: ${JSON.stringify((await api("/v1/incidents?state=open").catch(() => ({}))).incidents?.map((i) => [i.alertname, i.state, i.decision, i.waits_for]))}`);
    await new Promise((r) => setTimeout(r, 100));
  }
};

const port = await free();
const admin = await free();
const base = `http://localhost:${port}`;
const policy = join(dir, "policy.yaml");
const journal = join(dir, "journal.db");
writeFileSync(policy, POLICY);

let bot;
const start = async () => {
  bot = spawn(
    binary,
    [
      `--policy-file=${policy}`, `--journal-file=${journal}`, `--listen=127.0.0.1:${port}`, `--admin-addr=127.0.0.1:${admin}`,
      `--project=${project}`, `--docker-host=${image ? "unix:///var/run/docker.sock" : "tcp://127.0.0.1:9"}`,
      "--prometheus-url=http://127.0.0.1:9", "--alertmanager-url=http://127.0.0.1:9", "--shutdown-grace=2s",
      `--webhook-token=${WEBHOOK}`, `--operator-token=${OPERATOR}`,
    ],
    { stdio: "ignore", env: { ...process.env, DOCKER_HOST: undefined } },
  );
  await until("the bot listens", async () => (await fetch(`${base}/openapi.json`)).ok);
};
const stop = () =>
  new Promise((done) => {
    bot.once("exit", done);
    bot.kill("SIGTERM");
  });
const fire = async (...alerts) => {
  const body = JSON.stringify({
    version: "4",
    alerts: alerts.map(([alertname, labels, summary]) => ({
      status: "firing",
      labels: { alertname, ...labels },
      annotations: { summary },
      startsAt: new Date().toISOString(),
    })),
  });
  const answer = await fetch(`${base}/webhook`, { method: "POST", body, headers: { authorization: `Bearer ${WEBHOOK}` } });
  assert.equal(answer.status, 202);
};
const api = async (path) => (await fetch(base + path)).json();
const incident = async (alertname, service) =>
  (await api("/v1/incidents?state=open&limit=200")).incidents.find((i) => i.alertname === alertname && i.service === service);

// --- containers, where there are any -------------------------------------------------------------------------

const made = [];
const container = (service, ...labels) => {
  const all = [`com.docker.compose.project=${project}`, `selfheal.service=${service}`, ...labels].flatMap((l) => ["--label", l]);
  const name = `${project}-${service}-1`;
  execFileSync("docker", ["run", "-d", "--name", name, ...all, image, "/bin/sh", "-c",
    "echo 'listening on 0.0.0.0:8000'; echo 'ERROR connection pool is poisoned'; trap 'exit 0' TERM; while :; do sleep 0.2; done"]);
  made.push(name);
};

// --- checks --------------------------------------------------------------------------------------------------

const passed = [];
let failed = 0;
const step = async (name, work) => {
  try {
    await work();
  } catch (error) {
    error.message = `${name}: ${error.message}`;
    throw error;
  }
  passed.push(name);
  console.log(`ok   ${name}`);
};

// Everything that a page asks for, and everything it complains about.
const watch = (page) => {
  page.on("request", (r) => assert.ok(r.url().startsWith(base + "/"), `${r.url()} is from elsewhere`));
  page.on("console", (m) => {
    // The refusals that are provoked here, and the moments without a bot.
    if (m.type() === "error" && !/status of (401|403|409|422)|ERR_|net::/.test(m.text())) page.complaints.push(m.text());
  });
  page.on("pageerror", (e) => page.complaints.push(String(e)));
  page.complaints = [];
  return page;
};
const audit = async (page, name) => {
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  const grave = violations.filter((v) => ["serious", "critical"].includes(v.impact));
  const said = grave.map((v) => `${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 140)).join(" | ")}`);
  assert.deepEqual(said, [], name);
  return violations.length;
};
const log_in = async (page, next = "/") => {
  await page.goto(`${base}/login?next=${encodeURIComponent(next)}`);
  await page.getByLabel("Your name").fill("Mira Roth");
  await page.getByLabel("Operator token").fill(OPERATOR);
  await page.keyboard.press("Enter");
  await page.waitForURL(base + next);
};
// To an element by Tab alone, as somebody without a pointer gets there.
const tab_to = async (page, locator, most = 80) => {
  for (let n = 0; n < most; n += 1) {
    await page.keyboard.press("Tab");
    if (await locator.evaluate((el) => el === document.activeElement)) return;
  }
  assert.fail(`${locator} is not reached by Tab`);
};

let browser;
try {
  execFileSync(seeder, [journal, policy]);
  if (image) {
    container("postgres", "selfheal.enable=true");
    container("redis", "selfheal.enable=true");
    container("transaction-api", "selfheal.enable=true", "selfheal.depends-on=postgres,redis");
    container("inventory-api", "selfheal.enable=true", "selfheal.depends-on=postgres");
    container("lake", "selfheal.enable=true", "selfheal.protect=true");
  }
  await start();
  await fire(
    ["MachineOverheating", { severity: "warning", machine: "press-04" }, "press-04 runs at 94 °C."],
    ["DistributionDrift", { severity: "warning", service: "drift-inference" }, "Readings no longer look like those that the model learned from."],
    ["Unheard", { severity: "info", service: "billing" }, "Nobody has written a rule for this."],
  );
  if (image) {
    await fire(
      ["HighErrorRate", { severity: "critical", service: "transaction-api" }, "38 % of requests fail."],
      ["HighLatency", { severity: "warning", service: "inventory-api" }, "Requests take 0.9 s on average."],
      ["ContainerUnhealthy", { severity: "warning", service: "lake" }, "The health check fails."],
    );
    await until("a step waits for approval", async () => (await incident("HighErrorRate", "transaction-api"))?.decision === "awaiting_approval");
    await until("a repair is being proven", async () => (await incident("HighLatency", "inventory-api"))?.state === "verifying");
    await until("the proof was looked at", async () => (await incident("HighLatency", "inventory-api"))?.waits_for.startsWith("proof:"));
    await until("protection holds", async () => (await incident("ContainerUnhealthy", "lake"))?.decision === "protected");
  } else {
    await fire(["HighErrorRate", { severity: "critical", service: "transaction-api" }, "38 % of requests fail."]);
    await until("the way to Docker is missed", async () => (await incident("HighErrorRate", "transaction-api"))?.decision === "backend_unavailable");
  }
  await until("everything is decided on", async () => (await api("/v1/incidents?state=open")).incidents.every((i) => i.decision));

  browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: ["--headless", "--no-sandbox", "--disable-gpu"] });
  const healed = (await api("/v1/incidents?state=healed")).incidents[0];
  const findings = (await api("/v1/incidents?state=not_healed")).incidents[0];
  const waiting = await incident("HighErrorRate", "transaction-api");
  const pages = [
    ["incidents", "/"],
    ["incident-healed", `/incidents/${healed.id}`],
    ["incident-findings", `/incidents/${findings.id}`],
    ["incident-open", `/incidents/${waiting.id}`],
    ["targets", "/targets"],
    ["policy", "/policy"],
    ["decisions", "/decisions?alert=HighErrorRate"],
    ["audit", "/audit"],
    ["login", "/login"],
  ];

  for (const scheme of ["light", "dark"]) {
    for (const width of [1280, 360]) {
      const context = await browser.newContext({ colorScheme: scheme, viewport: { width, height: width === 360 ? 740 : 860 }, reducedMotion: "reduce" });
      const page = watch(await context.newPage());
      let first = true;
      for (const [name, path] of [...pages.slice(-1), ...pages.slice(0, -1)]) {
        await step(`${name}, ${scheme}, ${width}: axe, width, nothing from elsewhere`, async () => {
          await page.goto(base + path);
          if (name !== "login") await page.locator('#link[data-state="live"]').waitFor();
          assert.equal(await page.evaluate(() => matchMedia("(prefers-color-scheme: dark)").matches), scheme === "dark");
          const [scroll, seen] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
          assert.ok(scroll <= seen, `scrolls sideways: ${scroll} > ${seen}`);
          await audit(page, name);
          if (name === "incident-open") {
            // Open parts are pages of their own to whoever looks at them.
            await page.locator(".offers summary").first().click();
            await audit(page, `${name}, an order open`);
          }
          if (pictures) {
            mkdirSync(pictures, { recursive: true });
            await page.evaluate(() => scrollTo(0, 0));
            const file = join(pictures, `console-${name}-${scheme}-${width}.png`);
            await page.screenshot({ path: file, fullPage: width === 1280 && name !== "audit" && name !== "policy" });
          }
        });
        if (first) {
          await log_in(page);
          first = false;
        }
      }
      await step(`the switch, ${scheme}, ${width}`, async () => {
        await page.goto(base + "/");
        await page.locator(".switch > summary").click();
        await audit(page, "the switch");
        const { x, width: wide } = await page.locator(".switch .panel").boundingBox();
        assert.ok(x >= 0 && x + wide <= width, `the panel leaves the screen: ${x} to ${x + wide}`);
        const [scroll, seen] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
        assert.ok(scroll <= seen, `scrolls sideways: ${scroll} > ${seen}`);
        if (pictures) await page.screenshot({ path: join(pictures, `console-freeze-${scheme}-${width}.png`) });
      });
      assert.deepEqual(page.complaints, [], "the browser complains");
      await context.close();
    }
  }

  const context = await browser.newContext({ viewport: { width: 1280, height: 860 } });
  const page = watch(await context.newPage());

  await step("the first Tab shows the way past the header, and focus is visible", async () => {
    await page.goto(base + "/");
    await page.keyboard.press("Tab");
    const skip = page.locator(".skip");
    assert.ok(await skip.evaluate((el) => el === document.activeElement && el.getBoundingClientRect().top >= 0));
    await page.keyboard.press("Enter");
    assert.equal(await page.evaluate(() => document.activeElement.id), "main");
    await page.keyboard.press("Tab");
    const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    assert.notEqual(outline, "none");
  });

  await step("an incident appears by itself", async () => {
    await page.goto(base + "/");
    await page.locator('#link[data-state="live"]').waitFor();
    await page.evaluate(() => { globalThis.sameDocument = true; });
    const rows = await page.locator(".incident").count();
    await fire(["MachineDown", { severity: "critical", machine: "press-11" }, "press-11 has stopped."]);
    await page.locator(".incident", { hasText: "press-11 has stopped." }).waitFor();
    assert.equal(await page.locator(".incident").count(), rows + 1);
    assert.equal(await page.evaluate(() => globalThis.sameDocument), true, "the page was not loaded anew");
  });

  await step("what is open and focused stays so while the page changes", async () => {
    await page.keyboard.press("j");
    const focused = await page.evaluate(() => document.activeElement.id);
    assert.match(focused, /^a-/);
    await fire(["MachineDown", { severity: "critical", machine: "press-12" }, "press-12 has stopped."]);
    await page.locator(".incident", { hasText: "press-12 has stopped." }).waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.id), focused);
  });

  await step("a lost connection is shown and comes back with what was missed", async () => {
    await stop();
    await page.locator('#link[data-state="lost"]').waitFor();
    await start();
    await fire(["MachineDown", { severity: "critical", machine: "press-13" }, "press-13 has stopped."]);
    await page.locator('#link[data-state="live"]').waitFor();
    await page.locator(".incident", { hasText: "press-13 has stopped." }).waitFor();
    assert.equal(await page.evaluate(() => globalThis.sameDocument), true, "the page was not loaded anew");
  });

  await step("somebody without a pointer logs in", async () => {
    await page.goto(base + "/");
    await tab_to(page, page.getByRole("link", { name: "Log in", exact: true }).first());
    await page.keyboard.press("Enter");
    await tab_to(page, page.getByLabel("Your name"));
    await page.keyboard.type("Mira Roth");
    await page.keyboard.press("Tab");
    await page.keyboard.type("not the token");
    await page.keyboard.press("Enter");
    await page.getByRole("alert").waitFor();
    await tab_to(page, page.getByLabel("Operator token"));
    await page.keyboard.type(OPERATOR);
    await page.keyboard.press("Enter");
    await page.getByRole("button", { name: "Log out" }).waitFor();
  });

  await step("no script reads the session, and nothing is ordered without its token", async () => {
    assert.equal(await page.evaluate(() => document.cookie), "");
    const cookies = await context.cookies();
    const session = cookies.find((c) => c.name === "alert-bot-session");
    assert.ok(session.httpOnly && session.sameSite === "Strict");
    const answers = await page.evaluate(async (id) => {
      const send = async (url, init) => (await fetch(url, init)).status;
      const form = { "content-type": "application/x-www-form-urlencoded" };
      return [
        await send("/freeze", { method: "POST", headers: form, body: "frozen=true&why=x" }),
        await send(`/incidents/${id}/close`, { method: "POST", headers: form, body: "csrf=AAAA" }),
        await send("/v1/freeze", { method: "PUT", headers: { "content-type": "application/json" }, body: '{"frozen":true,"why":"x"}' }),
        await send(`/v1/incidents/${id}/close`, { method: "POST" }),
      ];
    }, waiting.id);
    assert.deepEqual(answers, [403, 403, 403, 403]);
    assert.equal((await api("/v1/freeze")).frozen, false);
  });

  await step("somebody without a pointer freezes everything and lifts it", async () => {
    await page.goto(base + "/targets");
    await tab_to(page, page.locator(".switch > summary"));
    await page.keyboard.press("Enter");
    await tab_to(page, page.getByLabel("Why"));
    await page.keyboard.type("a deploy is under way");
    await page.keyboard.press("Enter");
    await page.locator(".notice", { hasText: "Frozen by Mira Roth" }).waitFor();
    assert.equal(new URL(page.url()).pathname, "/targets");
    const frozen = await api("/v1/freeze");
    assert.deepEqual([frozen.frozen, frozen.by, frozen.why], [true, "Mira Roth", "a deploy is under way"]);
    // Whoever else looks is told without loading anything.
    const other = await browser.newContext();
    const second = watch(await other.newPage());
    await second.goto(base + "/audit");
    await second.locator(".notice", { hasText: "Frozen by Mira Roth" }).waitFor();
    await tab_to(page, page.locator(".switch > summary"));
    await page.keyboard.press("Enter");
    await tab_to(page, page.getByRole("button", { name: "Lift the freeze" }));
    await page.keyboard.press("Enter");
    await page.locator(".switch > summary", { hasText: "Healing on" }).waitFor();
    await second.locator(".switch > summary", { hasText: "Healing on" }).waitFor();
    await other.close();
    assert.equal((await api("/v1/freeze")).frozen, false);
  });

  if (image) {
    await step("somebody without a pointer approves a step, and it is carried out", async () => {
      await until("it waits for approval again", async () => (await incident("HighErrorRate", "transaction-api"))?.decision === "awaiting_approval");
      await page.goto(`${base}/incidents/${waiting.id}`);
      await tab_to(page, page.locator("#order-approve > summary"));
      await page.keyboard.press("Enter");
      await tab_to(page, page.locator("#order-approve").getByLabel("Note for the record"));
      await page.keyboard.type("seen the pool errors");
      await page.keyboard.press("Enter");
      await page.getByText("approve by Mira Roth: seen the pool errors").waitFor();
      await until("it was restarted", async () => (await api(`/v1/incidents/${waiting.id}`)).actions.some((a) => a.status === "done"));
      // The page that is open tells the rest by itself, with the container's last words.
      await page.getByText("ERROR connection pool is poisoned").first().waitFor();
      if (pictures) await page.screenshot({ path: join(pictures, "console-approved-light-1280.png"), fullPage: true });
    });

    await step("somebody without a pointer gives a target its budget back", async () => {
      const target = async () => (await api("/v1/targets")).targets.find((t) => t.service === "transaction-api");
      const before = await target();
      assert.ok(before.budget.left < before.budget.actions && !before.released_at, JSON.stringify(before));
      // While a repair of it is being proven, nothing is given back.
      const closed = await fetch(`${base}/v1/incidents/${waiting.id}/close`, { method: "POST", headers: { authorization: `Bearer ${OPERATOR}` } });
      assert.ok(closed.ok, await closed.text());
      await page.goto(base + "/targets");
      const card = page.locator(`#target-${before.name}`);
      await tab_to(page, card.locator("summary"));
      await page.keyboard.press("Enter");
      await audit(page, "targets, the order open");
      await tab_to(page, card.getByLabel("What you found"));
      await page.keyboard.type("the pool was resized");
      await page.keyboard.press("Enter");
      await card.getByText("closed: given back").waitFor();
      const { budget, released_at } = await target();
      assert.ok(released_at && (!budget || budget.left === budget.actions), JSON.stringify(budget));
      await page.goto(base + "/audit");
      await page.getByText("the pool was resized").first().waitFor();
    });
  } else {
    console.log("skip orders by keyboard: they need containers (CONSOLE_DOCKER_IMAGE)");
  }

  await step("somebody without a pointer takes an incident over and closes it", async () => {
    const machine = (await api("/v1/incidents?state=open")).incidents.find((i) => i.summary === "press-11 has stopped.");
    await page.goto(`${base}/incidents/${machine.id}`);
    for (const [order, said] of [["take-over", "Mira Roth has taken it over."], ["close", "A person closed it."]]) {
      await tab_to(page, page.locator(`#order-${order} > summary`));
      await page.keyboard.press("Enter");
      await tab_to(page, page.locator(`#order-${order} button`));
      await page.keyboard.press("Enter");
      await page.getByText(said).first().waitFor();
    }
    assert.equal((await api(`/v1/incidents/${machine.id}`)).outcome, "closed_by_operator");
  });

  await step("hostile labels are text in a browser too", async () => {
    const evil = "<img src=x onerror=\"globalThis.hit=1\"><script>globalThis.hit=1</script>";
    await fire([evil, { service: evil, severity: evil }, evil]);
    const found = await until("it is decided on", () => incident(evil, evil));
    for (const path of ["/", `/incidents/${found.id}`, `/decisions?alert=${encodeURIComponent(evil)}`, "/audit"]) {
      await page.goto(base + path);
      await page.locator("main :is(h1, h2, p, dd):visible", { hasText: "onerror=" }).first().waitFor();
      assert.equal(await page.evaluate(() => globalThis.hit), undefined, path);
    }
  });
  assert.deepEqual(page.complaints, [], "the browser complains");
  await context.close();

  await step("without scripts one logs in, freezes, simulates and lifts", async () => {
    const bare = await browser.newContext({ javaScriptEnabled: false });
    const plain = watch(await bare.newPage());
    await log_in(plain);
    await plain.locator(".switch > summary").click();
    await plain.getByLabel("Why").fill("without a script");
    await plain.getByRole("button", { name: "Freeze everything" }).click();
    await plain.locator(".notice", { hasText: "Frozen by Mira Roth" }).waitFor();
    await plain.goto(base + "/policy");
    await plain.getByRole("button", { name: "Simulate" }).click();
    await plain.getByRole("heading", { name: "Decisions" }).waitFor();
    await plain.locator(".switch > summary").click();
    await plain.getByRole("button", { name: "Lift the freeze" }).click();
    await plain.locator(".switch > summary", { hasText: "Healing on" }).waitFor();
    await plain.getByRole("button", { name: "Log out" }).click();
    await plain.getByRole("heading", { name: "Log in" }).waitFor();
    await bare.close();
  });
} catch (error) {
  failed = 1;
  console.error(error);
} finally {
  await browser?.close();
  if (bot && bot.exitCode === null) bot.kill("SIGKILL");
  for (const name of made) execFileSync("docker", ["rm", "-f", "-v", name], { stdio: "ignore" });
  rmSync(dir, { recursive: true, force: true });
}
console.log(`${passed.length} passed, ${failed} failed`);
process.exitCode = failed;
