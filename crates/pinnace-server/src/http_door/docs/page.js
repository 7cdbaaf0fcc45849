// Renders the OpenAPI document that stands in the page. Text only ever becomes text, never markup.
"use strict";

const api = JSON.parse(document.getElementById("document").textContent);

/** An element with attributes and children; texts become text. */
function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  element.append(...children.flat(Infinity));
  return element;
}

/** A sentence whose `quoted` parts are code. */
function prose(text) {
  return text.split("`").map((part, index) => (index % 2 ? make("code", {}, part) : part));
}

function fill(id, text) {
  document.getElementById(id).append(...prose(text));
}

/** A schema in few words, with a link to the document it names. */
function told(schema) {
  if (!schema) return ["anything"];
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    return [make("a", { href: `#schema-${name}` }, name)];
  }
  const either = schema.anyOf || schema.oneOf;
  if (either) return either.flatMap((one, index) => (index ? [" or ", ...told(one)] : told(one)));
  if (schema.enum) return schema.enum.flatMap((word, index) => [index ? ", " : "", make("code", {}, String(word))]);
  if (schema.const !== undefined) return [make("code", {}, String(schema.const))];
  if (schema.type === "array") return ["list of ", ...told(schema.items)];
  if (schema.type === "object" && typeof schema.additionalProperties === "object") {
    return ["map of ", ...told(schema.additionalProperties)];
  }
  const kind = Array.isArray(schema.type) ? schema.type.join(" or ") : schema.type || "anything";
  const examples = (schema.examples || []).flatMap((one, index) => [index ? ", " : ", such as ", make("code", {}, String(one))]);
  return [kind, ...examples];
}

function parameters(list) {
  const rows = list.flatMap((parameter) => [
    make("dt", {}, make("code", {}, parameter.name), parameter.in === "query" ? "" : make("span", { class: "soft" }, ` ${parameter.in}`)),
    make("dd", {}, prose(parameter.description), make("div", { class: "soft" }, parameter.allowEmptyValue ? "given or not" : told(parameter.schema))),
  ]);
  return [make("h4", {}, "Parameters"), make("dl", {}, rows)];
}

function contents(content) {
  return Object.entries(content || {}).flatMap(([kind, body]) => [
    make("div", { class: "soft" }, make("code", {}, kind), " ", body["x-line"] ? ["each line ", told(body["x-line"])] : body.schema.$ref ? told(body.schema) : ""),
  ]);
}

function answers(responses) {
  const rows = Object.entries(responses).flatMap(([status, answer]) => [
    make("dt", { class: status < 400 ? "good" : "bad" }, make("strong", {}, status)),
    make("dd", {}, prose(answer.description), contents(answer.content),
      Object.entries(answer.headers || {}).map(([name, header]) => make("div", {}, make("code", {}, name), ": ", prose(header.description)))),
  ]);
  return [make("h4", {}, "Answers"), make("dl", {}, rows)];
}

function example(one) {
  // A page that was saved keeps the usual address.
  const curl = location.protocol === "file:" ? one.curl : one.curl.replace("http://127.0.0.1:7420", location.origin);
  const copy = make("button", { type: "button", "aria-label": `Copy: ${one.title}` }, "Copy");
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(curl);
    copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  });
  return make("div", { class: "example" },
    make("div", { class: "soft" }, `${one.title} → ${one.status}`),
    make("div", { class: "typed" }, make("pre", {}, curl), navigator.clipboard ? copy : ""));
}

function operation(path, method, described) {
  const name = method.toUpperCase();
  const article = make("article", { id: described.operationId, tabindex: "-1" },
    make("h3", {}, make("a", { href: `#${described.operationId}` },
      make("span", { class: `method ${method}` }, name), " ", make("code", {}, path))),
    make("p", {}, make("strong", {}, prose(described.summary))));
  if (described.description) article.append(make("p", {}, prose(described.description)));
  const own = (described.parameters || []).filter((parameter) => parameter.in !== "path");
  if (own.length) article.append(...parameters(own));
  if (described.requestBody) article.append(make("h4", {}, "Body"), ...contents(described.requestBody.content));
  article.append(...answers(described.responses));
  const shown = described["x-examples"] || [];
  if (shown.length) article.append(make("h4", {}, "Try"), ...shown.map(example));
  const link = make("li", {}, make("a", { href: `#${described.operationId}` },
    make("span", { class: `method ${method}` }, name), make("code", {}, path)));
  const words = `${name} ${path} ${described.summary} ${described.description || ""} ${own.map((one) => one.name).join(" ")}`;
  return { article, link, words: words.toLowerCase() };
}

function schema(name, described) {
  const required = new Set(described.required || []);
  const rows = Object.entries(described.properties || {}).flatMap(([key, value]) => [
    make("dt", {}, make("code", {}, key), required.has(key) ? "" : make("span", { class: "soft" }, " optional")),
    make("dd", {}, prose(value.description || ""), make("div", { class: "soft" }, told(value))),
  ]);
  const inside = rows.length ? make("dl", {}, rows) : make("p", { class: "soft" }, told(described));
  return make("details", { id: `schema-${name}` }, make("summary", {}, make("code", {}, name)),
    make("p", {}, prose(described.description || "")), inside);
}

const all = Object.entries(api.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, described]) => ({ path, method, described })));
all.sort((a, b) => a.described["x-place"] - b.described["x-place"]);
const shown = [];
const groups = [];
for (const tag of api.tags) {
  const section = make("section", { "aria-label": tag.name }, make("h2", {}, tag.name), make("p", { class: "soft" }, prose(tag.description)));
  const list = make("ul");
  for (const { path, method, described } of all) {
    if (!described.tags.includes(tag.name)) continue;
    const one = operation(path, method, described);
    section.append(one.article);
    list.append(one.link);
    shown.push(one);
  }
  const group = make("div", {}, make("h2", {}, tag.name), list);
  document.getElementById("operations").append(section);
  document.getElementById("lists").append(group);
  groups.push({ section, group });
}
fill("summary", api.info.summary);
fill("description", api.info.description);
document.getElementById("title").textContent = `${api.info.title} ${api.info.version}: the HTTP API`;
const schemas = document.getElementById("schemas");
for (const [name, described] of Object.entries(api.components.schemas)) schemas.append(schema(name, described));

const filter = document.getElementById("filter");
filter.addEventListener("input", () => {
  const wanted = filter.value.toLowerCase().trim();
  let any = false;
  if (wanted) document.getElementById("contents").open = true;
  for (const one of shown) {
    const fits = one.words.includes(wanted);
    one.article.hidden = one.link.hidden = !fits;
    any = any || fits;
  }
  for (const { section, group } of groups) {
    section.hidden = group.hidden = ![...section.querySelectorAll("article")].some((article) => !article.hidden);
  }
  schemas.hidden = wanted !== "";
  document.getElementById("none").hidden = any;
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && event.target !== filter) {
    event.preventDefault();
    filter.focus();
  }
});

// On a small screen the list would stand before everything else.
const narrow = matchMedia("(max-width: 52rem)");
function fold() {
  document.getElementById("contents").open = !narrow.matches;
}
narrow.addEventListener("change", fold);
fold();

/** Opens and shows what the address names: it was not there yet when the browser looked. */
function arrive() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  if (target.tagName === "DETAILS") target.open = true;
  target.scrollIntoView();
}
addEventListener("hashchange", arrive);
arrive();
