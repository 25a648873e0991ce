// The page: texts and files go to this server's /classify and /explain; what comes back is put in as text, never as HTML.
"use strict";

const ROWS_AT_A_TIME = 100;
const CHARACTERS_AT_A_TIME = 200000;
const SHOWN_LABELS = 10;
const TRIES = 6;

const $ = (id) => document.getElementById(id);
let info = null;
let stopping = false;

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") made.className = value;
    else if (key === "onclick") made.addEventListener("click", value);
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function complain(sentence) {
  $("problem").textContent = sentence;
  $("problem").hidden = !sentence;
}

function wait(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function ask(path, body) {
  const headers = body ? { "content-type": "application/json" } : {};
  const token = sessionStorage.getItem("token");
  if (token) headers.authorization = `Bearer ${token}`;
  for (let tried = 1; ; tried++) {
    let response;
    try {
      response = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) });
    } catch {
      throw new Error("The server does not answer. Is it still running?");
    }
    if (response.status === 429 && tried < TRIES) {
      await wait(1000 * Math.min(10, Number(response.headers.get("retry-after")) || 1));
      continue;
    }
    const content = await response.json().catch(() => ({}));
    if (response.status === 401) $("access").hidden = false;
    if (!response.ok) throw new Error(content.error || `The server answered ${response.status}.`);
    return content;
  }
}

const percent = (part) => `${(100 * part).toFixed(part > 0.9995 || part < 0.0005 ? 2 : 1)} %`;
const model = () => $("model").value;

// What is served --------------------------------------------------------------------------------------------------

async function load() {
  try {
    info = await ask("info");
  } catch (error) {
    $("about").textContent = "";
    complain(error.message);
    return;
  }
  complain("");
  $("access").hidden = true;
  const names = Object.keys(info.models);
  $("model").replaceChildren(...names.map((name) => element("option", { value: name }, name)));
  $("choose").hidden = names.length < 2;
  $("title").textContent = names.length === 1 ? names[0] : `${names.length} text classifiers`;
  describe();
}

function describe() {
  const found = info.models[model()];
  const labels = found.labels.slice(0, 12).join(", ") + (found.labels.length > 12 ? ", …" : "");
  const kind = found.multi_label ? "any number of" : "one of";
  $("about").textContent = `Gives a text ${kind} ${found.labels.length} labels: ${labels}. Backbone ${found.backbone}.`;
  const parts = [];
  if (found.verdict.length) parts.push(element("p", { class: "verdict" }, found.verdict[0]));
  for (const warning of found.warnings) parts.push(element("p", { class: "note" }, warning));
  const rows = Object.entries(found.metrics).map(([split, one]) => {
    const key = found.multi_label ? "micro_f1" : "accuracy";
    const [low, high] = one[`${key}_ci95`] || [one[key], one[key]];
    const cell = `${percent(one[key])} (${percent(low)} to ${percent(high)})`;
    return element("tr", {}, element("th", { scope: "row" }, split), element("td", {}, cell), element("td", {}, one.n.toLocaleString("en")));
  });
  if (rows.length) {
    const heads = ["split", found.multi_label ? "micro-F1, 95 % interval" : "accuracy, 95 % interval", "examples"];
    const head = element("tr", {}, ...heads.map((name) => element("th", { scope: "col" }, name)));
    parts.push(element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)));
  } else parts.push(element("p", {}, "No figures are known of this classifier."));
  parts.push(element("p", { class: "soft" }, `Decision: ${found.decision}. Texts are cut to ${found.max_length} tokens.`));
  parts.push(element("p", { class: "soft" }, "The figures are of texts like those it was trained on, and say nothing of others."));
  $("facts").replaceChildren(...parts);
}

// Texts -----------------------------------------------------------------------------------------------------------

async function classify(event) {
  event.preventDefault();
  const written = $("text").value;
  const texts = $("whole").checked ? [written] : written.split("\n").filter((line) => line.trim());
  if (!texts.some((text) => text.trim())) {
    $("answers").replaceChildren(element("p", {}, "There is no text yet."));
    $("text").focus();
    return;
  }
  complain("");
  const name = model();
  try {
    const found = await ask("classify", { texts, model: name });
    $("answers").replaceChildren(...found.predictions.map((one, at) => answer(texts[at], one, name)));
  } catch (error) {
    complain(error.message);
  }
}

function answer(text, found, name) {
  const quote = element("blockquote", {}, text);
  const labels = found.labels ? found.labels.join(", ") || "no label" : found.label || "not sure enough to answer";
  const probs = Object.entries(found.probs).slice(0, SHOWN_LABELS);
  const bars = probs.flatMap(([label, p]) => [
    element("span", {}, label),
    element("meter", { min: 0, max: 1, value: p, "aria-label": `probability of ${label}` }),
    element("span", {}, percent(p)),
  ]);
  const notes = [found.truncated ? `cut to ${found.n_tokens} tokens` : ""].filter(Boolean);
  const more = Object.keys(found.probs).length - probs.length;
  if (more > 0) notes.push(`${more} less likely labels are not shown`);
  const explained = element("p", { class: "soft", "aria-live": "polite" });
  const button = element("button", { type: "button", class: "plain" }, "Which words moved it?");
  button.addEventListener("click", () => show(button, quote, explained, text, name));
  return element(
    "article", { class: "answer" }, quote, element("p", {}, element("span", { class: "label" }, labels)),
    element("div", { class: "bars" }, ...bars), element("p", { class: "soft" }, notes.join("; ")), button, explained,
  );
}

async function show(button, quote, explained, text, name) {
  button.disabled = true;
  try {
    const found = await ask("explain", { text, model: name });
    const most = Math.max(...found.words.map(([, value]) => Math.abs(value)), 1e-9);
    quote.replaceChildren(...found.words.map(([word, value]) => {
      const share = Math.abs(value) / most;
      if (share < 0.1) return word;
      const spoke = value > 0 ? "for" : "against";
      const title = `${value > 0 ? "for" : "against"} ${found.label}: ${value.toFixed(2)}`;
      return element("mark", { class: share > 0.5 ? `${spoke} strong` : spoke, title }, word);
    }));
    const strongest = [...found.words].sort((a, b) => Math.abs(b[1]) - Math.abs(a[1])).slice(0, 3);
    const told = strongest.map(([word, value]) => `“${word.trim()}” ${value > 0 ? "for" : "against"}`).join(", ");
    explained.textContent = `Underlined words spoke for ${found.label}, dotted ones against it; strongest: ${told}.`;
    button.hidden = true;
  } catch (error) {
    complain(error.message);
    button.disabled = false;
  }
}

// A file ----------------------------------------------------------------------------------------------------------

// A byte order mark tells UTF-16, as spreadsheets write it; bytes that are not in the encoding are an error.
async function read(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const mark = bytes[0] * 256 + bytes[1];
  const encoding = mark === 0xfffe ? "utf-16le" : mark === 0xfeff ? "utf-16be" : "utf-8";
  try {
    return new TextDecoder(encoding, { fatal: true }).decode(bytes);
  } catch {
    throw new Error("The file is not UTF-8. Save it as CSV UTF-8.");
  }
}

// A comma, or another sign where the first line has no comma and that sign.
function separator(content) {
  const line = content.split(/[\r\n]/, 1)[0];
  return [",", ";", "\t", "|"].find((sign) => line.includes(sign)) || ",";
}

// The columns that are read as the text: those of the training, else one with a usual name, else the first.
function textColumns(header, trained) {
  const folded = (name) => name.trim().toLowerCase();
  const find = (name) => (header.includes(name) ? header.indexOf(name) : header.findIndex((one) => folded(one) === folded(name)));
  const found = trained.map(find);
  if (found.length && !found.includes(-1)) return found;
  const usual = header.findIndex((name) => /^(text|message|body|content|sentence|comment|review)s?$/i.test(name.trim()));
  return [Math.max(0, usual)];
}

function parse(content) {
  const rows = [], mark = separator(content);
  let row = [], cell = "", quoted = false;
  const endRow = () => { row.push(cell); if (row.length > 1 || row[0] !== "") rows.push(row); row = []; cell = ""; };
  for (let at = 0; at < content.length; at++) {
    const sign = content[at];
    if (quoted) {
      if (sign !== '"') cell += sign;
      else if (content[at + 1] === '"') { cell += '"'; at++; }
      else quoted = false;
    } else if (sign === '"' && cell === "") quoted = true;
    else if (sign === mark) { row.push(cell); cell = ""; }
    else if (sign === "\n" || sign === "\r") { if (sign === "\r" && content[at + 1] === "\n") at++; endRow(); }
    else cell += sign;
  }
  if (quoted) throw new Error("The file opens a quote that is never closed.");
  if (cell !== "" || row.length) endRow();
  return rows;
}

// A spreadsheet runs a cell that begins with one of these signs as a formula; a quote before it makes it text.
const asText = (cell) => (/^[=+\-@\t\r]/.test(cell) ? `'${cell}` : cell);
const inQuotes = (cell) => (/[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);
const field = (cell) => inQuotes(asText(cell));

let table = null;

async function take(file) {
  if (!file) return;
  complain("");
  $("download").hidden = true;
  $("state").textContent = "";
  try {
    const rows = parse(await read(file));
    if (rows.length < 2) throw new Error("The file has no rows below its header.");
    const wrong = rows.findIndex((row) => row.length !== rows[0].length);
    if (wrong > 0) throw new Error(`Row ${wrong} has ${rows[wrong].length} fields where ${rows[0].length} are expected.`);
    table = { name: file.name, header: rows[0], rows: rows.slice(1) };
  } catch (error) {
    table = null;
    $("job").hidden = true;
    complain(error.message);
    return;
  }
  offer();
  $("job").hidden = false;
  $("state").textContent = `${table.name}: ${table.rows.length.toLocaleString("en")} rows.`;
}

// Offers each column, and the training's columns together where it read several, which are joined by a blank line.
function offer() {
  if (!table) return;
  const columns = textColumns(table.header, info.models[model()].text_columns), name = (at) => table.header[at] || `column ${at + 1}`;
  const choices = table.header.map((_, at) => [at]);
  if (columns.length > 1) choices.unshift(columns);
  $("column").replaceChildren(...choices.map((one) => element("option", { value: one.join() }, one.map(name).join(" + "))));
  $("column").value = columns.join();
}

const textOf = (row, columns) => columns.map((at) => row[at]).filter((part) => columns.length === 1 || part.trim()).join("\n\n");

function chunk(start, columns) {
  let end = start, characters = 0;
  while (end < table.rows.length && end - start < Math.min(ROWS_AT_A_TIME, info.limits.texts)) {
    characters += textOf(table.rows[end], columns).length;
    if (end > start && characters > CHARACTERS_AT_A_TIME) break;
    end++;
  }
  return end;
}

async function run() {
  const columns = $("column").value.split(",").map(Number), name = model(), started = performance.now();
  const added = ["predicted_label", "predicted_score", "truncated"].map((one) => {
    while (table.header.includes(one)) one += "_";
    return one;
  });
  const lines = [[...table.header, ...added].map(field).join(",")];
  stopping = false;
  complain("");
  $("start").disabled = true;
  $("stop").hidden = false;
  $("progress").hidden = false;
  $("download").hidden = true;
  try {
    for (let start = 0; start < table.rows.length && !stopping;) {
      const end = chunk(start, columns), rows = table.rows.slice(start, end);
      const found = await ask("classify", { texts: rows.map((row) => textOf(row, columns)), model: name, top_k: 1 });
      found.predictions.forEach((one, at) => {
        const label = one.labels ? one.labels.join("|") : one.label || "";
        lines.push([...rows[at], label, one.score.toFixed(6), String(one.truncated)].map(field).join(","));
      });
      start = end;
      const left = ((performance.now() - started) / start) * (table.rows.length - start) / 1000;
      $("progress").value = start / table.rows.length;
      $("state").textContent = `${start.toLocaleString("en")} of ${table.rows.length.toLocaleString("en")} rows, about ${Math.ceil(left)} s left.`;
    }
    if (stopping) $("state").textContent = `Stopped after ${(lines.length - 1).toLocaleString("en")} rows.`;
    else $("state").textContent = `All ${table.rows.length.toLocaleString("en")} rows are classified.`;
    URL.revokeObjectURL($("download").href);
    $("download").href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
    $("download").download = table.name.replace(/\.csv$/i, "") + ".scored.csv";
    $("download").hidden = false;
    $("download").focus();
  } catch (error) {
    complain(error.message);
  } finally {
    $("start").disabled = false;
    $("stop").hidden = true;
    $("progress").hidden = true;
  }
}

// ------------------------------------------------------------------------------------------------------------------

$("texts").addEventListener("submit", classify);
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("texts").requestSubmit();
});
$("model").addEventListener("change", () => { describe(); offer(); });
$("access").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", $("token").value.trim());
  load();
});
$("file").addEventListener("change", () => take($("file").files[0]));
$("start").addEventListener("click", run);
$("stop").addEventListener("click", () => { stopping = true; });
for (const kind of ["dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files[0]);
  });
}
load();
