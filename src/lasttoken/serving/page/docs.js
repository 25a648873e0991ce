// Shows the routes of openapi.json with their examples; loads nothing from other hosts.
"use strict";

function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function schemaOf(schema, openapi) {
  const name = schema && schema.$ref && schema.$ref.split("/").pop();
  return name ? openapi.components.schemas[name] : schema;
}

function curl(path, method, example) {
  const url = location.origin + path;
  if (method === "get") return `curl ${url}`;
  return `curl ${url} -H 'content-type: application/json' -d '${JSON.stringify(example).replaceAll("'", "'\\''")}'`;
}

function route(path, method, facts, openapi) {
  const summary = element("summary", {}, element("code", {}, `${method.toUpperCase()} ${path}`), ` ${facts.summary || ""}`);
  const parts = [summary];
  const body = facts.requestBody && facts.requestBody.content["application/json"];
  const schema = body && schemaOf(body.schema, openapi);
  if (schema && schema.description) parts.push(element("p", {}, schema.description));
  const examples = (schema && schema.examples) || (method === "get" ? [null] : []);
  for (const example of examples) parts.push(element("pre", {}, curl(path, method, example)));
  if (schema && schema.properties) {
    const rows = Object.entries(schema.properties).map(([name, field]) =>
      element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, field.description || field.type || "")));
    parts.push(element("table", {}, element("tbody", {}, ...rows)));
  }
  return element("details", {}, ...parts);
}

async function load() {
  const main = document.getElementById("routes");
  const token = sessionStorage.getItem("token");
  const response = await fetch("openapi.json", { headers: token ? { authorization: `Bearer ${token}` } : {} });
  if (!response.ok) {
    main.replaceChildren(element("p", { class: "note", role: "alert" }, "This server needs its token: enter it on the main page first."));
    return;
  }
  const openapi = await response.json();
  main.replaceChildren(...Object.entries(openapi.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, facts]) => route(path, method, facts, openapi))));
}

load();
