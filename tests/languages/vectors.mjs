// Holds the golden vectors against the schemas of entries, with the regular expressions of another language.
//   balancer schema | node vectors.mjs heartbeat.json ...
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';

const schemas = JSON.parse(readFileSync(0, 'utf8'));
// All that the schema of an entry consists of; a keyword that is not known here is a mistake of this program.
const keywords = {
  type: (text) => typeof text === 'string',
  pattern: (text, pattern) => new RegExp(pattern, 'u').test(text),
  enum: (text, list) => list.includes(text),
  const: (text, only) => text === only,
  not: (text, rules) => !holds(rules, text),
  maxLength: (text, most) => [...text].length <= most,
};
const notes = ['description', 'default', 'examples', 'contentMediaType', 'contentSchema'];
const holds = (rules, text) =>
  Object.entries(rules).every(([name, rule]) => notes.includes(name) || keywords[name](text, rule));
const fits = (schema, fields) =>
  schema.anyOf?.some((one) => fits(one, fields)) ??
  (schema.required.every((name) => name in fields) &&
    Object.entries(fields).every(([name, text]) => holds(schema.properties[name] ?? { type: 'string' }, text)));

let count = 0;
for (const path of process.argv.slice(2)) {
  for (const { name, fields, reads, beyond_schema: beyond } of JSON.parse(readFileSync(path, 'utf8'))) {
    count += 1;
    if (fits(schemas[basename(path, '.json')], fields) !== (reads !== undefined || Boolean(beyond))) {
      console.error(`${path}: ${name}: the schema says otherwise`);
      process.exitCode = 1;
    }
  }
}
console.log(`${count} vectors`);
