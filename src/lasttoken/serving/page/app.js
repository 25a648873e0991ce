// The page sends texts and files to this server's /classify and /explain; answers are inserted as text, never as HTML.
"use strict";

const ROWS_AT_A_TIME = 100;
const CHARACTERS_AT_A_TIME = 200000;
const SHOWN_LABELS = 10;
const ATTEMPTS = 6;

const $ = (id) => document.getElementById(id);
let info = null;
let stopping = false;

function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") node.className = value;
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
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
  for (let attempt = 1; ; attempt++) {
    let response;
    try {
      response = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) });
    } catch {
      throw new Error("The server does not answer. Is it still running?");
    }
    if (response.status === 429 && attempt < ATTEMPTS) {
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

// The models --------------------------------------------------------------------------------------------------

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
  const facts = info.models[model()];
  const labels = facts.labels.slice(0, 12).join(", ") + (facts.labels.length > 12 ? ", …" : "");
  const kind = facts.multi_label ? "any number of" : "one of";
  $("about").textContent = `Assigns ${kind} ${facts.labels.length} labels to a text: ${labels}. Backbone: ${facts.backbone}.`;
  const parts = [];
  if (facts.verdict.length) parts.push(element("p", { class: "verdict" }, facts.verdict[0]));
  for (const warning of facts.warnings) parts.push(element("p", { class: "note" }, warning));
  const rows = Object.entries(facts.metrics).map(([split, metrics]) => {
    const key = facts.multi_label ? "micro_f1" : "accuracy";
    const [low, high] = metrics[`${key}_ci95`] || [metrics[key], metrics[key]];
    const cell = `${percent(metrics[key])} (${percent(low)} to ${percent(high)})`;
    return element("tr", {}, element("th", { scope: "row" }, split), element("td", {}, cell), element("td", {}, metrics.n.toLocaleString("en")));
  });
  if (rows.length) {
    const heads = ["split", facts.multi_label ? "micro-F1, 95 % interval" : "accuracy, 95 % interval", "examples"];
    const head = element("tr", {}, ...heads.map((name) => element("th", { scope: "col" }, name)));
    parts.push(element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)));
  } else parts.push(element("p", {}, "This classifier's run has no metrics."));
  parts.push(element("p", { class: "soft" }, `Decision: ${facts.decision}. Texts are truncated to ${facts.max_length} tokens.`));
  parts.push(element("p", { class: "soft" }, "These metrics hold for texts like the training data, not for other kinds of text."));
  $("facts").replaceChildren(...parts);
}

// Texts -----------------------------------------------------------------------------------------------------------

async function classify(event) {
  event.preventDefault();
  const input = $("text").value;
  const texts = $("whole").checked ? [input] : input.split("\n").filter((line) => line.trim());
  if (!texts.some((text) => text.trim())) {
    $("answers").replaceChildren(element("p", {}, "Enter a text first."));
    $("text").focus();
    return;
  }
  complain("");
  const name = model();
  try {
    const { predictions } = await ask("classify", { texts, model: name });
    $("answers").replaceChildren(...predictions.map((prediction, index) => answer(texts[index], prediction, name)));
  } catch (error) {
    complain(error.message);
  }
}

function answer(text, prediction, name) {
  const quote = element("blockquote", {}, text);
  const labels = prediction.labels ? prediction.labels.join(", ") || "no label" : prediction.label || "abstains: no label is probable enough";
  const probs = Object.entries(prediction.probs).slice(0, SHOWN_LABELS);
  const bars = probs.flatMap(([label, p]) => [
    element("span", {}, label),
    element("meter", { min: 0, max: 1, value: p, "aria-label": `probability of ${label}` }),
    element("span", {}, percent(p)),
  ]);
  const notes = [prediction.truncated ? `truncated to ${prediction.n_tokens} tokens` : ""].filter(Boolean);
  const nHidden = Object.keys(prediction.probs).length - probs.length;
  if (nHidden > 0) notes.push(`${nHidden} less probable labels are not shown`);
  const explanation = element("p", { class: "soft", "aria-live": "polite" });
  const button = element("button", { type: "button", class: "plain" }, "Which words moved this decision?");
  button.addEventListener("click", () => explain(button, quote, explanation, text, name));
  return element(
    "article", { class: "answer" }, quote, element("p", {}, element("span", { class: "label" }, labels)),
    element("div", { class: "bars" }, ...bars), element("p", { class: "soft" }, notes.join("; ")), button, explanation,
  );
}

async function explain(button, quote, explanation, text, name) {
  button.disabled = true;
  try {
    const { label, words } = await ask("explain", { text, model: name });
    const largest = Math.max(...words.map(([, value]) => Math.abs(value)), 1e-9);
    quote.replaceChildren(...words.map(([word, value]) => {
      const share = Math.abs(value) / largest;
      if (share < 0.1) return word;
      const direction = value > 0 ? "for" : "against";
      const title = `${direction} ${label}: ${value.toFixed(2)}`;
      return element("mark", { class: share > 0.5 ? `${direction} strong` : direction, title }, word);
    }));
    const strongest = [...words].sort((a, b) => Math.abs(b[1]) - Math.abs(a[1])).slice(0, 3);
    const list = strongest.map(([word, value]) => `“${word.trim()}” ${value > 0 ? "for" : "against"}`).join(", ");
    explanation.textContent = `Underlined words raise the score of ${label}, dotted ones lower it; strongest: ${list}.`;
    button.hidden = true;
  } catch (error) {
    complain(error.message);
    button.disabled = false;
  }
}

// A file ----------------------------------------------------------------------------------------------------------

// Spreadsheets mark UTF-16 with a byte order mark; bytes that are invalid in the encoding are an error.
async function read(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const mark = bytes[0] * 256 + bytes[1];
  const encoding = mark === 0xfffe ? "utf-16le" : mark === 0xfeff ? "utf-16be" : "utf-8";
  try {
    return new TextDecoder(encoding, { fatal: true }).decode(bytes);
  } catch {
    throw new Error("The file is not in UTF-8. Save it as CSV UTF-8.");
  }
}

// A comma, or if the first line has none, the first of the other separators in it.
function separator(content) {
  const line = content.split(/[\r\n]/, 1)[0];
  return [",", ";", "\t", "|"].find((character) => line.includes(character)) || ",";
}

// The text columns: those of the training, else one with a common name, else the first.
function textColumns(header, trained) {
  const folded = (name) => name.trim().toLowerCase();
  const find = (name) => (header.includes(name) ? header.indexOf(name) : header.findIndex((other) => folded(other) === folded(name)));
  const columns = trained.map(find);
  if (columns.length && !columns.includes(-1)) return columns;
  const common = header.findIndex((name) => /^(text|message|body|content|sentence|comment|review)s?$/i.test(name.trim()));
  return [Math.max(0, common)];
}

function parse(content) {
  const rows = [], mark = separator(content);
  let row = [], cell = "", quoted = false;
  const endRow = () => { row.push(cell); if (row.length > 1 || row[0] !== "") rows.push(row); row = []; cell = ""; };
  for (let index = 0; index < content.length; index++) {
    const character = content[index];
    if (quoted) {
      if (character !== '"') cell += character;
      else if (content[index + 1] === '"') { cell += '"'; index++; }
      else quoted = false;
    } else if (character === '"' && cell === "") quoted = true;
    else if (character === mark) { row.push(cell); cell = ""; }
    else if (character === "\n" || character === "\r") {
      if (character === "\r" && content[index + 1] === "\n") index++;
      endRow();
    } else cell += character;
  }
  if (quoted) throw new Error("A quoted field is never closed.");
  if (cell !== "" || row.length) endRow();
  return rows;
}

// A spreadsheet runs a cell that begins with one of these characters as a formula; a quote in front makes it text.
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
    if (rows.length < 2) throw new Error("The file has no rows after its header.");
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

// Offers each column; if the classifier was trained on several, offers these together, joined by blank lines.
function offer() {
  if (!table) return;
  const columns = textColumns(table.header, info.models[model()].text_columns), name = (column) => table.header[column] || `column ${column + 1}`;
  const choices = table.header.map((_, column) => [column]);
  if (columns.length > 1) choices.unshift(columns);
  $("column").replaceChildren(...choices.map((choice) => element("option", { value: choice.join() }, choice.map(name).join(" + "))));
  $("column").value = columns.join();
}

const textOf = (row, columns) => columns.map((column) => row[column]).filter((part) => columns.length === 1 || part.trim()).join("\n\n");

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
  const added = ["predicted_label", "predicted_score", "truncated"].map((column) => {
    while (table.header.includes(column)) column += "_";
    return column;
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
      const { predictions } = await ask("classify", { texts: rows.map((row) => textOf(row, columns)), model: name, top_k: 1 });
      predictions.forEach((prediction, index) => {
        const label = prediction.labels ? prediction.labels.join("|") : prediction.label || "";
        lines.push([...rows[index], label, prediction.score.toFixed(6), String(prediction.truncated)].map(field).join(","));
      });
      start = end;
      const remaining = ((performance.now() - started) / start) * (table.rows.length - start) / 1000;
      $("progress").value = start / table.rows.length;
      $("state").textContent = `${start.toLocaleString("en")} of ${table.rows.length.toLocaleString("en")} rows, about ${Math.ceil(remaining)} s left.`;
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
