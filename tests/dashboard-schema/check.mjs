// Checks examples/grafana-dashboard.json against the types of @grafana/schema:
//
//     cd tests/dashboard-schema && npm ci && npm run check
//
// The dashboard is put as a literal into a TypeScript program, where the compiler refuses unknown fields and wrong
// values; each panel's options and field settings are checked against the types of its own kind of panel. Literals
// rather than a JSON import, because only literals are searched for fields that should not be there.

import fs from "node:fs";
import path from "node:path";
import ts from "typescript";

const here = import.meta.dirname;
const dashboard = JSON.parse(
  fs.readFileSync(path.join(here, "../../examples/grafana-dashboard.json"), "utf8"),
);

// Kind of panel → [folder, file] of its types, and whether they describe field settings of its own.
const KINDS = {
  stat: ["stat", "StatPanelCfg", false],
  timeseries: ["timeseries", "TimeSeriesPanelCfg", true],
  heatmap: ["heatmap", "HeatmapPanelCfg", true],
  table: ["table", "TablePanelCfg", true],
};

const literal = (value) => JSON.stringify(value, null, 1);
const lines = [
  'import type { Dashboard, FieldConfig, Panel, RowPanel } from "@grafana/schema";',
];
for (const [kind, [folder, file]] of Object.entries(KINDS)) {
  lines.push(
    `import type * as ${kind} from "./node_modules/@grafana/schema/dist/esm/raw/composable/${folder}/panelcfg/x/${file}_types.gen";`,
  );
}
// JSON has the values of enums, not their names.
lines.push(`
type Plain<T> =
  T extends string ? \`\${T}\` :
  T extends number ? (\`\${T}\` extends \`\${infer N extends number}\` ? N : number) :
  T extends boolean | null | undefined ? T :
  T extends (infer U)[] ? Plain<U>[] :
  T extends object ? { [K in keyof T]: Plain<T[K]> } :
  T;
`);

const { panels, ...rest } = dashboard;
lines.push(`export const dashboard: Plain<Omit<Dashboard, "panels">> = ${literal(rest)};`);
const unknown = [];
for (const panel of panels) {
  const id = panel.id;
  lines.push(`// panel: ${panel.title}`);
  if (panel.type === "row") {
    lines.push(`export const row${id}: Plain<RowPanel> = ${literal(panel)};`);
    continue;
  }
  const kind = KINDS[panel.type];
  if (!kind) {
    unknown.push(`${panel.title}: no types known for panels of type ${panel.type}`);
    continue;
  }
  const { options, fieldConfig, ...common } = panel;
  const { custom, ...defaults } = fieldConfig.defaults;
  lines.push(`export const panel${id}: Plain<Omit<Panel, "options" | "fieldConfig">> = ${literal(common)};`);
  lines.push(`export const options${id}: Plain<${panel.type}.Options> = ${literal(options)};`);
  lines.push(`export const defaults${id}: Plain<Omit<FieldConfig, "custom">> = ${literal(defaults)};`);
  if (kind[2]) {
    lines.push(`export const custom${id}: Plain<${panel.type}.FieldConfig> = ${literal(custom ?? {})};`);
  } else if (custom !== undefined) {
    unknown.push(`${panel.title}: panels of type ${panel.type} have no field settings of their own`);
  }
}

const file = path.join(here, "dashboard.check.ts");
const source = lines.join("\n");
const options = {
  strict: true,
  noEmit: true,
  skipLibCheck: true,
  target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.ESNext,
  moduleResolution: ts.ModuleResolutionKind.Bundler,
  types: [],
};
const host = ts.createCompilerHost(options);
const { getSourceFile, fileExists, readFile } = host;
host.getSourceFile = (name, ...others) =>
  name === file
    ? ts.createSourceFile(name, source, ts.ScriptTarget.ES2022)
    : getSourceFile.call(host, name, ...others);
host.fileExists = (name) => name === file || fileExists.call(host, name);
host.readFile = (name) => (name === file ? source : readFile.call(host, name));

const program = ts.createProgram([file], options, host);
const problems = ts.getPreEmitDiagnostics(program).map((diagnostic) => {
  const message = ts.flattenDiagnosticMessageText(diagnostic.messageText, "\n");
  if (!diagnostic.file || diagnostic.file.fileName !== file) return message;
  const { line } = diagnostic.file.getLineAndCharacterOfPosition(diagnostic.start);
  const before = source.split("\n").slice(0, line + 1);
  const panel = before.findLast((text) => text.startsWith("// panel: ")) ?? "the dashboard itself";
  return `${panel.replace("// ", "")}, at ${before.at(-1).trim()}\n  ${message}`;
});
for (const problem of [...unknown, ...problems]) console.error(problem);
const count = unknown.length + problems.length;
console.log(`${panels.length} panels checked, ${count} problems`);
process.exit(count === 0 ? 0 : 1);
