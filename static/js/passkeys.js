// Passkeys: the one thing of the console that cannot be done without a script. Pages that offer them load this file, and
// every other way in works without it.
//
//   <form method="post" action="…" data-passkey="create|get" data-passkey-options="/path">
//     csrf, <input type="hidden" name="challenge">, <input type="hidden" name="credential">, whatever else the form has,
//     <button data-passkey-button hidden>…</button>        shown where the browser knows passkeys
//     <p data-passkey-missing hidden>…</p>                 shown where it does not
//     <p data-passkey-status role="status" aria-live="polite"></p>
//   </form>
//
// data-passkey-prefix="stepUp": the two hidden fields are stepUpChallenge and stepUpCredential, and the question is asked with
// nothing but the csrf field.
//
// On submit the server is asked for a question (POST to data-passkey-options with the form's fields, but for the two hidden
// ones; the answer is {"challenge": token, "options": …}), the browser answers it, and the form is sent with the answer in it.
// Words come from the form, in the reader's language, since this file has none: data-passkey-waiting (the device is asked),
// -cancelled (or timed out, or there is no such passkey: browsers do not say which), -known (this device has one already),
// -insecure (wrong address, or no https), -unsupported (by the device), -refused (by the server; its own sentence is shown
// where it gives one), -failed (anything else).
//
// No eval, no HTML from strings, nothing sent to other hosts. No conditional UI: a passkey is used when somebody asks for it.

(() => {
  "use strict";

  const isKnown = Boolean(window.PublicKeyCredential && navigator.credentials?.create && navigator.credentials?.get);
  const forms = "form[data-passkey]";

  // ---- base64url, for browsers that do not read and write the JSON of WebAuthn level 3 themselves

  const bytes = (text) => {
    const plain = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
    return Uint8Array.from(plain, (character) => character.charCodeAt(0)).buffer;
  };
  const text = (buffer) => {
    const plain = Array.from(new Uint8Array(buffer), (byte) => String.fromCharCode(byte)).join("");
    return btoa(plain).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  };
  const listed = (credentials) => (credentials || []).map((credential) => ({ ...credential, id: bytes(credential.id) }));

  function readOptions(kind, options) {
    if (kind === "create") {
      if (PublicKeyCredential.parseCreationOptionsFromJSON) return PublicKeyCredential.parseCreationOptionsFromJSON(options);
      return {
        ...options,
        challenge: bytes(options.challenge),
        user: { ...options.user, id: bytes(options.user.id) },
        excludeCredentials: listed(options.excludeCredentials),
      };
    }
    if (PublicKeyCredential.parseRequestOptionsFromJSON) return PublicKeyCredential.parseRequestOptionsFromJSON(options);
    return { ...options, challenge: bytes(options.challenge), allowCredentials: listed(options.allowCredentials) };
  }

  function written(credential) {
    // Some password managers hand out an object that has the method and throws in it.
    try { if (credential.toJSON) return JSON.stringify(credential.toJSON()); } catch { /* by hand, then */ }
    const { response } = credential;
    const parts = ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"];
    const sent = parts.filter((part) => response[part] instanceof ArrayBuffer).map((part) => [part, text(response[part])]);
    return JSON.stringify({
      id: credential.id,
      rawId: text(credential.rawId),
      type: credential.type,
      response: Object.fromEntries(sent),
      clientExtensionResults: {},
    });
  }

  // ---- the form

  const status = (form) => form.querySelector("[data-passkey-status]");

  function say(form, name, own = "") {
    const place = status(form);
    if (!place) return;
    const said = own || form.dataset[`passkey${name}`] || form.dataset.passkeyFailed || "";
    place.textContent = name ? said : "";
    place.classList.toggle("error", Boolean(name) && name !== "Waiting");
  }

  // Why the browser refused: names of the standard (WebAuthn, 5.1.3 and 5.1.4), never its messages, which are in its language.
  const reasons = {
    NotAllowedError: "Cancelled",
    AbortError: "Cancelled",
    InvalidStateError: "Known",
    SecurityError: "Insecure",
    NotSupportedError: "Unsupported",
    ConstraintError: "Unsupported",
  };

  class Refused extends Error {}

  // A form that carries another one has names of its own, and shows none of what it carries to whoever asks.
  const named = (form, name) => {
    const prefix = form.dataset.passkeyPrefix;
    return prefix ? prefix + name[0].toUpperCase() + name.slice(1) : name;
  };

  async function asked(form) {
    const whole = new FormData(form);
    const carries = Boolean(form.dataset.passkeyPrefix);
    const fields = carries ? new FormData() : whole;
    if (carries) fields.set("csrf", whole.get("csrf"));
    fields.delete("challenge");
    fields.delete("credential");
    const token = fields.get("csrf") || document.querySelector('meta[name="csrf-token"]')?.content || "";
    const answer = await fetch(form.dataset.passkeyOptions, {
      method: "POST",
      headers: { "X-CSRF-Token": token, Accept: "application/json" },
      body: new URLSearchParams(fields),
      credentials: "same-origin",
      redirect: "manual",
    });
    const isJson = (answer.headers.get("Content-Type") || "").includes("json");
    const body = isJson ? await answer.json() : {};
    if (!answer.ok || !body.options) throw new Refused(typeof body.message === "string" ? body.message : "");
    return body;
  }

  const busy = new WeakSet();
  const answered = new WeakSet();

  async function run(form, button) {
    busy.add(form);
    form.setAttribute("aria-busy", "true");
    say(form, "Waiting");
    try {
      const kind = form.dataset.passkey;
      const { challenge, options } = await asked(form);
      const publicKey = readOptions(kind, options);
      const credential = kind === "create"
        ? await navigator.credentials.create({ publicKey })
        : await navigator.credentials.get({ publicKey });
      form.elements.namedItem(named(form, "challenge")).value = challenge;
      form.elements.namedItem(named(form, "credential")).value = written(credential);
      say(form, "");
      answered.add(form);
      form.requestSubmit(button);
    } catch (error) {
      if (error instanceof Refused) say(form, "Refused", error.message);
      else say(form, reasons[error?.name] || "Failed");
    } finally {
      busy.delete(form);
      form.removeAttribute("aria-busy");
    }
  }

  // Before anybody else hears of it: a form without an answer in it is not sent.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!(form instanceof HTMLFormElement) || !form.matches(forms)) return;
    // With the answer in it, once: whoever goes back to the page is asked again.
    if (answered.delete(form)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (!isKnown) return;
    if (!busy.has(form)) run(form, event.submitter instanceof HTMLElement ? event.submitter : undefined);
  }, { capture: true });

  // ---- start, also for what htmx brings later

  function show(from) {
    for (const form of from.querySelectorAll(forms)) {
      form.querySelectorAll("[data-passkey-button]").forEach((button) => { button.hidden = !isKnown; });
      form.querySelectorAll("[data-passkey-missing]").forEach((part) => { part.hidden = isKnown; });
    }
  }
  show(document);
  document.addEventListener("htmx:afterSwap", () => show(document));
  // A page that comes back from the browser's memory holds an answer that was used.
  addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    for (const form of document.querySelectorAll(forms)) {
      for (const name of ["challenge", "credential"]) {
        const field = form.elements.namedItem(named(form, name));
        if (field) field.value = "";
      }
      say(form, "");
    }
  });
})();
