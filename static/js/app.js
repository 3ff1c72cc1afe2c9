// What the pages do beyond HTML and htmx. Every page works without this file; it only makes them kinder.
//
// Rules: no eval, no inline style, no HTML from strings (text only, by textContent), nothing sent to other hosts.
// Times: <time datetime="…Z" data-format="full|date|time|relative"> is shown in the reader's zone; the title keeps UTC.
// Words: what is said here goes through t(); each has an entry in the section [script] of every locales/*.toml.
// Copy: <button data-copy="#id"> or data-copy-text="…".       Files: <input type="file" data-file-into="#textarea">.
// Links: <code data-from-here>/path</code> gets the address in front under which this browser reaches the console.
// Ticks: <input type="checkbox" data-check-all="name"> ticks every box of that name in its form.
// Swaps: [data-focus] in swapped content takes the focus if it was lost; [data-announce] is read out when it changes.

(() => {
  "use strict";

  const root = document.documentElement;
  root.dataset.js = ""; // lets the style sheet show what needs a script
  const $ = (selector, from = document) => from.querySelector(selector);
  const $$ = (selector, from = document) => Array.from(from.querySelectorAll(selector));

  // ---- the reader's language: the server sends what is said here, by its English; English itself needs nothing

  const words = (() => {
    try { return JSON.parse(document.body.dataset.words || "{}"); } catch { return {}; }
  })();
  const t = (text, value = "") => (words[text] || text).replace("{}", () => value);

  // ---- times

  const locale = (() => {
    // "en" alone would mean American dates: take the browser's region if it speaks the same language.
    const wanted = root.lang || navigator.language;
    const own = wanted.includes("-") ? wanted : navigator.languages.find((tag) => tag.startsWith(`${wanted}-`)) || wanted;
    try { return Intl.DateTimeFormat.supportedLocalesOf(own).length ? own : undefined; } catch { return undefined; }
  })();
  const zone = (() => {
    const wanted = root.dataset.timeZone || undefined;
    // A zone the browser does not know must not break the page: fall back to the browser's own.
    try { new Intl.DateTimeFormat("en", { timeZone: wanted }); return wanted; } catch { return undefined; }
  })();
  const date = { year: "numeric", month: "short", day: "numeric" };
  // 24 hours in every language: these times stand beside logs and cron lines.
  const clock = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  const formats = new Map(Object.entries({
    full: { ...date, ...clock },
    seconds: { ...date, ...clock, second: "2-digit" },
    date,
    time: { ...clock, second: "2-digit" },
  }).map(([name, options]) => [name, new Intl.DateTimeFormat(locale, { ...options, timeZone: zone })]));
  const utc = new Intl.DateTimeFormat(locale, { ...date, ...clock, second: "2-digit", timeZone: "UTC" });
  const ago = new Intl.RelativeTimeFormat(locale, { numeric: "auto" });
  const steps = [["day", 86400], ["hour", 3600], ["minute", 60]];

  function relative(when) {
    const seconds = (when - Date.now()) / 1000;
    // Beyond a month "5 weeks ago" says less than the date does.
    if (Math.abs(seconds) > 30 * 86400) return formats.get("date").format(when);
    for (const [unit, size] of steps) if (Math.abs(seconds) >= size) return ago.format(Math.round(seconds / size), unit);
    return ago.format(Math.round(seconds), "second");
  }

  function showTimes(from) {
    const times = $$("time[datetime]", from);
    if (from instanceof Element && from.matches("time[datetime]")) times.push(from);
    for (const time of times) {
      const when = new Date(time.dateTime);
      if (Number.isNaN(when.getTime())) continue; // leave what the server wrote
      const format = time.dataset.format || "full";
      time.textContent = format === "relative" ? relative(when) : (formats.get(format) || formats.get("full")).format(when);
      const other = format === "relative" ? `${formats.get("seconds").format(when)} · ` : "";
      time.title = `${other}${utc.format(when)} UTC`;
    }
  }
  setInterval(() => { if (!document.hidden) $$('time[data-format="relative"]').forEach(showTimes); }, 30_000);

  // ---- saying things: the toast region is a live region, the announcer is one that nobody sees

  // An icon of the sprite; its address, with the version in it, is taken from one the server wrote.
  function icon(name) {
    const sprite = ($("svg use")?.getAttribute("href") || "").split("#")[0];
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("class", "icon");
    svg.setAttribute("aria-hidden", "true");
    const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
    use.setAttribute("href", `${sprite}#${name}`);
    svg.append(use);
    return svg;
  }

  function toast(text, tone = "success") {
    const region = $("#toasts");
    if (!region) return;
    const box = document.createElement("div");
    box.className = `toast toast--${tone}`;
    const words = document.createElement("p");
    words.textContent = text;
    const close = document.createElement("button");
    close.type = "button";
    close.className = "btn btn--quiet btn--small";
    close.textContent = t("Close");
    close.addEventListener("click", () => box.remove());
    box.append(icon(tone), words, close);
    // The same failure, polled every second, must not fill the screen.
    for (const old of $$(".toast", region)) if ($("p", old).textContent === text) old.remove();
    region.append(box);
    // Bad news stays until it is closed.
    if (tone === "success") setTimeout(() => box.remove(), 6000);
  }

  let announced = "";
  function announce(from) {
    const text = $("[data-announce]", from)?.dataset.announce;
    const region = $("#announcer");
    if (!region || !text || text === announced) return;
    announced = text;
    region.textContent = text;
  }

  // A banner at the top of the page, for what stops the reader from working on.
  function banner(text, link) {
    let box = $("#connection-banner");
    if (!box) {
      const main = $("#main");
      if (!main) return;
      box = document.createElement("div");
      box.id = "connection-banner";
      box.className = "notice notice--danger";
      box.setAttribute("role", "alert");
      main.prepend(box);
    }
    const body = document.createElement("div");
    body.className = "notice__body";
    const words = document.createElement("p");
    words.textContent = `${text} `;
    if (link) {
      const a = document.createElement("a");
      a.href = link.href;
      a.textContent = link.text;
      words.append(a);
    }
    body.append(words);
    if (box.textContent.trim() !== body.textContent.trim()) box.replaceChildren(icon("danger"), body);
  }
  const clearBanner = () => $("#connection-banner")?.remove();

  // ---- copy

  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copy], [data-copy-text]");
    if (!button) return;
    const source = button.dataset.copy ? $(button.dataset.copy) : null;
    const text = button.dataset.copyText ?? source?.value ?? source?.textContent ?? "";
    try {
      await navigator.clipboard.writeText(text.trim());
      const label = $("[data-copy-label]", button) || button;
      const before = label.textContent;
      label.textContent = t("Copied");
      setTimeout(() => { label.textContent = before; }, 2000);
      toast(t("Copied to the clipboard."));
    } catch {
      // No permission, or plain HTTP: select the value so that Ctrl+C works.
      if (source?.select) source.select();
      else if (source) getSelection()?.selectAllChildren(source);
      toast(t("The browser did not allow copying. The value is selected: press Ctrl+C."), "danger");
    }
  });

  // ---- a file into a textarea (certificates): read here, sent as text with the form

  const fileBytesMax = 256 * 1024;
  document.addEventListener("change", async (event) => {
    const input = event.target;
    if (!(input instanceof HTMLInputElement) || !input.dataset.fileInto) return;
    const target = $(input.dataset.fileInto);
    const file = input.files?.[0];
    if (!target || !file) return;
    if (file.size > fileBytesMax) { toast(t("{} is too large: a certificate file is at most 256 KiB.", file.name), "danger"); return; }
    target.value = await file.text();
    target.dispatchEvent(new Event("input", { bubbles: true }));
  });

  // ---- menus (<details>): one open at a time; Escape and a click elsewhere close

  const menus = "details.menu[open], details.drawer[open]";
  const closeMenus = (except) => $$(menus).forEach((menu) => { if (menu !== except) menu.open = false; });
  document.addEventListener("click", (event) => closeMenus(event.target.closest?.("details.menu, details.drawer")));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      const open = $$(menus).at(-1);
      if (open) { open.open = false; $("summary", open)?.focus(); }
      return;
    }
    // "/" goes to the search field, as in most consoles, unless one is typing.
    const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      const field = $$("[data-search]").find((candidate) => candidate.offsetParent !== null);
      if (field) { event.preventDefault(); field.focus(); field.select(); }
    }
  });

  // ---- theme: show the choice at once; saving it is the form's business

  document.addEventListener("change", (event) => {
    const choice = event.target.closest?.("[data-theme-choice]");
    if (choice) root.dataset.theme = choice.value;
  });

  // ---- parts of a form that matter only for one choice: <… data-shown-when="name=value">

  function showParts() {
    for (const part of $$("[data-shown-when]")) {
      const [name, values] = part.dataset.shownWhen.split("=");
      const chosen = $$(`[name="${CSS.escape(name)}"]`).find((field) => field.type !== "radio" && field.type !== "checkbox" || field.checked);
      part.hidden = !values.split("|").includes(chosen?.value ?? "");
    }
  }
  document.addEventListener("change", showParts);

  // ---- a form is sent once: a second click would make a second key, or end the secret that the first answer shows

  const sentForms = new Set();
  document.addEventListener("submit", (event) => {
    const form = event.target;
    // What htmx sends has its default prevented already, and brings its own rule.
    if (event.defaultPrevented || form.method !== "post") return;
    if (sentForms.has(form)) { event.preventDefault(); return; }
    sentForms.add(form);
    // An answer that never came, or a download, leaves the page: it can be sent again.
    setTimeout(() => sentForms.delete(form), 15_000);
  });
  addEventListener("pageshow", () => sentForms.clear());

  // ---- one tick for all rows

  document.addEventListener("change", (event) => {
    const all = event.target.closest?.("[data-check-all]");
    if (all) $$(`[name="${CSS.escape(all.dataset.checkAll)}"]`, all.form).forEach((box) => { box.checked = all.checked; });
  });

  // ---- filters apply themselves through htmx; their button is for readers without it
  if (window.htmx) $$("[data-hide-with-htmx]").forEach((part) => { part.hidden = true; });

  // ---- htmx

  document.addEventListener("htmx:configRequest", (event) => {
    const token = $('meta[name="csrf-token"]')?.content;
    if (token && event.detail.verb !== "get") event.detail.headers["X-CSRF-Token"] = token;
  });

  let focusedId = "";
  let hadFocus = false;
  document.addEventListener("htmx:beforeSwap", (event) => {
    const active = document.activeElement;
    hadFocus = Boolean(active && active !== document.body && event.detail.target?.contains(active));
    focusedId = hadFocus ? active.id : "";
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    const target = event.detail.elt?.isConnected ? event.detail.elt : event.detail.target;
    showTimes(document);
    showParts();
    announce(document);
    if (!hadFocus || (document.activeElement && document.activeElement !== document.body)) return;
    // The focused element was swapped away: go to its successor, the first error, the marked place or the new content.
    const next = (focusedId && document.getElementById(focusedId)) || $('[aria-invalid="true"], [data-focus]', target || document);
    if (next) { next.focus(); return; }
    if (target instanceof HTMLElement) { target.tabIndex = -1; target.focus({ preventScroll: true }); }
  });

  document.addEventListener("htmx:afterRequest", (event) => { if (event.detail.successful) clearBanner(); });
  document.addEventListener("htmx:sendError", () => banner(t("The appliance does not answer. What you see may be old; this page tries again.")));
  document.addEventListener("htmx:timeout", () => banner(t("The appliance takes too long to answer. What you see may be old.")));
  document.addEventListener("htmx:responseError", (event) => {
    const { status } = event.detail.xhr;
    const here = location.pathname + location.search;
    if (status === 401) banner(t("Your session has ended."), { href: `/sign-in?next=${encodeURIComponent(here)}`, text: t("Sign in again.") });
    else if (status === 403) toast(t("You are not allowed to do that."), "danger");
    else if (status === 404) toast(t("That is not there any more. Reload the page."), "danger");
    else if (status === 429) toast(t("Too many requests. Wait a moment and try again."), "danger");
    else if (status >= 500) {
      const id = event.detail.xhr.getResponseHeader("X-Request-Id");
      banner(t("The appliance could not answer ({}). Reload the page to see what holds now.", id ? `${status}, ${id}` : String(status)));
    } else toast(t("That did not work. Reload the page and try again."), "danger");
  });

  // ---- links that the server cannot complete, because it does not know its own address: <… data-from-here>/path</…>
  for (const place of $$("[data-from-here]")) place.textContent = location.origin + place.textContent;

  // ---- start

  showTimes(document);
  showParts();
  // After a refused form the first field that needs correction has the focus.
  const wrong = $('#error-summary, [aria-invalid="true"]');
  if (wrong && !$("[autofocus]")) { if (wrong.id === "error-summary") wrong.tabIndex = -1; wrong.focus(); }
})();
